"""A crontab as schedules and commands: what its lines mean, and what is said of the others."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.client.crontab import Converted, Imported, Origin, is_user, read
from gozo.client.crontab_file import write
from gozo.client.manifest import Manifest, parse
from gozo.errors import RequestError
from gozo.schedule.model import Misfire

TYPICAL = r"""
# Lines as they are everywhere.
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

ALICE = Origin("tab", "web1", "alice", zone="Europe/Berlin", users={"root", "bob.b"})


def imported(text: str, origin: Origin = ALICE) -> Imported:
    """Read a crontab, and check that its file is read as it is meant."""
    found = read(text, origin)
    file = applied(found)
    assert file.managed_by == origin.set
    for one, wanted, job in zip(found.converted, file.wanted, file.jobs, strict=True):
        assert (wanted.confirm, wanted.attempts, wanted.overlap) == ("claim", 1, "skip")
        same = replace(one.wanted, managed_by=origin.set, confirm="claim", attempts=1)
        same = replace(same, overlap="skip", keep_output=wanted.keep_output)
        assert wanted == same
        assert job == replace(one.job, mailto=one.job.mailto or "")
    return found


def applied(found: Imported) -> Manifest:
    """Read the file that is made of a crontab."""
    return parse(write(found), "f", "other", lambda path: b"")


def one_of(text: str, origin: Origin = ALICE) -> Converted:
    """Read a crontab of one line."""
    found = imported(text, origin)
    assert found.warnings == []
    (one,) = found.converted
    return one


def test_a_typical_one() -> None:
    """Times, zones, names and commands."""
    found = imported(TYPICAL)
    told = [
        (one.wanted.id, one.wanted.when, one.job.command, one.wanted.spec and one.wanted.spec.zone)
        for one in found.converted
    ]
    berlin, new_york = "Europe/Berlin", "America/New_York"
    backup = "/opt/backup   # no comment: part of the command"
    assert told == [
        ("web1.alice.poll", "*/15 9-17 * * mon-fri", "/usr/local/bin/poll --quick", berlin),
        ("web1.alice.find", "0 2 1,15 * *", "LANG=C /usr/bin/find /tmp -mtime +7 -delete", berlin),
        ("web1.alice.backup", "@daily", "backup full > /var/log/backup 2>&1", berlin),
        ("web1.alice.date", "30 4 * jan,jul SUN", "date +%F", berlin),
        ("web1.alice.quiet", "5 * * * *", "quiet", berlin),
        ("web1.alice.mail", "0 9-17/2 * * 1-5", 'mail -s "100%" root', new_york),
        ("web1.alice.backup-2", "@hourly", backup, new_york),
    ]
    mail = found.converted[5]
    assert (mail.wanted.payload, mail.job.input) == (b"Hello,\nyou.\n", True)
    for one in found.converted:
        assert one.job.subject == one.wanted.subject == f"cron.{one.wanted.id}"
        assert (one.job.host, one.job.user) == ("web1", "alice")
        assert one.wanted.spec is not None
        assert one.wanted.spec.misfire is Misfire.SKIP
    assert found.origin.set == "cron.web1.alice"
    (reboot,) = found.warnings
    assert reboot.startswith("tab:6: @reboot is not a time")


def test_the_file_says_it_all() -> None:
    """Each table stands below its line, and what could not be converted is there as a comment."""
    text = write(imported(TYPICAL))
    assert 'backup full > /var/log/backup 2>&1\n[schedules."web1.alice.backup"]' in text
    assert "# Lines as they are everywhere.\n# */15 9-17" in text
    assert "/usr/bin/start-it\n# Not converted: @reboot is not a time" in text
    assert "command = 'mail -s \"100%\" root'" in text  # as the crontab has it


@pytest.mark.parametrize(
    ("line", "output"),
    [
        (r"* * * * * cat%one%two", "one\ntwo\n"),
        (r"* * * * * echo a; cat%b", "a\nb\n"),
        (r"* * * * * cat%", ""),
        (r"* * * * * cat%%", "\n"),
        (r"* * * * * cat%a%", "a\n"),
        (r"* * * * * cat%a%%", "a\n\n"),
        (r"* * * * * cat%$HOME `date` \% \\% \n \\", "$HOME `date` % \\% \\n \\\\\n"),
        (r"* * * * * echo 50\%; cat", "50%\n"),
        (r"* * * * * printf '\\%s' a", "\\a"),
        (r"* * * * * cat", ""),
    ],
)
def test_percent_signs(line: str, output: str) -> None:
    """What the command and its input do is what they do under cron: do_command.c."""
    one = one_of(line)
    assert isinstance(one.job.command, str)
    given = one.wanted.payload if one.job.input else b""
    done = subprocess.run(
        ["/bin/sh", "-c", one.job.command], input=given, capture_output=True, check=True
    )
    assert done.stdout.decode() == output


@given(st.text(r"\%ab '\"", min_size=1, max_size=12))
def test_percent_signs_of_all_kinds(text: str) -> None:
    """Nothing is lost or added: the loop of do_command.c, step by step."""
    text = f"x{text}".strip()
    command, rest = as_cron(text, "")
    payload, _ = as_cron(rest, "\n")
    payload += "\n" if payload and not payload.endswith("\n") else ""
    one = one_of(f"* * * * * {text}")
    assert (one.job.command, one.wanted.payload.decode()) == (command, payload)


def as_cron(text: str, line_end: str) -> tuple[str, str]:
    """Unescape a text; without a line end, stop at the first %."""
    made, escaped = "", False
    for position, char in enumerate(text):
        was_escaped = escaped
        if escaped:
            made += "" if char == "%" else "\\"
        elif char == "%" and not line_end:
            return made, text[position + 1 :]
        escaped = char == "\\"
        if not escaped:
            made += line_end if char == "%" and not was_escaped else char
    return made + ("\\" if escaped else ""), ""


def test_blanks_of_all_kinds() -> None:
    """Lines end as those of Windows do, and nowhere else; tabs are shown as blanks."""
    found = imported("# c\r\n0 2\t* * *\techo a\u2028b\x0cc \t\r\n")
    (one,) = found.converted
    assert (one.wanted.when, one.job.command) == ("0 2 * * *", "echo a\u2028b\x0cc")
    assert "# 0 2     * * *   echo a\\U00002028b" in write(found)


def test_ids() -> None:
    """Of programs with the same name each but the first has a number; none comes twice."""
    lines = ["a", "a-2", "x/a", "B=1 /bin/a", "a-2", f"./{'l' * 99}.sh", "(", "/"]
    found = imported("".join(f"@daily {line}\n" for line in lines)).converted
    ids = [one.wanted.id.removeprefix("web1.alice.") for one in found]
    assert ids == ["a", "a-2", "a-3", "a-4", "a-2-2", "l" * 64, "job", "job-2"]


def test_variables() -> None:
    """Each holds for the lines below it, until it is set again."""
    lines = ["MAILTO=a@x", "PATH = /bin ", "@daily a"]
    lines += ["SHELL='/bin/bash'", 'PATH="/usr/bin "', "MAILTO=", "@daily b"]
    first, second = imported("\n".join(lines)).converted
    assert (first.job.environment, first.job.mailto) == ({"PATH": "/bin"}, "a@x")
    assert second.job.environment == {"PATH": "/usr/bin ", "SHELL": "/bin/bash"}
    assert second.job.mailto == ""


def test_variables_for_all() -> None:
    """What holds for all lines stands once, at the top of the file."""
    found = imported("MAILTO=a@x\nHOME=/srv\n@daily a\n@daily b")
    assert write(found).count("HOME") == write(found).count("mailto =") == 1
    assert '[worker]\nenvironment = { HOME = "/srv" }\nmailto = "a@x"\n' in write(found)


def test_a_random_delay() -> None:
    """Minutes, as in cronie."""
    first, second = imported("@daily a\nRANDOM_DELAY=45\n@daily b").converted
    assert first.wanted.spec is not None
    assert first.wanted.spec.jitter_us == 0
    assert second.wanted.spec is not None
    assert second.wanted.spec.jitter_us == 45 * 60_000_000


@pytest.mark.parametrize("command", ["flock -n /l a", "A=1 B=2 /usr/bin/flock /l -c 'a b'"])
def test_flock(command: str) -> None:
    """A comment beside it says what is no longer needed, and the table as well."""
    text = write(imported(f"@daily {command}"))
    assert "# flock: overlap" in text
    assert 'overlap = "skip"' in text.splitlines()
    assert (
        "overlap =" not in write(imported("@daily flocks\n@daily echo flock a")).split("\n\n", 1)[1]
    )


def test_a_system_crontab() -> None:
    """The user of each line is a part of its id, with the file, and runs the command."""
    text = "17 * * * * root cd / && run-parts /etc/cron.hourly\n@daily www-data\n@daily a.b-c$ d"
    origin = replace(ALICE, user="", file="php.local")
    found = imported(text, origin)
    first, second = found.converted
    assert (first.wanted.id, first.job.user) == ("web1.root.php-local.cd", "root")
    assert first.job.command == "cd / && run-parts /etc/cron.hourly"
    assert (second.wanted.id, second.job.user) == ("web1.a.b-c$.php-local.d", "a.b-c$")
    assert found.origin.set == "cron.web1.system.php-local"
    assert found.warnings == ["tab:2: it names no user, or no command (skipped)"]


def test_shared() -> None:
    """Any host may run it."""
    one = one_of("@daily a", replace(ALICE, host="all", shared=True))
    assert (one.wanted.id, one.job.host) == ("all.alice.a", "")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('"A B" = c', "'A B' is not the name of a variable"),
        ("LOGNAME=bob", "LOGNAME"),
        ("RANDOM_DELAY=soon", "invalid RANDOM_DELAY 'soon'"),
        ("MAILTO=-oQ/tmp", "invalid MAILTO"),
        ("* * * * *", "does not have five fields"),
        ("* * * * ", "does not have five fields"),
        ("61 * * * * x", "invalid time '61 * * * *': minute '61' is not"),
        ("0 0 31 2 * x", "a day that does not exist"),
        ("@every 90s x", "@every is not a time"),
        ("@sometimes x", "@sometimes is not a time"),
        ("* * * * * %input", "no command, only input"),
        ("@daily *x", "but *, which cron refuses"),
        ("* * * * * *", "its command would be *"),
        ("* * * * * * x", "its command would be *"),
        ("0 30 9 * * 1-5 x", "its command would be 1-5"),
        ("0 0 12 ? * MON x", "its command would be MON"),
        ("0 0 12 * * ? 2026 x", "its command would be ?"),
        ("0 0 2 * * 7 x", "its command would be 7"),
        ("17 * * * *\troot\tcd /", "its command begins with the user root"),
        ("@daily bob.b x", "its command begins with the user bob.b"),
    ],
)
def test_what_cannot_be_carried_over(line: str, said: str) -> None:
    """It is left out with a word, here and in the file, and the rest is carried over."""
    found = imported(f"{line}\n0 2 * * * fine")
    assert [one.wanted.id for one in found.converted] == ["web1.alice.fine"]
    (warning,) = found.warnings
    assert warning.startswith("tab:1: ")
    assert said in warning
    assert said in write(found)


@pytest.mark.parametrize("command", ["rooted x", "root", "7z a b", "mail -s x", "monit x", "./1 2"])
def test_what_only_looks_so(command: str) -> None:
    """It is a command."""
    assert one_of(f"* * * * * {command}").job.command == command


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("a", True), ("a.b-c_d$", True), ("-a", False), ("a/b", False), ("a b", False), ("", False)],
)
def test_users(name: str, is_one: bool) -> None:
    """Dots and dashes are taken."""
    assert is_user(name) is is_one


def test_an_unknown_zone() -> None:
    """What follows has no time, until there is a zone again."""
    found = imported("CRON_TZ=Mars/Phobos\n0 2 * * * lost\nCRON_TZ=UTC\n0 2 * * * fine")
    (one,) = found.converted
    assert (one.wanted.id, one.wanted.spec and one.wanted.spec.zone) == ("web1.alice.fine", "")
    assert [warning[:6] for warning in found.warnings] == ["tab:1:", "tab:2:"]
    assert found.warnings[0].startswith("tab:1: invalid CRON_TZ 'Mars/Phobos': expected ")
    with pytest.raises(RequestError):
        read("", replace(ALICE, zone="Mars/Phobos"))


def test_nothing() -> None:
    """An empty crontab is a file without schedules."""
    assert imported("").converted == []
