"""The command line of `gozo`: options in, exit code out.

Modules that connect are imported only when needed, so that `--help` stays fast. This module
knows nothing of NATS.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import typer

from gozo.cli import completion, usage
from gozo.cli.options import Given, merged, takes, tell
from gozo.cli.program import Version, program
from gozo.errors import GozoError, NotAllowedError
from gozo.runtime import logs
from gozo.settings.model import ServeSettings
from gozo.settings.options import CONNECTION, SERVE
from gozo.settings.resolve import resolve_serve
from gozo.settings.sources import Sources

INTERRUPTED = 130  # what a shell reports for a process that ended with Ctrl-C: 128 + SIGINT
FAILED = 1

log = logs.get_logger("gozo.cli")

app = program("gozo")


@app.callback(invoke_without_command=True)
@takes((*CONNECTION, *SERVE))
def root(
    ctx: typer.Context,
    *,
    _version: Version = False,
    **given: str | bool | list[str] | None,
) -> None:
    """Schedule NATS messages; without a command, the same as `gozo serve`.

    Each value is taken from the first of these that has one: the command line, the variable in
    brackets in the environment, ./gozo.env, gozo/config.toml in the user's configuration directory,
    /etc/gozo.env. An empty value counts as not set. A context has the precedence of the place that
    names it, after the options there. The first login found replaces logins of other kinds. Keep
    secrets in the environment or in a file: other users can read command lines.
    """
    ctx.obj = given
    if ctx.invoked_subcommand is None:
        raise typer.Exit(_serve(given))


@takes((*CONNECTION, *SERVE))
def serve(ctx: typer.Context, **given: str | bool | list[str] | None) -> None:
    """Accept requests, store schedules, and deliver messages when they are due.

    Runs until SIGTERM, SIGHUP or Ctrl-C; a second SIGTERM or Ctrl-C ends it at once.
    """
    raise typer.Exit(_serve(merged(ctx.obj, given)))


@takes((*CONNECTION, *SERVE))
def check(ctx: typer.Context, **given: str | bool | list[str] | None) -> None:
    """Check whether `gozo serve` would work with the same options, without starting it.

    Connects, tests each permission that the daemon needs, and reports on the server, the account,
    the bucket and the running daemons, with problems and possible improvements. It creates a
    temporary bucket with the settings of the real one, and changes nothing else. Exits 4 if a
    permission is missing; 5 if no server answers; 1 if gozo cannot work or would lose schedules
    with these settings, if a daemon with another bucket uses the request subject, or if a running
    daemon is not serving; else 0.
    """
    raise typer.Exit(_run(lambda: _check(merged(ctx.obj, given))))


usage.add(app, "serve", lambda: serve)
usage.add(app, "check", lambda: check)
usage.add(app, "help", lambda: usage.help_, hidden=True)


def _check(given: Given) -> int:
    sources = Sources.load(given)
    for name, reason in sources.ignored:
        tell(f"gozo: ignoring {name}: {reason}")
    settings = resolve_serve(sources)
    logs.silence()
    from gozo.daemon import check as checkup  # noqa: PLC0415  # not needed for --help

    def say(topic: str, words: str) -> None:
        line = logs.visible(f"{topic:>11}  {words}")
        if sys.stdout.isatty():
            columns = shutil.get_terminal_size().columns
            line = textwrap.fill(line, columns, subsequent_indent=" " * 13, break_on_hyphens=False)
        typer.echo(line)

    found = asyncio.run(checkup.examine(settings, say))
    if found.missing:
        return NotAllowedError.exit_code
    return FAILED if found.not_serving or found.problems else 0


def _serve(given: Given) -> int:
    """Run the daemon; returns the exit code."""

    def run() -> int:
        settings = _settings(given)
        from gozo.daemon import daemon  # noqa: PLC0415  # not needed for --help

        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(daemon.serve(settings))
        return 0

    return _run(run)


def _run(do: Callable[[], int]) -> int:
    """Do something, and return the exit code of its result."""
    try:
        return do()
    except GozoError as error:
        tell(f"{logs.mark('error')}gozo: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # nothing above would log it
        log.exception("process.failed", error=error)
        return FAILED


def _settings(given: Given) -> ServeSettings:
    level, form = logs.DEFAULT_LEVEL, logs.DEFAULT_FORMAT
    sources = None
    try:
        sources = Sources.load(given)
        settings = resolve_serve(sources)
        level, form = settings.log_level, settings.log_format
    finally:
        logs.configure(level, form=form)
        if sources is not None:
            sources.warn(log)
    return settings


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's if it is installed, since its timers are finer; None means asyncio's."""
    try:
        import uvloop  # noqa: PLC0415  # not needed for --help
    except ImportError:
        return None
    factory: Callable[[], Any] = uvloop.new_event_loop
    return factory


def main() -> int:
    """Run the command line of this process, and return the exit code."""
    answer = completion.answer(app, "gozo")
    if answer is not None:
        sys.stdout.write(answer)
        return 0
    try:
        app(prog_name="gozo")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    return 0
