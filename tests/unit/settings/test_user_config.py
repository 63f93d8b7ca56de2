"""The user's defaults: where they are, how they are read, and how they are changed."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

import pytest

from gozo.errors import SettingsError
from gozo.settings import user_config as userconfig
from gozo.settings.resolve import resolve_connection
from gozo.settings.sources import Sources


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Name a file that is not there yet, nor its directory."""
    path = userconfig.path({"XDG_CONFIG_HOME": str(tmp_path / "config")})
    assert path is not None
    return path


class TestPlace:
    """Where the file is."""

    def test_the_directory_of_the_users_settings(self) -> None:
        """As the XDG Base Directory Specification says; a relative directory does not count."""
        default = Path("/home/ada/.config/gozo/config.toml")
        assert userconfig.path({"HOME": "/home/ada"}) == default
        assert userconfig.path({"HOME": "/home/ada", "XDG_CONFIG_HOME": "some"}) == default
        assert userconfig.path({"XDG_CONFIG_HOME": "/c"}) == Path("/c/gozo/config.toml")
        assert userconfig.path({}) is None

    def test_it_goes_between_the_two_files_of_variables(self, tmp_path: Path, file: Path) -> None:
        """`./gozo.env` before it, `/etc/gozo.env` after it; empty texts do not count."""
        local, system = tmp_path / "gozo.env", tmp_path / "etc.env"
        system.write_text("GOZO_BUCKET=system\nGOZO_REQUEST_SUBJECT=system\nNATS_URL=system")
        local.write_text("NATS_URL=local\n")
        file.parent.mkdir(parents=True)
        file.write_text('address = "own"\nbucket = "own"\nrequest-subject = ""\noutput = "json"\n')
        environment = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
        found = resolve_connection(Sources.load({}, environment, local=local, system=system))
        assert found.addresses == ("nats://local:4222",)
        assert (found.bucket, found.request_subject) == ("own", "system")

    def test_a_bad_value_is_told_with_the_file(self, tmp_path: Path, file: Path) -> None:
        """By the key that stands there."""
        file.parent.mkdir(parents=True)
        file.write_text('bucket = "a.b"\n')
        with pytest.raises(SettingsError, match=rf"^invalid bucket in {file} 'a\.b': expected "):
            resolve_connection(Sources.load({}, {"XDG_CONFIG_HOME": str(tmp_path / "config")}))


class TestReading:
    """What a file says."""

    def test_nothing_where_there_is_none(self, file: Path) -> None:
        """A missing file is no error."""
        assert userconfig.read(file) == {}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b'bucket = "a', r"is not TOML \(at .*\): fix"),
            (b"bucket = a secret", r"is not TOML \(at line 1, column \d+\): fix"),
            (
                b"bucket = 5",
                r"invalid bucket in .* \(not shown\): expected a string in quotation marks",
            ),
            (b'[bucket]\nname = "x"', "invalid bucket in .*: expected a string"),
            (b'buket = "a"', "has the unknown key 'buket': remove it; known keys are address,"),
            (b'bucket = "\xff"', "is not UTF-8"),
        ],
    )
    def test_what_cannot_be_read_is_told(self, content: bytes, message: str, file: Path) -> None:
        """One sentence, with the file and the place, and not what stands there."""
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        with pytest.raises(SettingsError, match=message) as caught:
            userconfig.read(file)
        assert str(file) in str(caught.value)
        assert "secret" not in str(caught.value)


class TestChanging:
    """What is set and unset."""

    def test_each_key_is_set_and_unset_again(self, file: Path) -> None:
        """What was set is read; the rest stays."""
        texts = {
            "address": "nats://a,tls://b",
            "context": 'a "quoted" name',
            "bucket": "b",
            "request-subject": "s.t",
            "output": "json",
        }
        assert texts.keys() == userconfig.OPTIONS.keys()
        for key, text in texts.items():
            userconfig.change(file, key, text)
        assert userconfig.read(file) == texts
        for key in list(texts):
            userconfig.change(file, key, None)
            del texts[key]
            assert userconfig.read(file) == texts

    def test_only_the_owner_may_read_it(self, file: Path) -> None:
        """Also where it was open to others before; and nothing else is left beside it."""
        file.parent.mkdir(parents=True)
        file.touch(mode=0o644)
        before = os.umask(0)
        try:
            userconfig.change(file, "address", "nats://u:p@h")
        finally:
            os.umask(before)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert list(file.parent.iterdir()) == [file]

    def test_a_reader_sees_the_old_or_the_new(self, file: Path) -> None:
        """The file is replaced, not written into: who has it open keeps what was there."""
        userconfig.change(file, "bucket", "old")
        with file.open("rb") as reader:
            userconfig.change(file, "bucket", "new")
            assert tomllib.load(reader) == {"bucket": "old"}
        assert userconfig.read(file) == {"bucket": "new"}

    def test_a_link_stays_one(self, file: Path, tmp_path: Path) -> None:
        """As those have it who keep their settings elsewhere."""
        elsewhere = tmp_path / "dotfiles.toml"
        elsewhere.touch()
        file.parent.mkdir(parents=True)
        file.symlink_to(elsewhere)
        userconfig.change(file, "bucket", "b")
        assert file.is_symlink()
        assert userconfig.read(elsewhere) == {"bucket": "b"}

    @pytest.mark.parametrize(
        ("key", "text", "message"),
        [
            ("buket", "b", "unknown default 'buket': give address, context, request-"),
            (
                "bucket",
                "a.b",
                r"invalid bucket 'a\.b': expected ASCII letters, digits, - and _ only",
            ),
            ("output", "xml", "invalid output 'xml': expected table, json, jsonl, tsv or id"),
            ("context", "../x", r"invalid context '\.\./x': expected a name without"),
        ],
    )
    def test_what_cannot_be_used_changes_nothing(
        self, key: str, text: str, message: str, file: Path
    ) -> None:
        """An error, and the file is as it was."""
        userconfig.change(file, "bucket", "b")
        with pytest.raises(SettingsError, match=f"^{message}"):
            userconfig.change(file, key, text)
        assert userconfig.read(file) == {"bucket": "b"}

    def test_a_key_that_is_not_known_can_be_removed(self, file: Path) -> None:
        """So the file can be mended with gozo's own means."""
        file.parent.mkdir(parents=True)
        file.write_text('buket = "b"\n')
        userconfig.change(file, "buket", None)
        assert userconfig.read(file) == {}

    def test_a_malformed_file_is_not_overwritten(self, file: Path) -> None:
        """What somebody wrote by hand is not lost."""
        file.parent.mkdir(parents=True)
        file.write_text("bucket = ")
        with pytest.raises(SettingsError, match="is not TOML"):
            userconfig.change(file, "bucket", "b")
        assert file.read_text() == "bucket = "

    def test_what_cannot_be_written_is_told(self, tmp_path: Path) -> None:
        """With the reason of the operating system."""
        (tmp_path / "gozo").touch()
        with pytest.raises(SettingsError, match=r"config\.toml cannot be changed \(.*\): check"):
            userconfig.change(tmp_path / "gozo" / "config.toml", "bucket", "b")
