"""A crontab as schedules: what its lines mean, and what is said of those that mean nothing."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from gozo.client.crontab import Imported, read
from gozo.client.manifest import parse, write_commented
from gozo.errors import RequestError

TYPICAL = r"""
# A crontab of twelve typical lines.
MAILTO = ops@example.org
*/15 9-17 * * mon-fri   /usr/local/bin/poll --quick
0 2 1,15 * *            LANG=C /usr/bin/find /tmp -mtime +7 -delete
@daily                  backup full > /var/log/backup 2>&1
@reboot                 /usr/bin/start-it
  30 4 * jan,jul SUN    date +\%F
-5 * * * *              quiet
CRON_TZ=America/New_York
0 9-17/2 * * 1-5        mail -s "100\%" root%Hello,%you.
@hourly                 /opt/backup   # no comment: part of the command
"""


def imported(text: str, *, system: bool = False) -> Imported:
    """Read a crontab of Berlin."""
    return read(text, "tab", "cron", "Europe/Berlin", system=system)


def test_a_typical_one() -> None:
    """Times, zones, names and commands."""
    found = imported(TYPICAL)
    told = [
        (one.id, one.when, one.payload.decode(), one.spec and one.spec.zone)
        for _, one in found.jobs
    ]
    berlin, new_york = "Europe/Berlin", "America/New_York"
    given = "{ mail -s \"100%\" root\n} <<'END_OF_INPUT'\nHello,\nyou.\nEND_OF_INPUT\n"
    assert told == [
        ("poll", "*/15 9-17 * * mon-fri", "/usr/local/bin/poll --quick\n", berlin),
        ("find", "0 2 1,15 * *", "LANG=C /usr/bin/find /tmp -mtime +7 -delete\n", berlin),
        ("backup", "@daily", "backup full > /var/log/backup 2>&1\n", berlin),
        ("date", "30 4 * jan,jul SUN", "date +%F\n", berlin),
        ("quiet", "5 * * * *", "quiet\n", berlin),
        ("mail", "0 9-17/2 * * 1-5", given, new_york),
        ("backup-2", "@hourly", "/opt/backup   # no comment: part of the command\n", new_york),
    ]
    mailto, reboot = found.warnings
    assert mailto.startswith("tab:3: the variable MAILTO is not converted")
    assert reboot.startswith("tab:7: @reboot is not a time")


def test_it_is_a_file_to_apply() -> None:
    """Each table stands below the line that it comes from, and is read back as it is."""
    found = imported(TYPICAL)
    text = write_commented(found.jobs)
    assert parse(text, "f", "", lambda path: b"", managed_by="s").wanted == tuple(
        replace(one, managed_by="s") for _, one in found.jobs
    )
    assert "backup full > /var/log/backup 2>&1\n[schedules.backup]" in text


@pytest.mark.parametrize(
    ("line", "output"),
    [
        (r"* * * * * cat%one%two", "one\ntwo\n"),
        (r"* * * * * echo a; cat%b", "a\nb\n"),
        (r"* * * * * cat%", "\n"),
        (r"* * * * * cat%$HOME `date` \% END_OF_INPUT%END_OF_INPUT", None),
        (r"* * * * * echo 50\%; cat", "50%\n"),
        (r"* * * * * cat", ""),
    ],
)
def test_percent_signs(line: str, output: str | None) -> None:
    """What a shell makes of the payload is what cron makes of the line."""
    ((_, one),) = imported(line).jobs
    done = subprocess.run(["/bin/sh"], input=one.payload, capture_output=True, check=True)
    expected = "$HOME `date` % END_OF_INPUT\nEND_OF_INPUT\n" if output is None else output
    assert done.stdout.decode() == expected


def test_blanks_of_all_kinds() -> None:
    """Lines end as those of Windows do, and nowhere else; tabs are shown as blanks."""
    ((line, one),) = imported("# c\r\n0 2\t* * *\techo a\u2028b\x0cc \t\r\n").jobs
    assert (one.when, one.payload.decode()) == ("0 2 * * *", "echo a\u2028b\x0cc\n")
    assert write_commented([(line, one)]).startswith("# 0 2     * * *   echo a\\U00002028b")


def test_ids() -> None:
    """Of programs with the same name each but the first has a number; none comes twice."""
    lines = ["a", "a-2", "x/a", "B=1 /bin/a", "a-2", f"./{'l' * 99}.sh", "(", "/"]
    found = imported("".join(f"@daily {line}\n" for line in lines)).jobs
    ids = [one.id for _, one in found]
    assert ids == ["a", "a-2", "a-3", "a-4", "a-2-2", "l" * 64, "job", "job-2"]


def test_a_system_crontab() -> None:
    """The user is the end of the subject, since a worker runs as one user."""
    found = imported("17 * * * * root cd / && run-parts /etc/cron.hourly\n@daily www", system=True)
    ((_, one),) = found.jobs
    assert (one.subject, one.payload) == ("cron.root", b"cd / && run-parts /etc/cron.hourly\n")
    assert found.warnings == ["tab:2: it names no user, or no command: skipped"]
    (warning,) = imported("17 * * * *\troot\tcd /\n@daily rooted").warnings
    assert warning == "tab:1: its command is root: if that is a user, give --system"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("SHELL='/bin/bash'", "the variable SHELL is not converted"),
        ('"A B" = c', "the variable A B is not"),
        ("* * * * *", "does not have five fields"),
        ("* * * * ", "does not have five fields"),
        ("61 * * * * x", "invalid time '61 * * * *': minute '61' is not"),
        ("0 0 31 2 * x", "a day that does not exist"),
        ("@every 90s x", "@every is not a time"),
        ("@sometimes x", "@sometimes is not a time"),
        ("* * * * * %input", "no command, only input"),
    ],
)
def test_what_cannot_be_carried_over(line: str, said: str) -> None:
    """It is left out with a word, and the rest is carried over."""
    found = imported(f"{line}\n0 2 * * * fine")
    assert [one.id for _, one in found.jobs] == ["fine"]
    (warning,) = found.warnings
    assert warning.startswith("tab:1: ")
    assert said in warning


def test_an_unknown_zone() -> None:
    """What follows has no time, until there is a zone again."""
    found = imported("CRON_TZ=Mars/Phobos\n0 2 * * * lost\nCRON_TZ=UTC\n0 2 * * * fine")
    ((_, one),) = found.jobs
    assert (one.id, one.spec and one.spec.zone) == ("fine", "")
    assert [warning[:6] for warning in found.warnings] == ["tab:1:", "tab:2:"]
    assert found.warnings[0].startswith("tab:1: invalid CRON_TZ 'Mars/Phobos': expected ")
    with pytest.raises(RequestError):
        read("", "tab", "cron", "Mars/Phobos")
