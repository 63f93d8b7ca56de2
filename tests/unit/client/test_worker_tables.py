"""What a file says to workers: it is read, written back, and never stored."""

from __future__ import annotations

import tomllib

import pytest

from gozo.client.manifest import Manifest, difference, parse
from gozo.client.manifest_tables import dumped
from gozo.client.worker_tables import (
    SETTINGS,
    Job,
    WorkerSettings,
    job_table,
    read_job,
    read_settings,
    settings_table,
)
from gozo.errors import SettingsError

FULL = """
[worker]
max-parallel = 3
environment = { PATH = "/bin", LANG = "C" }
mailto = "ops@example.com"

[schedules."web1.backup"]
subject = "cron.backup"
when = "0 2 * * *"
host = "web1"
command = ["backup", "--full"]
timeout = "1h30m"
user = "www-data"
directory = "/srv"
environment = { LANG = "de" }
input = true
payload = "all"
mailto = ""
overlap = "allow"
attempts = 3
keep-output = false

[schedules.clean]
subject = "cron.clean"
when = "@every 1h"
command = "rm -f /tmp/x; echo done"

[schedules.once]
subject = "cron.once"
when = "2027-01-01T00:00:00Z"
command = "true"

[schedules.plain]
subject = "plain"
when = "@every 1h"
"""


def read(text: str) -> Manifest:
    """Read a file without payload files."""
    return parse(text, "cron.toml", "cron", lambda name: b"")


def test_a_file_says_what_to_run() -> None:
    """Tables with a command are jobs, each with what [worker] says for all."""
    manifest = read(FULL)
    backup, clean, once = manifest.jobs
    assert backup == Job(
        "web1.backup",
        "cron.backup",
        ("backup", "--full"),
        host="web1",
        timeout_us=5_400_000_000,
        user="www-data",
        environment={"PATH": "/bin", "LANG": "de"},
        directory="/srv",
        input=True,
        mailto="",
        allows_overlap=True,
        keep_output=False,
    )
    assert clean.command == "rm -f /tmp/x; echo done"
    assert clean.environment == {"PATH": "/bin", "LANG": "C"}
    assert clean.mailto == "ops@example.com"
    assert not clean.allows_overlap
    assert not once.allows_overlap
    assert manifest.worker.max_parallel == 3


def test_a_command_is_claimed_and_never_stored() -> None:
    """What is applied asks for a claim, and has nothing of the command."""
    backup, clean, once, plain = read(FULL).wanted
    assert (backup.confirm, backup.attempts, backup.overlap) == ("claim", 3, "allow")
    assert (clean.confirm, clean.attempts, clean.overlap) == ("claim", 1, "skip")
    assert (once.confirm, once.attempts, once.overlap) == ("claim", 1, None)
    assert (plain.confirm, plain.attempts, plain.overlap) == (False, 0, None)
    assert (backup.keep_output, clean.keep_output, plain.keep_output) == (False, True, False)
    for one in (backup, clean, once):
        assert "command" not in repr(one)
        lines = "\n".join(difference(one.id, None, one, ("bucket", "file")))
        assert "command" not in lines
        assert "host" not in lines


JOBS = [
    Job("a", "s", "true", environment={}),
    Job("a", "s", ("ls", "-l"), environment={}, mailto=""),
    Job(
        "a", "s", "x", "web1", 90_000_000, "nobody", {"A": "b=c"}, "/", input=True, mailto="a@b, c"
    ),
]


@pytest.mark.parametrize("job", JOBS)
def test_what_is_written_is_read(job: Job) -> None:
    """The table of a job says all of it."""
    table = tomllib.loads(dumped(job_table(job)))
    assert read_job("a", {"subject": "s"} | table) == job


@pytest.mark.parametrize(
    "settings",
    [WorkerSettings(environment={}), WorkerSettings(2, {"PATH": "/bin"}, "ops@example.com")],
)
def test_settings_are_read_as_written(settings: WorkerSettings) -> None:
    """The table `worker` says all of the settings."""
    assert read_settings(tomllib.loads(dumped(settings_table(settings)))) == settings


COMMAND = 'command = "true"'
WRONG_KEYS = [
    ('host = "web1"', "host: it needs a command: add one, or remove it"),
    (f'{COMMAND}\nhost = "a b"', "invalid host 'a b': expected the name of a host"),
    ("command = 7", "invalid command 7: expected a string for the shell, or a list of strings "),
    ('command = ""', "invalid command '': it is empty; expected a string for the shell, or "),
    ("command = []", "invalid command []: it is empty; expected a string for the shell, or "),
    ('command = "a\\u0000b"', r"invalid command 'a\x00b': a command cannot contain a zero byte"),
    (f'{COMMAND}\ntimeout = "soon"', "invalid timeout 'soon': expected a duration such as "),
    (f'{COMMAND}\ntimeout = "0"', "invalid timeout '0': expected a duration such as 1h30m, or "),
    (f'{COMMAND}\nuser = ""', "invalid user '': expected the name of a user"),
    (f'{COMMAND}\ndirectory = "srv"', "invalid directory 'srv': expected an absolute path"),
    (f'{COMMAND}\ninput = "yes"', "invalid input 'yes': expected true or false"),
    (f'{COMMAND}\nmailto = "a\\nb"', r"invalid mailto 'a\nb': expected an address, or several "),
    (f'{COMMAND}\nmailto = "-oX"', "invalid mailto '-oX': expected an address, or several "),
    (
        f'{COMMAND}\nenvironment = "A=b"',
        "invalid environment 'A=b': expected a table of strings such as { PATH =",
    ),
    (
        f'{COMMAND}\nenvironment = {{ "a-b" = "c" }}',
        "invalid environment 'a-b': expected a name of letters, digits and _",
    ),
    (
        f"{COMMAND}\nenvironment = {{ A = 1 }}",
        "invalid environment.A 1: expected a string in quotation marks",
    ),
    (f'{COMMAND}\npayload = "x"', "payload: the command would not read it: add input = true, or "),
    (
        f'{COMMAND}\nconfirm = "reply"',
        "invalid confirm 'reply': the worker that runs the command claims it: omit it, or write ",
    ),
    (f"{COMMAND}\nconfirm = true", "invalid confirm True: the worker that runs the command "),
    (f"{COMMAND}\ncomand = 1", "unknown key 'comand': did you mean 'command'?"),
]


@pytest.mark.parametrize(("lines", "words"), WRONG_KEYS)
def test_a_mistake_in_a_table_is_named(lines: str, words: str) -> None:
    """Each mistake is one sentence with file, table, key, value and cure."""
    with pytest.raises(SettingsError) as error:
        read(f'[schedules.a]\nsubject = "s"\nwhen = "@every 1h"\n{lines}\n')
    assert str(error.value).startswith(f"cron.toml: [schedules.a]: {words}")
    assert "\n" not in str(error.value)


WRONG_SETTINGS = [
    ("max_parallel = 2", "unknown key 'max_parallel': did you mean 'max-parallel'?"),
    ("max-parallel = 0", "invalid max-parallel 0: expected a number from 1 to 1000"),
    ("max-parallel = true", "invalid max-parallel True: expected a whole number"),
    ("mailto = 1", "invalid mailto 1: expected a string in quotation marks"),
    ("environment = 1", "invalid environment 1: expected a table of strings such as "),
]


@pytest.mark.parametrize(("lines", "words"), WRONG_SETTINGS)
def test_a_mistake_in_the_settings_is_named(lines: str, words: str) -> None:
    """So is one in the table `worker`."""
    with pytest.raises(SettingsError) as error:
        read(f"[worker]\n{lines}\n")
    assert str(error.value).startswith(f"cron.toml: [worker]: {words}")
    assert set(SETTINGS) == {"max-parallel", "environment", "mailto"}


def test_the_settings_are_a_table() -> None:
    """A value in their place is a mistake."""
    with pytest.raises(SettingsError, match=r"cron.toml: \[worker\]: it is not a table: write "):
        read("worker = 1")
