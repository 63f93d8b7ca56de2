"""What the C library understands as `TZ`, and that it takes UTC for the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gozo.errors import SettingsError
from gozoctl.output import tz

FILES = ["Europe/Berlin", ":Europe/Berlin", "posix/Europe/Berlin", "UTC", "EST5EDT", "CET"]
RULES = [
    *("CET-1CEST,M3.5.0,M10.5.0/3", "UTC0", "foo1", "<+03>-3", "XYZ+5:30", ":CET-1CEST"),
    "EST5EDT4,J60,300/-2:30",
    "NZST-12:00:00NZDT-13:00:00,M10.1.0,M3.3.0",
    "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
]
FOLDER = Path("/usr/share/zoneinfo")
PATHS = [f"{FOLDER}/Europe/Berlin", f":{FOLDER}/Asia/Tokyo"]


@pytest.mark.parametrize("text", ["", ":", *FILES, *RULES, *PATHS])
def test_forms(text: str) -> None:
    """Names, rules and paths, as in tzset(3); nothing is UTC."""
    tz.check({"TZ": text})


@pytest.mark.parametrize(
    "text",
    [
        *("Mars/X", "Europe/berlin", "Europe", "garbage", "CE-1", "CET-25", ":garbage", "../x"),
        *("CET-1CEST,M13.5.0,M10.5.0", "CET-1CEST,M3.5.0", "CET-1 CEST", f"{FOLDER}/zone.tab"),
    ],
)
def test_others(text: str) -> None:
    """The variable's value is named, and what to set instead; the C library says UTC."""
    with pytest.raises(
        SettingsError, match=r"invalid TZ '.*': this machine knows no such .*; set it to"
    ):
        tz.check({"TZ": text})


def test_a_machine_without_files(tmp_path: Path) -> None:
    """Names are not known there, and rules are; another folder may be named."""
    tz.check({"TZ": "CET-1CEST"}, [str(tmp_path)])
    with pytest.raises(SettingsError, match="with tzdata installed"):
        tz.check({"TZ": "Europe/Berlin"}, [str(tmp_path)])
    (tmp_path / "Home").write_bytes(b"TZif2")
    tz.check({"TZ": "Home", "TZDIR": str(tmp_path)})
    tz.check({})


def test_the_library_agrees() -> None:
    """It takes UTC for what is refused, and its own offset for each of the others."""
    program = """
import os, time
for one in os.environ["ALL"].split(" "):
    os.environ["TZ"] = one
    time.tzset()
    print(time.timezone)
"""
    rules = [one for one in RULES if one != "UTC0"]
    refused = ["Mars/X", "Europe/berlin", "garbage"]
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "ALL": " ".join([*rules, *refused])},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    offsets = [int(line) for line in done.stdout.split()]
    assert all(offsets[: len(rules)])
    assert not any(offsets[len(rules) :])
