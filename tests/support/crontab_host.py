"""A host with a crontab that moves to gozo: its home directory, its programs, its worker, its mail.

Each program notes what it was run for in a file that all hosts share, and mail comes to files.
"""

from __future__ import annotations

import json
import pwd
import re
import signal
from collections.abc import Mapping
from email import message_from_bytes
from email.message import Message
from os import getuid, mkfifo
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.gozoctl import PROGRAM, Gozoctl
from tests.support.patience import until
from tests.support.processes import Daemons
from tests.support.server import NatsServer

NOTE = """#!/bin/sh
exec 3>&1 >>'{ran}'
printf '%s|%s|%s|%s\\n' {host} "$GOZO_ID" "$0 $*" "$(cat)"
exec >&3
"""
"""Notes a run in one write: the host, the id, the command, the input."""

SENDMAIL = """#!/bin/sh
cat >"$HOME/mail.$$.part" && mv "$HOME/mail.$$.part" "$HOME/mail.$$"
"""

ME = pwd.getpwuid(getuid()).pw_name


class CrontabHost:
    """One host; `folder` is shared by all, only for what tests note."""

    def __init__(self, name: str, server: NatsServer, daemons: Daemons, folder: Path) -> None:
        self.name = name
        self.home = folder / name
        self.home.mkdir()
        self.ctl = Gozoctl(self.home, server.url)
        self.ctl.program("sendmail", SENDMAIL)
        self._daemons = daemons
        self._ran = folder / "ran"

    def id(self, program: str) -> str:
        """Return the id of the schedule for a line."""
        return f"{self.name}.{ME}.{program}"

    def program(self, name: str, script: str = "", folder: str = "bin") -> None:
        """Have a program, which notes that it was run before it does what the script says."""
        path = self.home / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(NOTE.format(ran=self._ran, host=self.name) + script)
        path.chmod(0o755)

    def waits(self, name: str) -> str:
        """Return a script that waits until it is let go, and prints the line it then gets."""
        mkfifo(self.home / name)
        return f'read -r line <\'{self.home / name}\'\n[ -z "$line" ] || echo "$line"\n'

    def let_go(self, name: str, line: str = "") -> None:
        """Let such a script end. It has to be waiting."""
        (self.home / name).write_text(f"{line}\n")

    def move(self, crontab: str) -> None:
        """Import the crontab and apply the file."""
        (self.home / "crontab").write_text(crontab)
        self.ctl.program("crontab", f"#!/bin/sh\ncat '{self.home}/crontab'\n")
        options = f"--host {self.name} --time-zone UTC"
        done = self.ctl.shell(
            f"crontab -l | gozoctl import-crontab - {options} >cron.toml && gozoctl apply cron.toml"
        )
        assert (done.code, done.err) == (0, "8 created\n"), done

    async def work(self) -> Daemon:
        """Start the worker, on the files of all hosts."""
        files = sorted(str(path) for path in self.home.parent.glob("*/cron.toml"))
        worker = self._daemons.start(
            *("worker", *files, "--host", self.name),
            variables=self.ctl.variables({"PATH": self.ctl.path}),
            program=PROGRAM,
        )
        await worker.event("worker.ready")
        return worker

    async def edit(self, worker: Daemon, changes: Mapping[str, Mapping[str, object]]) -> None:
        """Change tables of the file, apply it, and have the worker read it again."""
        path = self.home / "cron.toml"
        text = path.read_text()
        for program, keys in changes.items():
            lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
            head, name, rest = text.partition(f'[schedules."{self.id(program)}"]\n')
            assert name
            table, blank, rest = rest.partition("\n\n")
            table = re.sub(rf"(?m)^(?:{'|'.join(keys)}) = .*\n?", "", table)
            text = head + name + lines + table + blank + rest
        path.write_text(text)
        self.ctl.ok("apply", "cron.toml")
        mark = worker.mark()
        worker.send(signal.SIGHUP)
        await worker.event("worker.reloaded", since=mark)

    async def ran(self, program: str) -> None:
        """Wait until the program of a line has begun."""
        begin = f"{self.name}|{self.id(program)}|"

        def has_begun() -> bool:
            return self._ran.exists() and begin in self._ran.read_text()

        await until(has_begun, f"{program} begins on {self.name}")

    @property
    def mail(self) -> list[Message]:
        """The mail that was sent here."""
        paths = self.home.glob("mail.*[0-9]")
        return [message_from_bytes(path.read_bytes()) for path in paths]
