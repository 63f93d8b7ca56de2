"""How the command of a table is started: its user, environment and folder. Knows nothing of NATS.

It does not inherit the environment of the worker, which may contain secrets for NATS, and nothing
in its own comes from a message.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass

from gozo.client.worker_tables import Job
from gozo.errors import SettingsError
from gozoctl.worker.children import Account, Start

PATH = "/usr/local/bin:/usr/bin:/bin"
SHELL = "/bin/sh"
PASSED = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")
"""Variables of the worker that commands get."""

OUTPUT = 16 * 1024  # bytes of output that are kept with an outcome
MAILED = 256 * 1024  # bytes of output that are mailed


@dataclass(frozen=True, slots=True)
class Person:
    """A user of this host."""

    name: str
    home: str
    account: Account | None = None
    """None if it is the user of this process."""


def person_of(job: Job) -> Person:
    """Return the user that a job runs as.

    Raises:
        SettingsError: there is no such user, or this process may not run anything for it.
    """
    uid = os.getuid()
    if not job.user:
        try:
            own = pwd.getpwuid(uid)
        except KeyError:  # as in containers
            return Person(str(uid), os.environ.get("HOME") or "/")
        return Person(own.pw_name, own.pw_dir)
    try:
        found = pwd.getpwnam(job.user)
    except KeyError:
        raise SettingsError(f"user: there is no user {job.user!r} on this host") from None
    if found.pw_uid == uid:
        return Person(found.pw_name, found.pw_dir)
    if uid:
        raise SettingsError(
            f"user: only a worker of root can run commands as {job.user!r}: omit user, or start "
            "the worker as root"
        )
    groups = tuple(os.getgrouplist(found.pw_name, found.pw_gid))
    return Person(found.pw_name, found.pw_dir, Account(found.pw_uid, found.pw_gid, groups))


def start_of(job: Job, payload: bytes, lock: int | None, own: Mapping[str, str]) -> Start:
    """Return how a job is started; `own` is the environment of this process.

    Raises:
        SettingsError: as for `person_of`.
    """
    person = person_of(job)
    variables = {
        "PATH": PATH,
        "SHELL": SHELL,
        "HOME": person.home,
        "USER": person.name,
        "LOGNAME": person.name,
        **{name: own[name] for name in PASSED if name in own},
        **(job.environment or {}),
        "GOZO_ID": job.id,
    }
    command = job.command
    if isinstance(command, str):
        command = (variables["SHELL"], "-c", command)
    keeps = MAILED if job.mailto else OUTPUT if job.keep_output else 0
    return Start(
        command,
        variables,
        job.directory or variables["HOME"],
        person.account,
        payload if job.input else None,
        keeps,
        lock,
    )
