"""What a failed attempt makes of a schedule in the bucket."""

from __future__ import annotations

from gozo.runtime.logs import get_logger
from gozo.schedule.model import Entry, State
from gozo.schedule.retry import retried

log = get_logger("gozo.delivery")
# Not that of `failures`: each has its own limit of lines, so neither hides the other's.


def after_failure(key: str, entry: Entry, reason: str, now_us: int) -> Entry:
    """Return a schedule as it is after a failed attempt, and log that."""
    new = retried(entry, reason, now_us)
    log.limited(
        "warning",
        "delivery.failed" if new.state is State.FAILED else "delivery.postponed",
        key=key,
        attempts=new.tried,
        reason=new.reason,
    )
    return new
