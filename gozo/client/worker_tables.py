"""The part of a file of schedules that workers use: what to run, and how. Pure.

    [worker]
    max-parallel = 10
    environment = { PATH = "/usr/local/bin:/usr/bin:/bin" }
    mailto = "ops@example.com"

    [schedules."web1.root.backup"]
    subject = "cron.web1.root.backup"
    when = "0 2 * * *"
    host = "web1"                    # default: any host
    command = "backup --full"        # for the shell; or a list, without a shell
    timeout = "2h"
    user = "www-data"                # needs a worker of root
    directory = "/srv"               # default: HOME
    environment = { LANG = "C" }     # added to that of [worker]
    input = true                     # the payload is the standard input
    mailto = ""                      # instead of that of [worker]

Nothing of this is stored in the bucket: a worker runs what its own file says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gozo.client.mistakes import WrongError, invalid, unknown
from gozo.errors import RequestError
from gozo.schedule import expression as grammar
from gozo.schedule.model import MICROSECONDS

WORKER = "worker"
COMMAND = "command"

MAX_PARALLEL, MOST_PARALLEL = 10, 1000

JOB: dict[str, type | tuple[type, ...]] = {
    "host": str,
    COMMAND: (str, list),
    "timeout": str,
    "user": str,
    "environment": dict,
    "directory": str,
    "input": bool,
    "mailto": str,
}
"""The keys of a schedule's table that are for workers, and their types."""

SETTINGS: dict[str, type] = {"max-parallel": int, "environment": dict, "mailto": str}
"""The keys of the table `worker`, and their types."""

KINDS = {
    COMMAND: 'a string for the shell, or a list of strings such as ["backup", "--full"]',
    "environment": 'a table of strings such as { PATH = "/usr/bin:/bin" }',
}
"""What is expected, by key, where the type does not say it all."""

DEFAULTS: dict[str, Any] = {"confirm": "claim", "attempts": 1, "keep-output": True}
"""How a schedule with a command is confirmed, unless its table says otherwise."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_WORD = re.compile(r"[^\s\x00-\x1f\x7f]+\Z")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The table `worker` of a file."""

    max_parallel: int = MAX_PARALLEL
    """How many commands of the file run at a time."""
    environment: Mapping[str, str] | None = None
    mailto: str = ""
    """Where the output of commands is mailed; empty: nowhere."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker runs for the messages of a schedule."""

    id: str
    subject: str
    command: str | tuple[str, ...]
    """A string is for the shell."""
    host: str = ""
    """The only host that runs it; empty: any."""
    timeout_us: int = 0
    """How long it may run, in microseconds; 0: without limit."""
    user: str = ""
    """Who runs it; empty: the user of the worker."""
    environment: Mapping[str, str] | None = None
    directory: str = ""
    """Where it runs; empty: HOME."""
    input: bool = False
    """Whether the payload is its standard input."""
    mailto: str | None = None
    """Where its output is mailed; empty: nowhere; None: where the file says."""
    allows_overlap: bool = False
    """Whether it may run beside itself."""
    keep_output: bool = True
    """Whether the end of its output is kept with the outcome."""

    def within(self, settings: WorkerSettings) -> Job:
        """Return the job with the settings of the table `worker` added."""
        environment = {**(settings.environment or {}), **(self.environment or {})}
        mailto = settings.mailto if self.mailto is None else self.mailto
        return replace(self, environment=environment, mailto=mailto)


def read_settings(table: object) -> WorkerSettings:
    """Read the table `worker`.

    Raises:
        WrongError: it contains a mistake.
    """
    if not isinstance(table, dict):
        raise WrongError("", "it is not a table: write [worker] above its keys")
    for key, value in table.items():
        if key not in SETTINGS:
            raise WrongError("", unknown(key, SETTINGS))
        if key == "max-parallel" and type(value) is not int:
            raise invalid(key, value, "expected a whole number")
        if key == "mailto" and not isinstance(value, str):
            raise invalid(key, value, "expected a string in quotation marks")
    most = table.get("max-parallel", MAX_PARALLEL)
    if not 1 <= most <= MOST_PARALLEL:
        raise invalid("max-parallel", most, f"expected a number from 1 to {MOST_PARALLEL}")
    return WorkerSettings(most, _environment(table), _mailto(table) or "")


def read_job(id_: str, table: Mapping[str, Any]) -> Job | None:
    """Read what a worker needs from a table whose values have the right types.

    Raises:
        WrongError: it contains a mistake.
    """
    if COMMAND not in table:
        for key in JOB:
            if key in table:
                raise WrongError(key, "it needs a command: add one, or remove it")
        return None
    if table.get("confirm", "claim") != "claim":
        problem = 'the worker that runs the command claims it: omit it, or write "claim"'
        raise invalid("confirm", table["confirm"], problem)
    takes_input = table.get("input", False)
    for key in ("payload", "payload-base64", "payload-file"):
        if key in table and not takes_input:
            raise WrongError(key, "the command would not read it: add input = true, or remove it")
    return Job(
        id_,
        table["subject"],
        _command(table[COMMAND]),
        host=_plain(table, "host", "the name of a host"),
        timeout_us=_timeout(table),
        user=_plain(table, "user", "the name of a user"),
        environment=_environment(table),
        directory=_directory(table),
        input=takes_input,
        mailto=_mailto(table),
        allows_overlap=table.get("overlap") == "allow",
        keep_output=table.get("keep-output", True),
    )


def defaults(*, recurs: bool) -> dict[str, Any]:
    """Return the keys that a table with a command has unless it says otherwise."""
    return DEFAULTS | ({"overlap": "skip"} if recurs else {})


def job_table(job: Job) -> dict[str, Any]:
    """Return the keys of a table that say what a job says."""
    timeout = grammar.print_duration(job.timeout_us) if job.timeout_us else ""
    command = job.command if isinstance(job.command, str) else list(job.command)
    table = {
        "host": job.host,
        COMMAND: command,
        "timeout": timeout,
        "user": job.user,
        "environment": dict(job.environment or {}),
        "directory": job.directory,
        "input": job.input,
    }
    table = {key: value for key, value in table.items() if value}
    return table | ({} if job.mailto is None else {"mailto": job.mailto})


def settings_table(settings: WorkerSettings) -> dict[str, Any]:
    """Return the table `worker` that says what settings say; empty for the default."""
    table: dict[str, Any] = {}
    if settings.max_parallel != MAX_PARALLEL:
        table["max-parallel"] = settings.max_parallel
    if settings.environment:
        table["environment"] = dict(settings.environment)
    if settings.mailto:
        table["mailto"] = settings.mailto
    return table


def _command(given: str | list[str]) -> str | tuple[str, ...]:
    words = [given] if isinstance(given, str) else given
    if not words or not words[0].strip():
        raise invalid(COMMAND, given, f"it is empty; expected {KINDS[COMMAND]}")
    if any("\0" in word for word in words):
        raise invalid(COMMAND, given, "a command cannot contain a zero byte")
    return given if isinstance(given, str) else tuple(given)


def _timeout(table: Mapping[str, Any]) -> int:
    if "timeout" not in table:
        return 0
    problem = "expected a duration such as 1h30m, or seconds"
    try:
        us = grammar.parse_span(table["timeout"], "timeout")
    except RequestError as error:
        raise invalid("timeout", table["timeout"], problem) from error
    if us < MICROSECONDS // 1000:
        raise invalid("timeout", table["timeout"], problem)
    return us


def _environment(table: Mapping[str, Any]) -> dict[str, str]:
    variables = table.get("environment", {})
    if not isinstance(variables, dict):
        raise invalid("environment", variables, f"expected {KINDS['environment']}")
    for name, value in variables.items():
        if not _NAME.match(name):
            problem = "expected a name of letters, digits and _"
            raise invalid("environment", name, problem)
        if not isinstance(value, str) or "\0" in value:
            problem = "expected a string in quotation marks, without a zero byte"
            raise invalid(f"environment.{name}", value, problem)
    return dict(variables)


def _mailto(table: Mapping[str, Any]) -> str | None:
    address: str | None = table.get("mailto")
    if address and (address.startswith("-") or not address.isprintable()):
        raise invalid("mailto", address, "expected an address, or several separated by commas")
    return address


def _directory(table: Mapping[str, Any]) -> str:
    path: str = table.get("directory", "")
    if "directory" in table and (not path.startswith("/") or "\0" in path):
        raise invalid("directory", path, "expected an absolute path")
    return path


def _plain(table: Mapping[str, Any], key: str, what: str) -> str:
    text: str = table.get(key, "")
    if key in table and not _WORD.match(text):
        raise invalid(key, text, f"expected {what}")
    return text
