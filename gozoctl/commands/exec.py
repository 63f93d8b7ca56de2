"""`gozoctl exec`: a command for each message, as cron runs one for each line."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozo.errors import SettingsError, UnusableError
from gozo.runtime import logs
from gozo.settings import parsers as values
from gozoctl.options import completion as completing
from gozoctl.options import moments
from gozoctl.session import OPTIONS, Session, connected
from gozoctl.worker.pool import Job, Plan, Worker

if TYPE_CHECKING:
    from gozo.client import Client

QUEUE = "gozoctl-exec"
RETRIES = 3

log = logs.get_logger("gozo.exec")


@takes(OPTIONS)
def exec_(
    ctx: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="SUBJECT",
            help="Where to listen; * and > are wildcards.",
            autocompletion=completing.subjects,
        ),
    ],
    command: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND", help="What to run, with its arguments, after --."),
    ],
    *,
    queue: Annotated[
        str, typer.Option(metavar="NAME", help="Of all workers in this group, one gets a message.")
    ] = QUEUE,
    everywhere: Annotated[
        bool,
        typer.Option("--everywhere", help="Belong to no group: get all messages that others get."),
    ] = False,
    stream: Annotated[
        str | None, typer.Option(metavar="NAME", help="Take messages from this JetStream stream.")
    ] = None,
    consumer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Take them from this pull consumer of the stream; it is created if need be.",
        ),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help=f"Run it so often again for a message of a consumer; {RETRIES} if not given.",
            show_default=False,
        ),
    ] = None,
    max_parallel: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="Run so many at the same time.")
    ] = 1,
    max_backlog: Annotated[
        str,
        typer.Option(metavar="SIZE", help="Memory for messages that wait; more are dropped."),
    ] = "64MiB",
    timeout: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="End it after so long: seconds, or a duration such as 1h30m.",
            show_default=False,
        ),
    ] = None,
    kill_after: Annotated[
        str, typer.Option(metavar="TIME", help="Kill what has not ended so long after SIGTERM.")
    ] = "10",
    once: Annotated[
        bool, typer.Option("--once", help="Run it for one message, and exit with its status.")
    ] = False,
    log_output: Annotated[
        bool,
        typer.Option("--log-output", help="Log what it prints, a line an event, with the id."),
    ] = False,
    **given: Any,
) -> None:
    """Run a command for each message, as cron does for each line.

    The payload is its standard input. In its environment are `GOZO_MESSAGE_SUBJECT`,
    `GOZO_MESSAGE_ID` and `GOZO_MESSAGE_DUE`, where the message has them, and
    `GOZO_MESSAGE_HEADER_<NAME>` for each header, in upper case and with _ for -. No shell is
    involved. How it ended is logged to standard error.

    SIGTERM, SIGINT and SIGHUP wait for what runs, and exit 0; a second SIGTERM or SIGINT ends it.
    """

    async def work(session: Session) -> int:
        logs.configure("error" if session.out.quiet else "info")
        if (stream is None) != (consumer is None):
            raise SettingsError("give --stream and --consumer together, or none of them")
        if retries is not None and stream is None:
            raise SettingsError(
                "--retries goes with --stream and --consumer: other messages come once"
            )
        if shutil.which(command[0]) is None:
            raise SettingsError(
                f"the command {command[0]!r} is not there, or may not be executed: mend its "
                "name, or give its path"
            )
        plan = Plan(
            tuple(command),
            max_parallel=max_parallel,
            timeout=None if timeout is None else moments.length(timeout, "--timeout"),
            kill_after=moments.length(kill_after, "--kill-after"),
            log_output=log_output,
            once=once,
            retries=RETRIES if retries is None else retries,
        )
        if stream is not None and consumer is not None:
            return await _pull(session.client, plan, stream, consumer, subject)
        group = None if everywhere else queue
        return await _listen(session.client, plan, subject, group, _size(max_backlog))

    connected(ctx, given, work)


async def _listen(
    client: Client, plan: Plan, subject: str, queue: str | None, max_backlog: int
) -> int:
    """Work for the messages that come while this runs."""
    count = 1 if plan.once else None
    listening = client.listen(subject, queue=queue, count=count, max_backlog=max_backlog)

    async def take() -> Job:
        return Job(await anext(listening))

    async with listening:
        worker = Worker(plan, take, listening.stop)
        code = await worker.run(subject=subject, queue=queue)
    if listening.waiting:
        log.warning("exec.dropped", messages=listening.waiting, reason="ended before their turn")
    return code


async def _pull(client: Client, plan: Plan, stream: str, consumer: str, subject: str) -> int:
    """Work for the messages that a consumer keeps."""
    async with client.pull(stream, consumer, subject) as pulling:

        async def take() -> Job:
            pulled = await pulling.take()
            return Job(pulled.message, pulled)

        worker = Worker(replace(plan, ack_wait=pulling.ack_wait), take, lambda: None)
        return await worker.run(subject=subject, stream=stream, consumer=consumer)


def _size(text: str) -> int:
    try:
        return values.read_size(text)
    except UnusableError as error:
        raise SettingsError(f"the value {text!r} of --max-backlog {error}") from None
