"""When a failed delivery is tried again, and when it is given up. Pure.

A delivery is given up after `Gozo-Attempts` attempts, or if the next one would be later than
`Gozo-Max-Age` allows. An occurrence of a recurring schedule that has a dead
letter and no such age is given up when the next one is due.
"""

from __future__ import annotations

from hashlib import blake2b

from gozo.schedule import expression as grammar
from gozo.schedule.model import (
    LONGEST_REASON,
    LONGEST_WAIT_US,
    MICROSECONDS,
    NEVER,
    Entry,
    State,
)
from gozo.schedule.recurrence import due_times, jitter_us

FIRST_WAIT_US = MICROSECONDS // 4
"""The wait before the next attempt doubles each time, from this to the longest."""


SPREAD = 5
"""Each wait is longer by up to this part of it: what failed at one moment is not tried again at
one moment."""


def spread_us(name: str, wait_us: int) -> int:
    """Return a wait with a random part, which is always the same for a name."""
    number = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
    return wait_us + number % (wait_us // SPREAD + 1)


def retried(entry: Entry, reason: str, now_us: int) -> Entry:
    """Return the entry after a failed attempt: to be tried again, or given up."""
    tried = entry.tried + 1
    entry = entry._replace(tried=tried)
    if 0 < entry.attempts <= tried:
        return given_up(entry, reason, now_us)
    next_us = now_us + min(FIRST_WAIT_US << min(tried - 1, 10), LONGEST_WAIT_US)
    if next_us > _last_us(entry):
        return given_up(entry, reason, now_us)
    return entry._replace(state=State.RETRYING, next_us=next_us, reason=shortened(reason))


def given_up(entry: Entry, reason: str, now_us: int) -> Entry:
    """Return the entry as it is kept once it is not tried again; its dead letter is due now."""
    return entry._replace(state=State.FAILED, next_us=now_us, reason=shortened(reason))


def expired(entry: Entry, now_us: int) -> Entry:
    """Return an entry that is too old to be tried, given up."""
    assert entry.confirmation is not None
    age = grammar.print_span(entry.confirmation.max_age_us)
    if not entry.tried:
        return given_up(entry, f"it could not be tried within {age} of its due time", now_us)
    return given_up(entry, entry.reason, now_us)


def is_expired(entry: Entry, now_us: int) -> bool:
    """Tell whether an entry is too old to be tried."""
    return now_us > expiry_us(entry) and entry.state is not State.FAILED


def expiry_us(entry: Entry) -> int:
    """Return until when `Gozo-Max-Age` allows an entry to be tried; its jitter does not count."""
    if entry.confirmation is None or not entry.confirmation.max_age_us:
        return NEVER
    wanted_us = entry.due_us + jitter_us(entry, entry.due_us)
    return min(wanted_us + entry.confirmation.max_age_us, grammar.LAST_US)


def _last_us(entry: Entry) -> int:
    """Return until when an entry may be tried again."""
    last_us = expiry_us(entry)
    confirmation = entry.confirmation
    if last_us == NEVER and entry.recurs and confirmation is not None and confirmation.dead_letter:
        return next(due_times(entry, entry.due_us), NEVER)
    return last_us


def shortened(reason: str) -> str:
    """Return a reason that may come from others, with the text and length that entries allow."""
    return " ".join(reason.split())[:LONGEST_REASON].encode("utf-8", "replace").decode()
