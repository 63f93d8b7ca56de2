"""The state of a schedule after a failed attempt, or when it is too late for one."""

from __future__ import annotations

from gozo.runtime.logs import get_logger
from gozo.schedule.model import Entry, State
from gozo.schedule.retry import expired, retried

log = get_logger("gozo.delivery")
# Not the logger of `failures`: each has its own rate limit, so neither hides lines of the other.


def after_failure(key: str, entry: Entry, reason: str, now_us: int) -> Entry:
    """Return a schedule in its state after a failed attempt, and log the attempt."""
    return _logged(key, retried(entry, reason, now_us))


def after_expiry(key: str, entry: Entry, now_us: int) -> Entry:
    """Return a schedule that is too old to be tried, given up, and log it."""
    return _logged(key, expired(entry, now_us))


def _logged(key: str, new: Entry) -> Entry:
    log.limited(
        "warning",
        "delivery.failed" if new.state is State.FAILED else "delivery.postponed",
        key=key,
        attempts=new.tried,
        reason=new.reason,
    )
    return new
