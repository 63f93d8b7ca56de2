"""Processes of a worker: their output, their ends, and what is left of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gozoctl.worker.children import Child, Children, Start
from gozoctl.worker.locks import Locks, release
from tests.support.patience import allow, until
from tests.support.programs import require_program
from tests.support.readme import ROOT

ENVIRONMENT = {"PATH": os.defpath}


@pytest.fixture
async def children() -> AsyncIterator[Children]:
    """Have processes, of which none is left."""
    children = Children()
    yield children
    children.kill_all()
    children.close()


def shell(script: str, **options: object) -> Start:
    """Say how a script is started."""
    return Start(("/bin/sh", "-c", script), ENVIRONMENT, "/", **options)  # type: ignore[arg-type]


async def ended(child: Child) -> int:
    """Wait for the end of a process, and of its output."""
    code = await asyncio.wait_for(child.exited, allow(10))
    await child.close()
    return code


def open_files() -> int:
    """Count the open files of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that nobody reaps counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_the_end_of_the_output_is_kept(children: Children) -> None:
    """Both streams are one; of what is too long the beginning is omitted."""
    child = children.start(shell("echo out; echo err >&2; exit 3", keeps=100))
    assert await ended(child) == 3
    assert child.output == b"out\nerr\n"
    child = children.start(shell("seq 100000; echo end", keeps=10))
    assert await ended(child) == 0
    assert child.output == b"00000\nend\n"
    assert child.omitted == 588_895 + 4 - 10


async def test_its_input(children: Children) -> None:
    """It is empty unless there is a payload."""
    child = children.start(shell("cat; echo end", keeps=100, payload=b"a\0b"))
    assert await ended(child) == 0
    assert child.output == b"a\0bend\n"
    child = children.start(shell("cat; echo end", keeps=100))
    assert await ended(child) == 0
    assert child.output == b"end\n"


async def test_what_it_inherits(children: Children, tmp_path: Path) -> None:
    """Its environment is what is given, and of open files only the lock."""
    fd = Locks(tmp_path, "gozo", "gozo").take("a")
    script = "env | grep -v -e ^PWD= -e ^_= -e ^SHLVL=; ls /proc/self/fd"
    child = children.start(shell(script, keeps=1000, lock=fd))
    await ended(child)
    listing = next(iter({"3", "4", "5"} - {str(fd)}))  # ls itself has one
    names = child.output.decode().split()
    assert names[0] == f"PATH={os.defpath}"
    assert set(names[1:]) - {listing, "3", "4"} == {"0", "1", "2", str(fd)} - {"3", "4"}


async def test_a_lock_is_held_by_the_command(children: Children, tmp_path: Path) -> None:
    """It outlives its worker; an orderly end releases it, also for what runs on behind it."""
    locks, others = (Locks(tmp_path, "gozo", "gozo") for _ in range(2))
    fd = locks.take("a")
    assert fd is not None
    assert others.take("a") is None
    other = others.take("b")
    assert other is not None
    release(other)
    child = children.start(shell("sleep 60", lock=fd))
    os.close(fd)  # as when the worker is killed
    assert others.take("a") is None
    os.killpg(child.pid, signal.SIGKILL)
    await ended(child)
    taken: list[int] = []

    def is_free() -> bool:
        fd = others.take("a")
        taken.extend([] if fd is None else [fd])
        return bool(taken)

    await until(is_free, "the last process of the group is gone")
    (fd,) = taken
    child = children.start(shell("sleep 60 & echo $!", keeps=10, lock=fd))
    await ended(child)
    release(fd)
    again = locks.take("a")
    assert again is not None
    release(again)
    os.kill(int(child.output), signal.SIGKILL)


@pytest.mark.parametrize(
    ("command", "directory", "error"),
    [(("/no/such",), "/", FileNotFoundError), (("/etc/passwd",), "/", PermissionError)],
)
async def test_what_cannot_be_started(
    children: Children, command: tuple[str, ...], directory: str, error: type[OSError]
) -> None:
    """It is an error of the system, and no file stays open."""
    before = open_files()
    with pytest.raises(error):
        children.start(Start(command, ENVIRONMENT, directory, keeps=10))
    with pytest.raises(FileNotFoundError):
        children.start(Start(("/bin/true",), ENVIRONMENT, "/no/such", keeps=10))
    assert open_files() == before


async def test_nothing_stays_open(children: Children) -> None:
    """A command that has ended leaves nothing behind in the worker."""
    await ended(children.start(shell("true", keeps=10, payload=b"x")))
    before = open_files()
    for _ in range(5):
        await ended(children.start(shell("echo x", keeps=10, payload=b"x")))
    assert open_files() == before


async def test_the_guard_is_replaced(children: Children) -> None:
    """If somebody kills it, another one knows what runs."""
    guard = children._guard
    assert guard is not None
    child = children.start(shell("sleep 60"))
    guard.kill()
    await until(lambda: children._guard is not guard, "there is another guard")
    again = children._guard
    assert again is not None
    assert again.stdin is not None
    children._guard = None
    again.stdin.close()  # as if we were killed
    assert await ended(child) == -signal.SIGTERM
    again.kill()
    again.wait()


KILLED = """
import asyncio, os, signal
from gozoctl.worker.children import Children, Start

async def main():
    children = Children()
    done = children.start(Start(("/bin/true",), {}, "/"))
    await done.exited
    script = "trap '' TERM; sleep 60 & echo $! $$ $(cut -d' ' -f5 /proc/$!/stat); wait"
    child = children.start(Start(("/bin/sh", "-c", script), {"PATH": os.defpath}, "/", keeps=99))
    while child.output.count(b"\\n") < 1:
        await asyncio.sleep(0.01)
    print(child.output.decode(), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def run(script: str, *prefix: str) -> subprocess.Popen[str]:
    """Run a script of Python."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=environment,
    )


@pytest.fixture
def killed() -> Iterator[subprocess.Popen[str]]:
    """Run a worker that will be killed."""
    with run(KILLED) as process:
        yield process
        process.kill()


async def test_nothing_outlives_a_killed_worker(killed: subprocess.Popen[str]) -> None:
    """A whole group ends, with what ignores SIGTERM, and not only the shell in it."""
    assert killed.stdout is not None
    line = await asyncio.wait_for(asyncio.to_thread(killed.stdout.readline), allow(10))
    child, parent, group = map(int, line.split())
    assert parent == group
    assert is_alive(child)
    killed.kill()
    await until(lambda: not is_alive(child), "the command has ended", allow(10))
    await until(lambda: not is_alive(parent), "so has its shell", allow(10))


ORPHANS = """
import asyncio, os
from gozoctl.worker.children import Children, Start

async def main():
    assert os.getpid() == 1
    children = Children()
    for _ in range(3):
        child = children.start(Start(("/bin/sh", "-c", "sleep 0.1 & exit 7"), {}, "/"))
        print(await child.exited, flush=True)
    for _ in range(100):
        await asyncio.sleep(0.05)
        states = []
        for name in os.listdir("/proc"):
            if name.isdigit() and name != "1":
                states.append(open(f"/proc/{name}/stat").read().rpartition(")")[2].split()[0])
        if len(states) == 1:
            break
    print(len(states), "Z" in states, flush=True)
    children.close()

asyncio.run(main())
"""


def test_pid_1_reaps_orphans() -> None:
    """As the first process of a container it leaves no zombies, and keeps its own exit codes."""
    unshare = require_program("unshare", package="util-linux")
    with run(ORPHANS, str(unshare), "--pid", "--fork", "--mount-proc", "--kill-child") as process:
        out, _ = process.communicate(timeout=allow(20))
    assert out.split() == ["7", "7", "7", "1", "False"]  # the guard is left
