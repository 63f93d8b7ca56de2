"""The command line of `gozo`: options in, exit code out.

What connects is imported only when it is about to: `--help` stays quick. Nothing of NATS
happens here.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar

import typer

from gozo import __version__, completion, logs
from gozo.errors import GozoError
from gozo.options import CONNECTION, SERVE, Option
from gozo.settings import ServeSettings, resolve_serve
from gozo.sources import Sources

INTERRUPTED = 130  # what a shell reports for a process that ended with Ctrl-C: 128 + SIGINT
FAILED = 1

Given = dict[str, str | bool | None]
"""What stood on a command line, by the options' identifiers."""

Command = TypeVar("Command", bound=Callable[..., None])

log = logs.get_logger("gozo.cli")

app = typer.Typer(
    name="gozo",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def takes(options: Iterable[Option]) -> Callable[[Command], Command]:
    """Give a command the options of a table, after the parameters of its own.

    The command receives them as keyword arguments: a text, a flag, or None where not given.
    They are neither checked here nor looked up in the environment: `gozo.sources` does that,
    so that every source is treated alike.
    """

    def give(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        added = [_parameter(option) for option in options]
        vars(command)["__signature__"] = signature.replace(parameters=[*own, *added])
        return command

    return give


def _parameter(option: Option) -> inspect.Parameter:
    names = [f"--{option.name}/--no-{option.name}" if option.is_flag else f"--{option.name}"]
    if option.letter:
        names.append(f"-{option.letter}")
    known = option.variable
    if option.default and not option.is_secret:
        known = f"{option.variable}; default: {option.default}"
    declared = typer.Option(
        *names,
        help=f"{option.help}. [{known}]",
        metavar=option.metavar or None,
        show_default=False,
        autocompletion=option.offers,
    )
    kind = bool if option.is_flag else str
    return inspect.Parameter(
        option.identifier,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, declared],
    )


def _answer_version(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:  # that is how a line is read to complete it
        typer.echo(f"gozo {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
@takes((*CONNECTION, *SERVE))
def root(
    context: typer.Context,
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_answer_version, is_eager=True
        ),
    ] = False,
    **given: str | bool | None,
) -> None:
    """Schedule messages of NATS: without a command, the same as `gozo serve`.

    Values come from the command line, else from the variable in brackets in the environment,
    else from that variable in ./gozo.env, else in /etc/gozo.env. An empty value counts as not
    set. Keep secrets in the environment or in a file: a command line can be read by others.
    """
    context.obj = given
    if context.invoked_subcommand is None:
        raise typer.Exit(_serve(given))


@app.command()
@takes((*CONNECTION, *SERVE))
def serve(context: typer.Context, **given: str | bool | None) -> None:
    """Take requests, keep schedules, deliver messages when they are due.

    Runs until SIGTERM or Ctrl-C; a second one ends it at once.
    """
    before: Given = context.obj or {}
    raise typer.Exit(_serve(before | {name: one for name, one in given.items() if _is_set(one)}))


def _is_set(value: str | bool | None) -> bool:
    return value is not None and value != ""


def _serve(given: Given) -> int:
    """Run the daemon; returns the exit code."""
    try:
        settings = _settings(given)
        from gozo import daemon  # noqa: PLC0415  # not needed for --help

        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(daemon.serve(settings))
    except GozoError as error:
        _tell(f"gozo: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # the last place that can still tell of it
        log.exception("process.failed", error=error)
        return FAILED
    return 0


def _settings(given: Mapping[str, str | bool | None]) -> ServeSettings:
    level = logs.DEFAULT_LEVEL
    sources = None
    try:
        sources = Sources.load(given)
        settings = resolve_serve(sources)
        level = settings.log_level
    finally:
        logs.configure(level)
        if sources is not None:
            sources.warn(log)
    return settings


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's, whose timers are finer, where it exists; None means asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415  # not needed for --help
    except ImportError:
        return None
    factory: Callable[[], Any] = uvloop.new_event_loop
    return factory


def _tell(message: str) -> None:
    """Write a message for people to stderr; it may hold what a server or a file said."""
    for line in message.splitlines():
        sys.stderr.write(logs.visible(line) + "\n")
    sys.stderr.flush()


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
