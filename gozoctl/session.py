"""What every command goes through: settings in, a client, an exit code out."""

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
from gozoctl.output import times, tz
from gozoctl.output.printer import Output

if TYPE_CHECKING:
    from gozo.client import Client

YOUNG = 100_000
"""Objects between two looks for garbage: a long list is a tenth quicker, since none of it is."""

QUIET = Option(
    "GOZO",
    "quiet",
    "q",
    values.read_flag,
    "",
    "Write nothing to standard error but errors",
    default="no",
)

OPTIONS = (*CONNECTION, *OUTPUT, QUIET)
"""What every command takes, before its name or after it."""


NoHeader = Annotated[bool, typer.Option("--no-header", help="Leave out the names of the columns.")]


@dataclass(frozen=True, slots=True)
class Session:
    """A connected client, and where to print."""

    client: Client
    out: Output
    now: datetime

    def written(self, moment: datetime) -> str:
        """Write a moment: for people in local time, and with how far away it is."""
        if not self.out.is_for_people:
            return times.utc(moment)
        away = times.left(moment, datetime.now(UTC))
        return f"{times.local(moment, with_zone=True)}, {away}"


async def tell_if_nobody_delivers(session: Session) -> None:
    """Say so where what was stored waits for a daemon."""
    try:
        delivers = await session.client.has_leader()
    except (NoServerError, NotAllowedError):
        return  # it cannot be told
    if not delivers:
        session.out.say(
            "no daemon delivers at the moment: start one with `gozo serve`, or see `gozoctl status`"
        )


Work = Callable[[Session], Awaitable[int | None]]
"""A command's part that needs a connection; returns the exit code, None for 0."""


Before = Callable[[Output], bool]
"""What is looked at, or asked, before anything connects; False ends the command."""


def connected(
    ctx: typer.Context,
    given: Given,
    work: Work,
    *,
    header: bool = True,
    before: Before = lambda out: True,
    failed: int = FAILED,
) -> NoReturn:
    """Connect, do the work, and end with its exit code; `failed` is that of errors without one."""

    def do() -> int | None:
        sources = Sources.load(merged(ctx.obj, given))
        out = output_of(sources, header=header)
        for name, reason in sources.ignored:
            out.say(f"gozoctl: ignoring {name}: {reason}")
        if out.is_for_people:
            _doubt_zone(out)
        settings = resolve_connection(sources)
        if not before(out):
            return FAILED
        return asyncio.run(_work(settings, out, work))

    finish(do, failed)


def _doubt_zone(out: Output) -> None:
    """Say so where times that are shown are not those of the zone that is set."""
    try:
        tz.check()
    except tz.LocalZoneError as error:
        out.say(f"gozoctl: {error}")


@contextmanager
def while_read() -> Iterator[None]:
    """End with `BrokenPipeError` what prints for ever, as soon as nobody reads it any more.

    Without it that would be noticed only with the next line, which may never come.
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

    loop.add_reader(1, leave)  # the writing end is readable only once the other is closed
    try:
        yield
    except asyncio.CancelledError:
        if is_gone and not task.uncancel():
            raise BrokenPipeError from None
        raise
    finally:
        loop.remove_reader(1)


def output_of(sources: Sources, *, header: bool = True) -> Output:
    """Return the output that was chosen, wherever that was.

    Raises:
        SettingsError: a value cannot be used.
    """
    found = {option.name: sources.find(option) for option in (*OUTPUT, QUIET)}
    chosen = {
        option.name: option.parse(one.text, one.origin)
        for option in (*OUTPUT, QUIET)
        if (one := found[option.name]) is not None
    }
    return Output(chosen.get("output"), quiet=chosen.get("quiet", False), header=header)


def finish(do: Callable[[], int | None], failed: int = FAILED) -> NoReturn:
    """Do something, and end with the exit code that goes with how it went.

    `failed` is the code of errors that have no other, where 1 is an answer.
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
        # Whoever reads has enough, as `head` does. What is left in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = DONE
    except OSError as error:
        tell(f"gozoctl: the output cannot be written ({error.strerror}): make room, or redirect it")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = failed
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)


async def _work(settings: ConnectionSettings, out: Output, work: Work) -> int | None:
    from gozo.client import Client  # noqa: PLC0415  # not needed for --help

    gc.set_threshold(YOUNG)
    async with await Client.connect(settings, name="gozoctl") as client:
        return await work(Session(client, out, datetime.now(UTC)))
