"""How commands print schedules that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gozoctl.output import times
from gozoctl.output.printer import Cell, TableSpec
from gozoctl.output.runs import STYLES

if TYPE_CHECKING:
    from gozo.client import Failing


def _fields(one: Failing) -> tuple[str, ...]:
    return (
        one.id or one.key,
        one.result,
        "" if one.due is None else times.utc(one.due),
        "" if one.at is None else times.utc(one.at),
        one.host,
        "" if one.exit_status is None else str(one.exit_status),
        one.subject,
        one.reason,
    )


def _cells(one: Failing) -> tuple[Cell, ...]:
    return (
        (one.id or one.key, "bold"),
        (one.result, STYLES.get(one.result, "")),
        "-" if one.due is None else times.local(one.due),
        one.host or "-",
        "-" if one.exit_status is None else str(one.exit_status),
        one.reason,
    )


def _record(one: Failing) -> dict[str, Any]:
    return {
        "id": one.id,
        "subject": one.subject,
        "result": one.result,
        "due": None if one.due is None else times.utc(one.due),
        "at": None if one.at is None else times.utc(one.at),
        "host": one.host,
        "exit_status": one.exit_status,
        "reason": one.reason,
    }


def _name(one: Failing) -> str | None:
    return one.id


FAILING: TableSpec[Failing] = TableSpec(
    ("ID", "RESULT", "DUE", "AT", "HOST", "EXIT", "SUBJECT", "REASON"),
    _cells,
    _fields,
    _record,
    _name,
    ("ID", "RESULT", "DUE", "HOST", "EXIT", "REASON"),
)
