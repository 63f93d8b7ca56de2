"""How commands print messages that arrived."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gozoctl.output import times
from gozoctl.output.payloads import payload_record, preview
from gozoctl.output.printer import TableSpec

if TYPE_CHECKING:
    from gozo.client import Message


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that arrived, and how late it was."""

    message: Message
    late_ms: float | None
    """None if the message does not say when it was due."""


def arrival(message: Message) -> Arrival:
    """Compute how late a message arrived, by this host's clock."""
    late = None
    for name, value in message.headers:
        if name.lower() == "gozo-due":
            try:
                late = (message.at - datetime.fromisoformat(value)).total_seconds() * 1000
            except (ValueError, TypeError):
                late = None
    return Arrival(message, late)


def _late(one: Arrival) -> str:
    return "-" if one.late_ms is None else f"{one.late_ms:.1f}"


def _fields(one: Arrival) -> tuple[str, ...]:
    message = one.message
    return times.utc(message.at), _late(one), message.subject, preview(message.payload)


def _cells(one: Arrival) -> tuple[str, ...]:
    clock = f"{one.message.at.astimezone():%H:%M:%S.%f}"[:-3]
    late = f"{_late(one)} ms" if one.late_ms is not None else "-"
    return clock, late, one.message.subject, preview(one.message.payload)


def _record(one: Arrival) -> dict[str, Any]:
    headers: dict[str, list[str]] = {}
    for name, value in one.message.headers:
        headers.setdefault(name, []).append(value)
    return {
        "subject": one.message.subject,
        "at": times.utc(one.message.at),
        "late_ms": None if one.late_ms is None else round(one.late_ms, 3),
        "headers": headers,
    } | payload_record(one.message.payload)


def _name(one: Arrival) -> str | None:
    return next((value for name, value in one.message.headers if name == "Gozo-Id"), None)


ARRIVALS: TableSpec[Arrival] = TableSpec(
    ("TIME", "LATE_MS", "SUBJECT", "PAYLOAD"), _cells, _fields, _record, _name
)
