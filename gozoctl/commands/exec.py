"""`gozoctl exec`: runs a command for each message."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozo.errors import SettingsError, UnusableError, invalid_value
from gozo.runtime import logs
from gozo.runtime.log_writer import LogWriter
from gozo.settings import parsers
from gozoctl.options import completion, moments
from gozoctl.session import OPTIONS, Session, connected
from gozoctl.worker.jobs import Answers
from gozoctl.worker.pool import Plan, Worker
from gozoctl.worker.sources import StreamSource, SubjectSource

if TYPE_CHECKING:
    from gozo.client import Client

QUEUE = "gozoctl-exec"
RETRIES = 3


@dataclass(frozen=True, slots=True)
class Source:
    """The options that say where messages come from."""

    queue: Annotated[
        str, typer.Option(metavar="NAME", help="Group of workers that share the messages.")
    ] = QUEUE
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Join no group: receive every message.")
    ] = False
    stream: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Take messages from this JetStream stream.",
            autocompletion=completion.streams,
        ),
    ] = None
    consumer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Pull consumer of the stream to use; created if missing."
        ),
    ] = None
    max_backlog: Annotated[
        str,
        typer.Option(metavar="SIZE", help="Memory for waiting messages; drop the rest."),
    ] = "64MiB"

    def check(self) -> None:
        """Check that they go together.

        Raises:
            SettingsError: they do not.
        """
        if (self.stream is None) != (self.consumer is None):
            raise SettingsError("give both --stream and --consumer, or neither")

    @property
    def backlog_size(self) -> int:
        """The bytes that --max-backlog gives.

        Raises:
            SettingsError: it is invalid.
        """
        try:
            return parsers.read_size(self.max_backlog)
        except UnusableError as error:
            problem = invalid_value("--max-backlog", self.max_backlog, error)
            raise SettingsError(problem) from None


@dataclass(frozen=True, slots=True)
class Running:
    """The options that say how to run the command."""

    retries: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help=f"Retry a failed command up to N times; with --stream only.  [default: {RETRIES}]",
            show_default=False,
        ),
    ] = None
    max_parallel: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="Run up to N commands at a time.")
    ] = 1
    timeout: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="End the command after this time: seconds, or a duration such as 1h30m.",
            show_default=False,
        ),
    ] = None
    kill_after: Annotated[
        str, typer.Option(metavar="TIME", help="Send SIGKILL this long after SIGTERM.")
    ] = "10"
    once: Annotated[
        bool, typer.Option("--once", help="Run for one message, and exit with its exit code.")
    ] = False
    log_output: Annotated[
        bool, typer.Option("--log-output", help="Log each line of output, with the id.")
    ] = False

    def plan(self, command: list[str], *, from_stream: bool) -> Plan:
        """Return what to run, and how.

        Raises:
            SettingsError: an option is invalid, or there is no such command.
        """
        if self.retries is not None and not from_stream:
            raise SettingsError(
                "--retries needs --stream and --consumer: gozo retries messages that have to be "
                "confirmed, as their --attempts say, and others arrive only once"
            )
        if shutil.which(command[0]) is None:
            raise SettingsError(
                f"command {command[0]!r} not found, or not executable: check its name, or give "
                "its path"
            )
        return Plan(
            tuple(command),
            max_parallel=self.max_parallel,
            timeout=None if self.timeout is None else moments.length(self.timeout, "--timeout"),
            kill_after=moments.length(self.kill_after, "--kill-after"),
            once=self.once,
            retries=RETRIES if self.retries is None else self.retries,
        )


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="SUBJECT",
            help="Subject to listen on; * and > are wildcards.",
            autocompletion=completion.subjects,
        ),
    ],
    command: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND", help="Command to run, with its arguments, after --."),
    ],
    *,
    source: Source,
    running: Running,
    **given: Any,
) -> None:
    """Run a command for each message, as cron does for each line.

    The command reads the payload from its standard input. Its environment contains
    `GOZO_MESSAGE_SUBJECT`; `GOZO_MESSAGE_ID` and `GOZO_MESSAGE_DUE` if the message has them; and
    `GOZO_MESSAGE_HEADER_<NAME>` for each header, in upper case and with _ for -. No shell is
    involved. Exit codes are logged to standard error.

    Messages that their receiver has to confirm (`gozoctl create --confirm-reply`) succeed if the
    command exits with 0; otherwise gozo retries them.

    On SIGTERM, SIGINT or SIGHUP it takes no more messages, finishes those that it has or gives them
    back, and exits 0; a second SIGTERM or SIGINT ends running commands.
    """

    async def work(session: Session) -> int:
        level = "error" if session.out.quiet else "info"
        source.check()
        plan = running.plan(command, from_stream=source.stream is not None)
        closed = sys.stderr is None  # by 2>&-
        with LogWriter(
            os.open(os.devnull, os.O_WRONLY) if closed else sys.stderr.fileno()
        ) as writer:
            logs.configure(level, writer)
            try:
                output = writer if running.log_output else None
                if source.stream is not None and source.consumer is not None:
                    names = source.stream, source.consumer
                    return await _pull(session.client, plan, names, subject, output)
                return await _listen(session.client, plan, subject, source, output)
            finally:
                logs.configure(level)

    connected(ctx, given, work)


async def _listen(
    client: Client, plan: Plan, subject: str, source: Source, output: LogWriter | None
) -> int:
    """Run the command for messages that arrive while this runs."""
    queue = None if source.everywhere else source.queue
    most = source.backlog_size
    while True:
        answers = Answers()
        async with client.listen(subject, queue=queue, count=1 if plan.once else None) as listening:
            messages = SubjectSource(listening, client.attempt_of, answers, most)
            worker = Worker(plan, messages, answers, output)
            code = await worker.run(subject=subject, queue=queue)
        if not (plan.once and worker.was_refused):
            return code


async def _pull(
    client: Client, plan: Plan, names: tuple[str, str], subject: str, output: LogWriter | None
) -> int:
    """Run the command for messages that a consumer holds; `names`: the stream, and its own."""
    stream, consumer = names
    async with client.pull(stream, consumer, subject) as pulling:
        worker = Worker(plan, StreamSource(pulling, plan.retries), Answers(), output)
        return await worker.run(subject=subject, stream=stream, consumer=consumer)
