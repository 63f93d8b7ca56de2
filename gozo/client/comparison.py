"""Compares a schedule with a wanted one. Pure."""

from __future__ import annotations

from gozo.client.arguments import microseconds
from gozo.client.confirming import KEYS as CONFIRM
from gozo.client.confirming import confirmation_table
from gozo.client.manifest_tables import SET, SPEC, confirmed, pause_table, spec_table
from gozo.client.models import Schedule, Wanted
from gozo.schedule import expression as grammar
from gozo.schedule.model import State


def is_paused(schedule: Schedule) -> bool:
    """Return whether a schedule is paused."""
    return schedule.state == State.PAUSED


def changed(wanted: Wanted, schedule: Schedule) -> tuple[str, ...]:
    """Return the keys in which a schedule, with its payload, differs from a wanted one."""
    differs = {
        "subject": wanted.subject != schedule.subject,
        "when": not means(wanted.when, schedule),
        "payload": wanted.payload != (schedule.payload or b""),
        "headers": wanted.headers != schedule.headers,
    }
    old, new = confirmation_table(confirmed(schedule)), confirmation_table(confirmed(wanted))
    differs |= {key: old.get(key) != new.get(key) for key in CONFIRM}
    if wanted.paused is not None:
        old = pause_table(is_paused(schedule), schedule.reason)
        new = pause_table(wanted.paused, wanted.note)
        differs |= {key: old.get(key) != new.get(key) for key in ("paused", "note")}
    if wanted.protect is not None:
        differs["protect"] = wanted.protect != schedule.protected
    old, new = spec_table(schedule.spec), spec_table(wanted.spec)
    differs |= {key: old.get(key) != new.get(key) for key in SPEC}
    differs[SET] = wanted.managed_by != schedule.managed_by
    return tuple(key for key, differ in differs.items() if differ)


def means(text: str, schedule: Schedule) -> bool:
    """Return whether an expression is that of a schedule, or the moment to which it resolved."""
    if text == schedule.when:
        return True
    when = grammar.parse(text)
    return isinstance(when, grammar.At) and when.us == microseconds(schedule.due)


def is_past(text: str, now_us: int) -> bool:
    """Return whether an expression names a moment in the past."""
    when = grammar.parse(text)
    return isinstance(when, grammar.At) and when.us < now_us
