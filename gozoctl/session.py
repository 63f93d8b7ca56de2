"""How every command runs: settings in, a connected client, an exit code out."""

from __future__ import annotations

import asyncio
import gc
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gozo.cli.options import Given, merged, tell
from gozo.errors import GozoError, NoServerError, NotAllowedError
from gozo.settings import parsers as values
from gozo.settings.model import ConnectionSettings
from gozo.settings.options import CONNECTION, OUTPUT, Option
from gozo.settings.resolve import resolve_connection
from gozo.settings.sources import Sources
from gozoctl.exit_codes import DONE, FAILED, INTERRUPTED, code_of
from gozoctl.output import tz
from gozoctl.output.printer import Output

if TYPE_CHECKING:
    from gozo.client import Client

GC_THRESHOLD = 100_000
"""Objects between two garbage collections: a long list is a tenth faster, as it has no garbage."""

QUIET = Option(
    "GOZO",
    "quiet",
    "q",
    values.read_flag,
    "",
    "Write only errors to standard error",
    default="no",
)

OPTIONS = (*CONNECTION, *OUTPUT, QUIET)
"""Options of every command, before its name or after it."""


NoHeader = Annotated[bool, typer.Option("--no-header", help="Omit the column headings.")]


@dataclass(frozen=True, slots=True)
class Session:
    """A connected client, and the output."""

    client: Client
    out: Output
    now: datetime


async def warn_if_no_leader(session: Session) -> None:
    """Report it if no daemon is there to deliver."""
    try:
        delivers = await session.client.has_leader()
    except (NoServerError, NotAllowedError):
        return  # unknown
    if not delivers:
        session.out.say(
            "no daemon is delivering: start one with `gozo serve`, or see `gozoctl status`"
        )


Work = Callable[[Session], Awaitable[int | None]]
"""The part of a command that needs a connection; returns the exit code, None for 0."""


Before = Callable[[Output], bool]
"""Checks or asks before anything connects; False ends the command."""


def connected(
    ctx: typer.Context,
    given: Given,
    work: Work,
    *,
    header: bool = True,
    before: Before = lambda out: True,
    failed: int = FAILED,
) -> NoReturn:
    """Connect, do the work, and exit with its code; `failed` is the code of other errors."""

    def do() -> int | None:
        sources = Sources.load(merged(ctx.obj, given))
        out = output_of(sources, header=header)
        for name, reason in sources.ignored:
            out.say(f"gozoctl: ignoring {name}: {reason}")
        if out.is_for_people:
            _check_zone(out)
        settings = resolve_connection(sources)
        if not before(out):
            return FAILED
        return asyncio.run(_work(settings, out, work))

    finish(do, failed)


def _check_zone(out: Output) -> None:
    """Report it if local times cannot be shown in the time zone that is set."""
    try:
        tz.check()
    except tz.LocalZoneError as error:
        out.say(f"gozoctl: {error}")


@contextmanager
def while_read() -> Iterator[None]:
    """Raise `BrokenPipeError` in a command that prints forever once its reader is gone.

    Otherwise only the next line would fail, which may never come.
    """
    if sys.stdout is None or not stat.S_ISFIFO(os.fstat(1).st_mode):
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    is_gone = False

    def leave() -> None:
        nonlocal is_gone
        is_gone = True
        loop.remove_reader(1)
        task.cancel()

    loop.add_reader(1, leave)  # the writing end becomes readable when the other is closed
    try:
        yield
    except asyncio.CancelledError:
        if is_gone and not task.uncancel():
            raise BrokenPipeError from None
        raise
    finally:
        loop.remove_reader(1)


def output_of(sources: Sources, *, header: bool = True) -> Output:
    """Return the output that the settings choose.

    Raises:
        SettingsError: a value is invalid.
    """
    found = {option.name: sources.find(option) for option in (*OUTPUT, QUIET)}
    chosen = {
        option.name: option.parse(one.text, one.origin)
        for option in (*OUTPUT, QUIET)
        if (one := found[option.name]) is not None
    }
    return Output(chosen.get("output"), quiet=chosen.get("quiet", False), header=header)


def finish(do: Callable[[], int | None], failed: int = FAILED) -> NoReturn:
    """Do something, and exit with the code of its result.

    `failed` is the code of errors without their own, for commands whose result may be 1.
    """
    try:
        code = do() or DONE
        if sys.stdout is not None:
            sys.stdout.flush()
    except GozoError as error:
        tell(f"gozoctl: {error}")
        code = code_of(error)
        code = failed if code == FAILED else code
    except BrokenPipeError:
        # The reader has had enough, as `head` does. Discard the rest of the buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = DONE
    except OSError as error:
        tell(f"gozoctl: cannot write the output ({error.strerror}): free space, or redirect it")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = failed
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)


async def _work(settings: ConnectionSettings, out: Output, work: Work) -> int | None:
    from gozo.client import Client  # noqa: PLC0415  # not needed for --help

    gc.set_threshold(GC_THRESHOLD)
    async with await Client.connect(settings, name="gozoctl") as client:
        return await work(Session(client, out, datetime.now(UTC)))
