"""`gozoctl export`, `apply` and `diff`: a file is the truth, and can be restored from."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.gozoctl import Gozoctl
from tests.support.patience import until
from tests.support.processes import Servers

FILE = """\
# Kept in a repository.
[schedules.nightly-backup]
subject = "jobs.backup"
when = "+10h"
payload = "full"
headers = ["Content-Type: text/plain"]

[schedules."a.b"]
subject = "jobs.other"
when = "2099-12-24T18:00:00+01:00"
payload-file = "raw"
"""


@pytest.fixture
def ctl(servers: Servers, tmp_path: Path) -> Gozoctl:
    """Gozoctl on a server where no daemon runs, and a file of schedules."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "raw").write_bytes(bytes(range(256)))
    (tmp_path / "jobs" / "nightly.toml").write_text(FILE)
    return Gozoctl(tmp_path, servers.start().url)


def test_apply(ctl: Gozoctl) -> None:
    """It says what it does, does it once, and never writes to the file."""
    done = ctl.ok("apply", "jobs/nightly.toml", "--dry-run")
    assert done.rows[1:] == [["create", "nightly-backup", ""], ["create", "a.b", ""]]
    assert "nothing was changed; it would be: 2 created" in done.err
    assert ctl.ok("list", "-o", "id").out == ""
    done = ctl.ok("apply", "jobs/nightly.toml")
    assert done.rows == [
        ["ACTION", "ID", "KEYS"],
        ["create", "nightly-backup", ""],
        ["create", "a.b", ""],
    ]
    assert done.err.startswith("2 created\nno daemon is delivering: ")
    before = ctl.ok("list", "-o", "json").json
    done = ctl.ok("apply", "jobs/nightly.toml", "-o", "json")
    assert [one["action"] for one in done.json] == ["leave", "leave"]
    assert ctl.ok("list", "-o", "json").json == before
    assert ctl.shell("gozoctl inspect a.b --payload | cmp - jobs/raw").code == 0
    assert (ctl.home / "jobs" / "nightly.toml").read_text() == FILE


def test_prune(ctl: Gozoctl) -> None:
    """What is in no file any more is removed with --prune only; what others made stays."""
    ctl.ok("create", "mine", "jobs.backup", "--in", "1h")
    ctl.ok("apply", "jobs/nightly.toml")
    (ctl.home / "other.toml").write_text('[schedules.other]\nsubject = "x"\nwhen = "+1h"')
    ctl.ok("apply", "other.toml", "--prune")
    (ctl.home / "jobs" / "nightly.toml").write_text("")
    assert ctl.ok("apply", "jobs/nightly.toml").err == "no schedules\n"
    assert len(ctl.ok("list", "-o", "id").out.split()) == 4
    done = ctl.ok("apply", "jobs/nightly.toml", "--prune")
    assert done.rows[1:] == [["remove", "a.b", ""], ["remove", "nightly-backup", ""]]
    assert sorted(ctl.ok("list", "-o", "id").out.split()) == ["mine", "other"]


@pytest.mark.parametrize(
    "command",
    [
        "apply /dev/zero",
        "apply - </dev/zero",
        "diff /dev/zero",
        "import-crontab /dev/zero",
        "create big jobs --in 1h --file /dev/zero",
        "create big jobs - --in 1h </dev/zero",
        "cancel - </dev/zero",
    ],
)
def test_a_file_without_an_end(command: str, ctl: Gozoctl) -> None:
    """No more than 64 MiB of it are read, and that is said: with little memory it is exit 2."""
    done = ctl.shell(f"ulimit -v 1500000; exec gozoctl {command}")
    assert done.code == 2
    assert "is larger than 64 MiB" in done.err


@pytest.mark.parametrize("command", ["apply", "diff"])
def test_a_key_of_very_many_parts(command: str, ctl: Gozoctl) -> None:
    """40 KB of text do not take a gigabyte: with little memory it is exit 2, and said."""
    (ctl.home / "long.toml").write_text(f"# Nothing.\na{'.a' * 20_000} = 1\n")
    done = ctl.shell(f"ulimit -v 1000000; exec gozoctl {command} long.toml")
    assert done.code == 2
    assert "long.toml: line 2: a key has more than 16 parts" in done.err


def test_nothing_is_done_where_anything_is_wrong(ctl: Gozoctl) -> None:
    """In whichever file: each mistake with file, table and key, on a line; exit 2."""
    (ctl.home / "bad.toml").write_text(
        '[schedules.x]\nsubject = "a..b"\nwhen = "+1h"\n'
        '[schedules.y]\nsubject = "s"\nwhen = "soon"\n'
        '[schedules.z.1]\nsubject = "s"\nwhen = "+1h"\n'
        '[schedules."a.b"]\nsubject = "s"\nwhen = "+1h"\n'
        '[schedules." b"]\nsubject = "s"\nwhen = "+1h"\n'
        '[schedules.c]\nsubject = ""\nwhen = "+1h"\n'
        '[schedules.d]\nsubject = "s"\nwhen = "+1h"\npayload-file = "large"\n'
    )
    (ctl.home / "large").write_bytes(bytes(1024 * 1024 + 1))
    done = ctl.run("apply", "jobs/nightly.toml", "bad.toml", "missing.toml")
    assert done.code == 2
    assert "bad.toml: [schedules.x]: subject: " in done.err
    assert "bad.toml: [schedules.y]: invalid when 'soon': " in done.err
    assert '"z.1"' in done.err
    assert "[schedules.\" b\"]: the id ' b' begins or ends with white space" in done.err
    assert "[schedules.c]: subject: " in done.err
    assert "[schedules.d]: invalid payload-file 'large': it cannot be read (larger" in done.err
    assert "cannot read missing.toml (No such" in done.err
    (ctl.home / "bad.toml").write_text('[schedules."a.b"]\nsubject = "s"\nwhen = "+1h"\n')
    done = ctl.run("apply", "jobs/nightly.toml", "bad.toml")
    assert done.code == 2
    assert 'bad.toml: [schedules."a.b"]: the id is also in jobs/nightly.toml' in done.err
    assert ctl.run("apply", "--set", " ", "jobs/nightly.toml").code == 2
    assert ctl.ok("list", "-o", "id").out == ""


def test_export_of_nothing(ctl: Gozoctl) -> None:
    """A set that is misspelt gives an empty file, and a sentence."""
    for given, words in (
        ((), "no schedules"),
        (("--set", "nope"), "no matching schedules"),
    ):
        done = ctl.ok("export", *given)
        assert "[schedules." not in done.out
        assert words in done.err


def test_export_and_restore(ctl: Gozoctl, servers: Servers) -> None:
    """What is exported differs in nothing, and is the same in an empty bucket."""
    ctl.ok("apply", "jobs/nightly.toml")
    ctl.ok("create", "evil\x1b[2J \u202e 'ü' \"=", "jobs.x", "\x9b1m", "--in", "1h", "-H", "A: b")
    ctl.ok("create", "later", "other", "--at", "2099-01-01T00:00:00Z", "-y", "--confirm")
    ctl.ok("create", "often", "other", "--cron", "0 2 * * 1-5", "--tz", "Asia/Tokyo")
    ctl.ok("pause", "often", "--note", "till it is mended")
    text = ctl.ok("export").out
    assert "\x1b" not in text
    (ctl.home / "all.toml").write_text(text)
    assert tomllib.loads(text)["schedules"]["a.b"]["set"] == "nightly"
    assert "set" not in tomllib.loads(text)["schedules"]["later"]
    shown = ctl.run("diff", "all.toml")
    assert shown.code == 1  # what belongs to no set is adopted
    assert [line for line in shown.out.splitlines() if line[0] == "+"] == (
        ["+++ all.toml", '+set = "all"'] * 3
    )
    assert ctl.ok("apply", "all.toml").err == "3 adopted, 2 unchanged\n"
    assert ctl.ok("diff", "all.toml").out == ""
    text = ctl.ok("export").out
    (ctl.home / "all.toml").write_text(text)
    other = Gozoctl(ctl.home, servers.start().url)
    assert other.ok("apply", "all.toml").err.startswith("5 created\n")

    def told(one: Gozoctl) -> list[dict[str, object]]:
        found = one.ok("list", "-o", "json").json
        same = ("id", "subject", "due", "size", "headers", "state", "reason", "time_zone")
        return [{key: schedule.get(key) for key in same} for schedule in found]

    assert told(other) == told(ctl)
    assert other.ok("diff", "all.toml").out == ""
    some = tomllib.loads(ctl.ok("export", "--subject", "jobs.*").out)["schedules"]
    assert len(some) == 3
    assert tomllib.loads(ctl.ok("export", "--set", "nightly").out)["set"] == "nightly"
    assert ctl.shell("gozoctl export | gozoctl diff -").out == ""
    assert ctl.shell("gozoctl export | gozoctl apply - --prune").err == "5 unchanged\n"
    only = ctl.shell("gozoctl export --set nightly | gozoctl diff -")
    assert (only.code, only.out) == (0, "")
    foreign = ctl.shell("gozoctl export --set nightly | gozoctl diff - --set all")
    assert (foreign.code, foreign.out) == (2, "")
    assert "belongs to the set 'nightly', not to 'all'" in foreign.err


def test_diff(ctl: Gozoctl) -> None:
    """What `apply` would change, as diff(1) shows it; exit 1 if there is anything."""
    ctl.ok("apply", "jobs/nightly.toml")
    assert ctl.ok("diff", "jobs/nightly.toml").out == ""
    changed = FILE.replace('"full"', '"all"').replace("a.b", "new")
    (ctl.home / "jobs" / "nightly.toml").write_text(changed)
    done = ctl.run("diff", "jobs/nightly.toml")
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[:2] == ["--- gozo", "+++ jobs/nightly.toml"]
    assert '-payload = "full"' in lines
    assert '+payload = "all"' in lines
    assert "+[schedules.new]" in lines
    assert not any("+10h" in line and line[0] in "+-" for line in lines)
    assert '-[schedules."a.b"]' not in lines
    assert '-[schedules."a.b"]' in ctl.run("diff", "--prune", "jobs/nightly.toml").out.splitlines()


@pytest.mark.parametrize("server", [True, False])
def test_diff_is_wrong(server: bool, ctl: Gozoctl) -> None:
    """What goes wrong is never taken for a difference: 2 and more, for a file or a server."""
    url = {} if server else {"NATS_ADDRESS": "nats://127.0.0.1:1"}
    (ctl.home / "bad.toml").write_text("[schedules.x]\n")
    for file in ("bad.toml", "missing.toml"):
        assert ctl.run("diff", file, variables=url).code == (2 if server else 5)
    if server:
        ctl.ok("apply", "jobs/nightly.toml")
        assert ctl.run("diff", "jobs/nightly.toml", "--set", "other").code == 2
        full = ctl.shell("gozoctl diff jobs/nightly.toml --prune --set new >/dev/full")
        assert full.code == 2


PAST = '[schedules.{id}]\nsubject = "jobs"\nwhen = "2020-01-01T00:00:00Z"\n'


def test_what_has_passed(ctl: Gozoctl) -> None:
    """What is there is not sent at once unless that is meant; what is not there stays away."""
    ctl.ok("create", "moved", "jobs", "--in", "1h")
    ctl.ok("create", "other", "jobs", "--in", "1h")
    text = PAST.format(id="moved") + PAST.format(id="gone")
    text += '[schedules.other]\nsubject = "jobs"\nwhen = "+1h"\npayload = "new"\n'
    (ctl.home / "past.toml").write_text(text)
    before = ctl.ok("export").out
    for command in ("apply", "apply --dry-run"):
        refused = ctl.run(*command.split(), "past.toml")
        assert refused.code == 2, refused
        assert "'moved' would be sent at once, since the time has passed" in refused.err
        assert "--past-ok" in refused.err
        assert ctl.ok("export").out == before
    shown = ctl.run("diff", "past.toml")
    assert shown.code == 1
    assert "'moved' would be sent at once" in shown.err
    assert "[schedules.gone]" not in shown.out
    done = ctl.ok("apply", "past.toml", "--past-ok", "-o", "json").json
    assert [(one["id"], one["action"], one["at_once"]) for one in done] == [
        ("moved", "change", True),
        ("gone", "past", False),
        ("other", "change", False),
    ]
    due = datetime.fromisoformat(ctl.ok("inspect", "moved", "-o", "json").json["due"])
    assert due < datetime.now(UTC)
    # What is overdue already waits for a daemon, whatever else is changed.
    (ctl.home / "past.toml").write_text(text + 'headers = ["A: b"]\n')
    ctl.ok("apply", "past.toml")


async def test_what_has_passed_and_is_paused(ctl: Gozoctl) -> None:
    """As long as it is to rest it may have passed; to resume it is to send it at once."""
    ctl.ok("create", "a", "jobs", "--in", "1h")
    (ctl.home / "past.toml").write_text(PAST.format(id="a") + "paused = true\n")
    ctl.ok("apply", "past.toml")
    ctl.ok("diff", "past.toml")
    (ctl.home / "past.toml").write_text(PAST.format(id="a") + "paused = false\n")
    assert ctl.run("apply", "past.toml").code == 2
    ctl.ok("apply", "past.toml", "--past-ok")

    def is_overdue() -> bool:
        return bool(ctl.ok("inspect", "a", "-o", "json").json["state"] == "overdue")

    await until(is_overdue, "it waits for a daemon")


def test_of_another_set(ctl: Gozoctl) -> None:
    """It is not taken from it."""
    ctl.ok("apply", "jobs/nightly.toml")
    done = ctl.run("apply", "jobs/nightly.toml", "--set", "mine")
    assert done.code == 1
    assert "belongs to the set 'nightly'" in done.err


def test_import_crontab(ctl: Gozoctl) -> None:
    """From a crontab to schedules; what is not carried over is told, the rest is applied."""
    table = b"@reboot never\nCRON_TZ=Asia/Tokyo\n0 2 * * * backup\n"
    options = ("--subject", "jobs", "--host", "web1", "--user", "bob")
    done = ctl.run("import-crontab", "-", *options, stdin=table)
    assert done.code == 1
    assert done.err.startswith("gozoctl: crontab:1: @reboot")
    (ctl.home / "cron.toml").write_text(done.out)
    assert ctl.ok("apply", "cron.toml").rows[1:] == [["create", "web1.bob.backup", ""]]
    assert ctl.ok("diff", "cron.toml").out == ""
    found = ctl.ok("inspect", "web1.bob.backup", "-o", "json").json
    assert (found["when"], found["set"]) == ("0 2 * * *", "jobs.web1.bob")
    assert (found["subject"], found["misfire"]) == ("jobs.web1.bob.backup", "skip")
    assert found["due"].endswith("T17:00:00.000Z")
    (ctl.home / "tab").write_text("0 2 * * * x")
    assert 'time-zone = "Europe/Berlin"' in ctl.ok("import-crontab", "tab").out
    assert "time-zone" not in ctl.ok("import-crontab", "tab", "--time-zone", "UTC").out
    for wrong in (
        ("--time-zone", "Mars/Phobos"),
        ("--subject", "a b"),
        ("--host", "a b"),
        ("--shared", ".."),
        ("--user", "a/b"),
        ("--misfire", "never"),
        ("--host", "a", "--shared", "b"),
        ("--user", "a", "--system"),
    ):
        done = ctl.run("import-crontab", "tab", *wrong)
        assert (done.code, done.out) == (2, "")
        assert any(word in done.err for word in wrong)
    assert ctl.run("import-crontab", "missing").code == 2


def test_the_crontab_of_another(ctl: Gozoctl) -> None:
    """Where cron keeps crontabs, each has the name of its user, whoever imports it."""
    spool = ctl.home / "spool" / "cron" / "crontabs"
    spool.mkdir(parents=True)
    (spool / "alice.b").write_text("@daily x")
    out = ctl.ok("import-crontab", str(spool / "alice.b"), "--host", "web1").out
    assert 'set = "cron.web1.alice.b"' in out
    assert 'user = "alice.b"' in out


def test_files_of_windows(ctl: Gozoctl) -> None:
    """A mark of UTF-8 at the beginning is no part of a file, and lines may end with CR LF."""
    (ctl.home / "tab").write_bytes(b"\xef\xbb\xbf# All.\r\n0 2 * * *\tbackup\r\n")
    done = ctl.ok("import-crontab", "tab", "--host", "web1", "--user", "bob")
    assert done.err == ""
    assert 'command = "backup"\n' in done.out
    (ctl.home / "cron.toml").write_bytes(b"\xef\xbb\xbf" + done.out.replace("\n", "\r\n").encode())
    assert ctl.ok("apply", "cron.toml").rows[1:] == [["create", "web1.bob.backup", ""]]
