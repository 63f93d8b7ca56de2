"""When a delivery that failed is tried again. Pure."""

from __future__ import annotations

from gozo.schedule.model import LONGEST_REASON, MICROSECONDS, Entry, State

FIRST_WAIT_US, LONGEST_WAIT_US = MICROSECONDS // 4, 60 * MICROSECONDS
"""How long a delivery that failed waits for the next attempt: twice as long each time."""


def retried(entry: Entry, reason: str, now_us: int) -> Entry:
    """Return the entry after an attempt that failed: to be tried again, or failed for good."""
    tried = entry.tried + 1
    given_up = 0 < entry.attempts <= tried
    wait_us = min(FIRST_WAIT_US << min(tried - 1, 10), LONGEST_WAIT_US)
    return entry._replace(
        state=State.FAILED if given_up else State.RETRYING,
        tried=tried,
        next_us=now_us + wait_us,
        reason=reason[:LONGEST_REASON].encode("utf-8", "replace").decode(),
    )
