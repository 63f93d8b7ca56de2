"""Where locks are, so that all workers of a user on a host have the same ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gozo.errors import SettingsError
from gozoctl.worker import locks
from gozoctl.worker.locks import Locks, lock_folder, release


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is made for its user alone, and refused if others may write to it."""
    monkeypatch.setattr(locks, "ROOT_FOLDER", tmp_path / "locks")
    monkeypatch.setattr(locks, "OTHERS_FOLDER", str(tmp_path / "locks"))
    folder = lock_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert lock_folder() == folder
    folder.chmod(0o770)
    with pytest.raises(SettingsError, match="it is not a folder that only this user may write to"):
        lock_folder()
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(SettingsError, match="it is not a folder"):
        lock_folder()
    folder.unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(locks, "ROOT_FOLDER", tmp_path / "none" / "locks")
    monkeypatch.setattr(locks, "OTHERS_FOLDER", str(tmp_path / "none" / "locks"))
    with pytest.raises(SettingsError, match="No such file"):
        lock_folder()


def test_each_user_has_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another user's folder is not taken for one's own."""
    monkeypatch.setattr(locks, "OTHERS_FOLDER", str(tmp_path / "locks"))
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(SettingsError, match="remove it"):
        lock_folder()
    assert (tmp_path / f"locks-{owner + 1}").is_dir()


def test_what_is_locked(tmp_path: Path) -> None:
    """One id of one bucket behind one request subject."""
    taken = [
        Locks(tmp_path, subject, bucket).take(id_)
        for subject, bucket, id_ in (
            *(("gozo", "gozo", "a"), ("gozo", "gozo", "b"), ("gozo", "other", "a")),
            *(("other", "gozo", "a"), ("gozo", "gozo", "../a\\n/b")),
        )
    ]
    assert all(taken)
    assert Locks(tmp_path, "gozo", "gozo").take("a") is None
    for fd in taken:
        assert fd is not None
        release(fd)
