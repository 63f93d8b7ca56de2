"""Converts the arguments of callers that say how a delivery is confirmed to entries. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypedDict

from gozo.client.spans import Span, Spans, span_text, spans_text
from gozo.protocol.confirmation import confirmation_lines, read_confirmation
from gozo.protocol.headers import FIRST_LINE, fields
from gozo.schedule.model import Confirm, Confirmation
from gozo.schedule.model import Overlap as OverlapPolicy

ConfirmedBy = bool | Literal["stream", "reply", "claim"] | Confirm
"""What has to confirm a delivery; True is a stream, False nothing."""

Overlap = Literal["allow", "skip", "queue"] | OverlapPolicy
"""What to do with an occurrence that is due while an earlier one is not settled."""


class ConfirmOptions(TypedDict, total=False):
    """How a delivery is confirmed.

    A duration is a timedelta, or a string: seconds, or such as `1h30m`.
    """

    confirm: ConfirmedBy
    """What has to confirm it."""
    attempts: int
    """Maximum number of attempts; 0: no limit."""
    ack_wait: Span | None
    """How long a receiver may be silent; default: 30 s."""
    backoff: Spans | None
    """The waits between attempts (`1s,10s`, or a list), of which the last repeats; default: from
    1 s, doubling to 1 min."""
    max_age: Span | None
    """How long after its due time it may be tried."""
    overlap: Overlap | None
    """What to do with an occurrence that is due while an earlier one is not settled: send it too
    (`allow`), skip it (`skip`) or let it wait (`queue`)."""
    dead_letter: str | None
    """The subject on which the message is published if it is given up."""
    ttl: Span | None
    """How long a stream keeps the message."""
    keep_output: bool
    """Whether the output that its receiver sends is kept; see `Client.output`."""
    expect: Span | None
    """The time from its due time within which it should succeed; else it is reported as overdue."""


class Confirmed(NamedTuple):
    """How a delivery is confirmed, as in an entry."""

    by_stream: bool
    attempts: int
    details: Confirmation | None


def _by_text(by: ConfirmedBy) -> str:
    return "stream" if by is True else str(by)


_WRITE: dict[str, Callable[[Any], str]] = {
    "confirm": _by_text,
    "attempts": str,
    "ack_wait": span_text,
    "backoff": spans_text,
    "max_age": span_text,
    "overlap": str,
    "dead_letter": str,
    "ttl": span_text,
    "keep_output": lambda kept: "yes" if kept else "no",
    "expect": span_text,
}
"""How the values of the options are written in headers of a request."""

NAMES = tuple(_WRITE)
"""The names of the options."""

KEYS = tuple(name.replace("_", "-") for name in NAMES)
"""Their names in files, and in headers after `Gozo-`."""


def read_options(options: ConfirmOptions, *, recurs: bool) -> Confirmed:
    """Read the options as the daemon reads the headers of a request.

    `recurs` is whether the schedule does.

    Raises:
        RequestError: as for `read_confirmation`.
    """
    given = {
        f"gozo-{key}".encode(): write(value).encode("utf-8", "surrogatepass")
        for key, (name, write) in zip(KEYS, _WRITE.items(), strict=True)
        if (value := options.get(name)) is not None and value is not False
        if name != "attempts" or value
    }
    return Confirmed(*read_confirmation(given, recurs=recurs))


def confirmation_table(confirmed: Confirmed) -> dict[str, Any]:
    """Return the keys of a file that say how a delivery is confirmed."""
    lines = confirmation_lines(*confirmed)
    table: dict[str, Any] = {
        name[5:].decode(): value.decode() for name, value in fields(FIRST_LINE + lines)
    }
    if confirmed.by_stream:
        table["confirm"] = True
    if confirmed.attempts:
        table["attempts"] = confirmed.attempts
    if "keep-output" in table:
        table["keep-output"] = True
    return table
