"""The tables in a file of schedules: their keys, and how a schedule is written. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from gozo.client.arguments import microseconds
from gozo.client.confirming import (
    KEYS as CONFIRM,
)
from gozo.client.confirming import (
    NAMES,
    Confirmed,
    ConfirmOptions,
    confirmation_table,
    read_options,
)
from gozo.client.models import Schedule, Wanted
from gozo.client.worker_tables import JOB
from gozo.errors import RequestError
from gozo.protocol.headers import FIRST_LINE, fields
from gozo.schedule import expression as grammar
from gozo.schedule.model import ScheduleSpec
from gozo.schedule.recurrence import expression
from gozo.schedule.spec_headers import spec_lines

SCHEDULES, SET = "schedules", "set"
PAYLOADS = ("payload", "payload-base64", "payload-file")
SPEC: dict[str, type] = {
    "time-zone": str,
    "start": str,
    "until": str,
    "count": int,
    "jitter": str,
    "misfire": str,
    "misfire-grace": str,
}
"""The keys that stand for a header of a request, without `Gozo-`, and their types."""

KEYS: dict[str, type | tuple[type, ...]] = {
    "subject": str,
    "when": str,
    **dict.fromkeys(PAYLOADS, str),
    "headers": list,
    **dict.fromkeys(CONFIRM, str),
    "confirm": (bool, str),
    "attempts": int,
    "backoff": (str, list),
    "keep-output": bool,
    "paused": bool,
    "note": str,
    "protect": bool,
    **SPEC,
    SET: str,
    **JOB,
}
"""The keys that the table of a schedule may have, and their types."""

TIMES = ("when", *SPEC)
"""The keys that determine when it is due."""


def schedule_table(one: Schedule | Wanted, when: str) -> dict[str, Any]:
    """Return the table of a schedule that is due at `when`."""
    table: dict[str, Any] = {"subject": one.subject, "when": when}
    payload = one.payload or b""
    try:
        if payload:
            table["payload"] = payload.decode()
    except UnicodeDecodeError:
        table["payload-base64"] = base64.b64encode(payload).decode()
    if one.headers:
        table["headers"] = [f"{name}: {value}" for name, value in one.headers]
    return table | confirmation_table(confirmed(one)) | spec_table(one.spec)


def confirmed(one: Schedule | Wanted) -> Confirmed:
    """Return how a schedule is confirmed.

    Raises:
        RequestError: the wanted schedule is invalid.
    """
    if isinstance(one, Schedule):
        return Confirmed(one.confirm is True, one.attempts, one.confirmation)
    options = cast("ConfirmOptions", {name: getattr(one, name) for name in NAMES})
    return read_options(options, recurs=one.spec is not None and one.spec.recurs)


def when_of(schedule: Schedule) -> str:
    """Return the expression of a schedule; for a delay, the moment to which it resolved."""
    due = grammar.At(microseconds(schedule.due))
    try:
        when = expression(schedule.when)
    except RequestError:
        pass  # a client stored it with a due time and its own expression
    else:
        if not isinstance(when, grammar.Moment) or when == due:
            return schedule.when
    return schedule.due.isoformat().replace("+00:00", "Z")


def pause_table(paused: bool | None, note: str) -> dict[str, Any]:
    """Return the keys that say whether it is paused; None omits them."""
    if paused is None:
        return {}
    return {"paused": paused} | ({"note": note} if paused and note else {})


def protect_table(protected: bool | None) -> dict[str, Any]:
    """Return the key that says whether it is protected; None omits it."""
    return {} if protected is None else {"protect": protected}


def set_table(name: str) -> dict[str, Any]:
    """Return the key that names the set; an empty name omits it."""
    return {SET: name} if name else {}


def spec_table(spec: ScheduleSpec | None) -> dict[str, Any]:
    """Return the keys of a spec, with the values that an entry's headers have."""
    said = None if spec is None else replace(spec, occurred=0, last_us=0, reckoned_us=0)
    lines = b"" if said is None else spec_lines(said)
    found = {name[5:].decode(): value.decode() for name, value in fields(FIRST_LINE + lines)}
    return {key: int(value) if KEYS[key] is int else value for key, value in found.items()}


def dumped(content: Mapping[str, Any]) -> str:
    """Write TOML with every character printable: the content may come from others."""
    import tomli_w  # noqa: PLC0415  # for files only

    return "\n".join(map(printable, tomli_w.dumps(content).split("\n")))


def printable(text: str) -> str:
    """Escape unprintable characters as TOML does."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\U{ord(char):08X}" for char in text)


def toml_key(key: str) -> str:
    """Write a key, in quotation marks if TOML requires them."""
    return dumped({key: 0}).rpartition(" = ")[0]
