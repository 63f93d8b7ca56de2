"""`gozoctl send`: sends a request as a client would."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozo.errors import SettingsError
from gozo.schedule.model import Confirm
from gozoctl.exit_codes import DONE, NO_ANSWER
from gozoctl.options import completion
from gozoctl.options.confirmation import TimeCheck
from gozoctl.options.message import Message, Payload, read_payload
from gozoctl.options.timing import Timing, naming
from gozoctl.output.arrivals import ARRIVALS, arrival
from gozoctl.output.printer import Lines, Output
from gozoctl.output.stored import print_stored, stored_record
from gozoctl.session import OPTIONS, Session, connected

if TYPE_CHECKING:
    from gozo.client import Listening, Stored

MARK = "Gozoctl-Send"
"""A header that distinguishes the delivery of this request from others."""

GRACE = 10.0  # seconds to wait for a delivery after its due time


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="SUBJECT", help="Subject to deliver to.", autocompletion=completion.subjects
        ),
    ],
    text: Payload = None,
    *,
    timing: Timing,
    id_: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Id of the schedule.")
    ] = None,
    message: Message,
    time_check: TimeCheck,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the delivery, and print how late it was.")
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="With --wait, give up this long after the due time.", min=0.0
        ),
    ] = GRACE,
    **given: Any,
) -> None:
    """Send a request to the daemon, as a client would.

    Asks for a receipt and prints the id and the due time from it. Recurring schedules need --id.
    """

    async def work(session: Session) -> int:
        mark, payload = secrets.token_hex(8), read_payload(text)
        headers = message.headers + ([(MARK, mark)] if wait else [])

        async def request() -> Stored:
            with naming(timing.given[0]):
                stored = await session.client.request(
                    subject,
                    payload,
                    when=timing.expression,
                    id=id_,
                    headers=headers,
                    receipt=True,
                    **(timing.options() | message.options()),
                )
            assert stored is not None
            return stored

        if not wait:
            print_stored(session.out, await request(), timing.zone)
            return DONE
        async with session.client.listen(subject) as messages:
            return await _await_delivery(session, messages, mark, await request(), timeout)

    def agree(out: Output) -> bool:
        return _may_wait(message, wait) and time_check.agree(out, timing, text, message)

    connected(ctx, given, work, before=agree)


def _may_wait(message: Message, wait: bool) -> bool:
    """Return True; refuse to `wait` for a message that its receiver must answer."""
    if wait and message.options()["confirm"] in (Confirm.REPLY, Confirm.CLAIM):
        raise SettingsError(
            "--wait receives the message and does not answer it: omit it with --confirm-reply and "
            "--confirm-claim (gozoctl events shows how the receiver answers)"
        )
    return True


async def _await_delivery(
    session: Session, messages: Listening, mark: str, stored: Stored, grace: float
) -> int:
    """Print a receipt, then the delivery that belongs to it."""
    out = session.out
    if out.is_json:
        out.json(stored_record(stored))
    else:
        out.say(f"stored, due {out.moment(stored.due)}")
    out.flush()
    bound = max((stored.due - datetime.now(UTC)).total_seconds(), 0) + grace
    try:
        async with asyncio.timeout(bound):
            async for message in messages:
                if (MARK, mark) in message.headers:
                    Lines(out, ARRIVALS).put(arrival(message))
                    return DONE
    except TimeoutError:
        out.fail(f"no delivery within {grace:g} s after the due time")
    return NO_ANSWER
