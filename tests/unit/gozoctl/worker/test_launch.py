"""How commands are started: their users, and what a worker refuses."""

from __future__ import annotations

import os
import pwd
from datetime import UTC, datetime

import pytest

from gozo.client.worker_tables import Job
from gozo.errors import SettingsError
from gozoctl.worker.children import Account
from gozoctl.worker.launch import MAILED, OUTPUT, start_of
from gozoctl.worker.run import Ended
from gozoctl.worker.tables import Tables
from tests.support.hosts import read, table


def test_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root runs commands as others; others only as themselves."""
    nobody = pwd.getpwnam("nobody")
    job = Job("a", "s", "id", user="nobody")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    start = start_of(job, b"", None, {})
    groups = tuple(os.getgrouplist("nobody", nobody.pw_gid))
    assert start.account == Account(nobody.pw_uid, nobody.pw_gid, groups)
    assert start.environment["HOME"] == start.directory == nobody.pw_dir
    monkeypatch.setattr(os, "getuid", lambda: nobody.pw_uid)
    assert start_of(job, b"", None, {}).account is None
    monkeypatch.setattr(os, "getuid", lambda: nobody.pw_uid + 1)
    with pytest.raises(SettingsError, match="only a worker of root can run commands as 'nobody'"):
        start_of(job, b"", None, {})


def test_what_a_worker_refuses() -> None:
    """Each table that it could not run is named; those of other hosts are not looked at."""
    text = table("a", "id", user="no-such") + table("b", "id", user="no-such", host="web2")
    with pytest.raises(SettingsError) as error:
        Tables([read(text)], "web1")
    words = "cron.toml: [schedules.a]: user: there is no user 'no-such' on this host"
    assert str(error.value) == words


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers run with ids that have no name."""
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    monkeypatch.setenv("HOME", "/srv")
    start = start_of(Job("a", "s", "id"), b"", None, {})
    assert start.environment["USER"] == "4000000000"
    assert start.directory == "/srv"


def test_the_shell_and_the_folder() -> None:
    """They follow the environment of the file, as in a crontab."""
    environment = {"SHELL": "/bin/bash", "HOME": "/srv"}
    start = start_of(Job("a", "s", "source x", environment=environment), b"p", None, {})
    assert tuple(start.command) == ("/bin/bash", "-c", "source x")
    assert start.directory == "/srv"
    assert start.payload is None
    start = start_of(Job("a", "s", ("x", "y"), directory="/", input=True), b"p", None, {})
    assert tuple(start.command) == ("x", "y")
    assert start.directory == "/"
    assert start.payload == b"p"


def test_how_much_output_is_kept() -> None:
    """Only what somebody gets."""
    assert start_of(Job("a", "s", "x"), b"", None, {}).keeps == OUTPUT
    assert start_of(Job("a", "s", "x", keep_output=False), b"", None, {}).keeps == 0
    mailed = Job("a", "s", "x", keep_output=False, mailto="a@b")
    assert start_of(mailed, b"", None, {}).keeps == MAILED


def test_the_output_of_an_outcome() -> None:
    """It is the end of what was kept, and fits into a message."""
    ended = Ended(0, "", datetime.now(UTC), 1.0, b"x" * OUTPUT + b"end")
    assert len(ended.last_output(1_000_000)) == OUTPUT
    assert ended.last_output(1_000_000).endswith(b"xend")
    assert ended.last_output(4) == b"xend"
    assert len(ended.last_output(-1)) == 1  # a server for tiny messages
