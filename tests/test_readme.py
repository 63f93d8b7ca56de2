"""The README keeps its word: its examples run as printed, and its tables are what gozo does.

The daemon is started with the arguments of the README's own command, so it listens on port
4222, as the README's next command expects. Where that port is in use, another one is put in its
place, in both; nothing else of what is printed is changed.
"""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gozo.errors import GozoError
from gozo.settings.options import CONNECTION, SERVE, Option
from tests.support.daemon import Daemon
from tests.support.gozoctl import Gozoctl
from tests.support.patience import allow
from tests.support.processes import Daemons, Servers
from tests.support.readme import README, block, blocks
from tests.support.server import free_port

PORT = 4222
EXAMPLES = ["absolute", "relative", "cancel", "recurring", "receipt", "confirm", "client"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run the daemon of the README's command; return what the next command makes of NATS_URL."""
    program, *arguments = block("command", "run").split("&&")[-1].split()
    assert program == ".venv/bin/gozo"
    with Daemons() as daemons:
        daemon, port = daemons.start(*arguments), PORT
        if not _becomes_ready(daemon):
            port = free_port()
            daemon = daemons.start(*arguments, "--address", f"nats://localhost:{port}")
            assert _becomes_ready(daemon), daemon.stderr
        login = block("command", "login")
        assert f"localhost:{PORT}" in login
        done = subprocess.run(
            ["/bin/sh", "-c", login.replace(f"localhost:{PORT}", f"localhost:{port}") + "env"],
            env={"HOME": str(daemon.folder), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        [url] = re.findall("^NATS_URL=(.*)$", done.stdout, re.MULTILINE)
        yield url


def _becomes_ready(daemon: Daemon) -> bool:
    """Wait until a daemon is ready; return False where its port is in use."""
    try:
        daemon.find_event("daemon.ready", {"role": "leader"}, since=0, timeout=allow(10))
    except AssertionError:
        if "is in use by another program" not in daemon.stderr:
            raise
        return False
    return True


def test_examples_are_there() -> None:
    """Each example is in the README, and each with what it prints."""
    assert list(blocks("example")) == EXAMPLES
    assert list(blocks("output")) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str, url: str, tmp_path: Path) -> None:
    """An example, pasted into a file, prints what the README says, and nothing on stderr."""
    script = tmp_path / f"{name}.py"
    script.write_text(block("example", name), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=os.environ | {"NATS_URL": url},
        capture_output=True,
        encoding="utf-8",
        timeout=allow(10),
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == block("output", name)


async def test_from_a_crontab(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """The three commands, on two hosts with the same crontab: each runs its own when it is due."""
    server = servers.start()
    await daemons.serve(server)
    third = Gozoctl(tmp_path, server.url)
    me = pwd.getpwuid(os.getuid()).pw_name
    workers = {}
    for host in ("web1", "web2"):
        home = tmp_path / host
        home.mkdir()
        ctl = Gozoctl(home, server.url)
        path = ctl.path_on(host)
        lines = f"HOME={home}\nPATH={path}\n0 2 * * * backup --full"
        ctl.program("crontab", f"#!/bin/sh\n[ \"$*\" = -l ] && echo '{lines}'\n")
        ctl.program("backup", f'#!/bin/sh\necho "$*" on {host} >>ran\n')
        workers[host] = daemons.start(
            *("-e", "-o", "pipefail", "-c", block("command", "crontab")),
            program=["/bin/bash"],
            variables=ctl.variables({"PATH": path}),
        )
        await workers[host].event("worker.ready", host=host)
    ids = {host: f"{host}.{me}.backup" for host in workers}
    assert sorted(third.ok("list", "-o", "id").out.split()) == list(ids.values())
    third.ok("trigger", *ids.values())
    for host, worker in workers.items():
        await worker.event("job.ended", id=ids[host], status="0")
        assert (tmp_path / host / "ran").read_text() == f"--full on {host}\n"


def test_options() -> None:
    """The table of options is the one that `gozo.settings.options` makes; a failure prints it."""
    expected = [_row(option) for option in (*CONNECTION, *SERVE)]
    assert _table("option") == expected, "the table has to be:\n" + "\n".join(expected)


def test_exit_codes() -> None:
    """Each exit code that an error of gozo stands for is explained, and no other; 0 besides."""
    explained = [int(line.split("|")[1]) for line in _table("exit code")]
    assert explained == sorted({0, GozoError.exit_code, *_codes(GozoError)})


def _row(option: Option) -> str:
    names = [f"`-{option.letter}`"] if option.letter else []
    names.append(f"`--{option.name}`")
    variables = ", ".join(f"`{variable}`" for variable in option.variables)
    cells = [", ".join(names), variables, option.default, option.help]
    return " ".join(f"| {cell}".strip() for cell in [*cells, ""])


def _table(first: str) -> list[str]:
    """Return the rows of the table whose first column is headed `first`."""
    match = re.search(
        rf"^\| {first} \|.*\n\|[ |-]+\n((?:\|.*\n)+)", README.read_text("utf-8"), re.MULTILINE
    )
    assert match is not None, f"{README} has no table with a column {first}"
    return match[1].splitlines()


def _codes(error: type[GozoError]) -> set[int]:
    kinds = error.__subclasses__()
    return {kind.exit_code for kind in kinds}.union(*(_codes(kind) for kind in kinds))
