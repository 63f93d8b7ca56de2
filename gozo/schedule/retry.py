"""When a failed delivery is retried. Pure."""

from __future__ import annotations

from gozo.schedule.model import LONGEST_REASON, MICROSECONDS, Entry, State

FIRST_WAIT_US, LONGEST_WAIT_US = MICROSECONDS // 4, 60 * MICROSECONDS
"""The wait before the next attempt doubles each time, from the first to the longest."""


def retried(entry: Entry, reason: str, now_us: int) -> Entry:
    """Return the entry after a failed attempt: to be retried, or failed for good."""
    tried = entry.tried + 1
    given_up = 0 < entry.attempts <= tried
    wait_us = min(FIRST_WAIT_US << min(tried - 1, 10), LONGEST_WAIT_US)
    return entry._replace(
        state=State.FAILED if given_up else State.RETRYING,
        tried=tried,
        next_us=now_us + wait_us,
        reason=reason[:LONGEST_REASON].encode("utf-8", "replace").decode(),
    )
