"""How this machine's time zone is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from gozo.errors import SettingsError
from gozoctl.options.time_zones import local_zone, offered


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Europe/Malta", "Europe/Malta"),
        (":Europe/Malta", "Europe/Malta"),
        ("/usr/share/zoneinfo/Europe/Malta", "Europe/Malta"),
        (":/usr/share/zoneinfo/posix/Europe/Malta", "Europe/Malta"),
        ("UTC", "UTC"),
        ("EST5EDT", "EST5EDT"),
        ("", "UTC"),
    ],
)
def test_the_variable_goes_first(tmp_path: Path, text: str, name: str) -> None:
    """`TZ` is a name or a path, with a colon or without one; empty it is UTC."""
    assert local_zone({"TZ": text}, tmp_path, tmp_path) == name


@pytest.mark.parametrize("text", ["CET-1CEST", "Europe/Valletta", "/etc/localtime", ":", "../x"])
def test_what_has_no_name(tmp_path: Path, text: str) -> None:
    """Rules without a name cannot be sent to a daemon: the error says what to do."""
    with pytest.raises(SettingsError, match="use --time-zone"):
        local_zone({"TZ": text}, tmp_path, tmp_path)


def test_the_link(tmp_path: Path) -> None:
    """The name is in the path that the machine's rules are linked from, over other links too."""
    link, other = tmp_path / "localtime", tmp_path / "other"
    link.symlink_to("other")
    other.symlink_to("../usr/share/zoneinfo/America/Argentina/Ushuaia")
    assert local_zone({}, link, tmp_path / "none") == "America/Argentina/Ushuaia"


def test_a_copy(tmp_path: Path) -> None:
    """Where the rules are a copy, the name may be in the file that Debian has for it."""
    copy, written = tmp_path / "localtime", tmp_path / "timezone"
    copy.write_bytes(b"TZif2")
    with pytest.raises(SettingsError, match="is not a link"):
        local_zone({}, copy, written)
    written.write_text("Europe/Malta\n")
    assert local_zone({}, copy, written) == "Europe/Malta"
    written.write_text("nonsense\n")
    with pytest.raises(SettingsError, match="is not a link"):
        local_zone({}, copy, written)


def test_nothing_is_set(tmp_path: Path) -> None:
    """A machine without any has UTC, whatever else lies around."""
    assert local_zone({}, tmp_path / "none", tmp_path / "none") == "UTC"


def test_links_in_a_circle(tmp_path: Path) -> None:
    """Links that lead nowhere have no name, and end."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.symlink_to(two)
    two.symlink_to(one)
    with pytest.raises(SettingsError, match="use --time-zone"):
        local_zone({}, one, tmp_path / "none")


def test_offered() -> None:
    """What TAB offers are names, in order."""
    assert offered("Europe/Ma") == ["Europe/Madrid", "Europe/Malta", "Europe/Mariehamn"]
    assert offered("nowhere") == []
