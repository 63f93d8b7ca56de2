"""`gozoctl` as a process: what it writes and the exit code, in pipes or in a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import forking
from tests.support.daemon import KEPT_VARIABLES
from tests.support.patience import allow
from tests.support.readme import ROOT
from tests.support.terminal import COLUMNS, Terminal

PROGRAM = (sys.executable, "-m", "gozoctl")


@dataclass(frozen=True, slots=True)
class Done:
    """A run that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout, read as JSON."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """Stdout, read as tab-separated text."""
        return [line.split("\t") for line in self.out.splitlines()]


@dataclass(frozen=True, slots=True)
class Gozoctl:
    """The program, with a server's address, and a home directory that belongs to the test."""

    home: Path
    url: str

    def variables(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the whole environment of a run: nothing of this machine's settings."""
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        own = {
            "HOME": str(self.home),
            "NATS_ADDRESS": self.url,
            "TZ": "Europe/Berlin",
            "PYTHONPATH": str(ROOT),
        }
        return kept | own | dict(more or {})

    def run(
        self, *arguments: str, stdin: bytes = b"", variables: Mapping[str, str] | None = None
    ) -> Done:
        """Run a command with pipes, to its end."""
        with forking.start(
            [*PROGRAM, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.variables(variables),
            cwd=self.home,
        ) as process:
            try:
                out, err = process.communicate(stdin, allow(20))
            except BaseException:
                process.kill()
                raise
        assert b"Traceback" not in err, err.decode()
        return Done(process.returncode, out.decode(), err.decode())

    def ok(self, *arguments: str, stdin: bytes = b"") -> Done:
        """Run a command that succeeds."""
        done = self.run(*arguments, stdin=stdin)
        assert done.code == 0, done
        return done

    def program(self, name: str, script: str) -> None:
        """Put a program where `path` finds it."""
        bin_ = self.home / "bin"
        bin_.mkdir(exist_ok=True)
        (bin_ / name).write_text(script)
        (bin_ / name).chmod(0o755)

    @property
    def path(self) -> str:
        """A `PATH` on which `gozoctl` is this program."""
        self.program("gozoctl", f'#!/bin/sh\nexec "{sys.executable}" -m gozoctl "$@"\n')
        return self._path

    def path_on(self, host: str) -> str:
        """The same, where this host has another name."""
        self.program(
            "gozoctl",
            f"#!{sys.executable}\n"
            "import socket, sys\n"
            "from gozoctl.__main__ import main\n"
            f"socket.gethostname = lambda: {host!r}\n"
            "sys.exit(main())\n",
        )
        return self._path

    @property
    def _path(self) -> str:
        return f"{self.home / 'bin'}:/usr/local/bin:/usr/bin:/bin"

    def shell(self, script: str) -> Done:
        """Run a script of bash in which `gozoctl` is this program."""
        done = subprocess.run(
            ["/bin/bash", "-o", "pipefail", "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self.variables({"PATH": self.path}),
            cwd=self.home,
            timeout=allow(30),
            check=False,
            encoding="utf-8",
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def terminal(
        self,
        *arguments: str,
        variables: Mapping[str, str] | None = None,
        columns: int = COLUMNS,
    ) -> Terminal:
        """Run a command in a terminal."""
        return Terminal([*PROGRAM, *arguments], self.variables(variables), self.home, columns)
