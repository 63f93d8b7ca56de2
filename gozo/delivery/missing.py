"""Due messages that are not in memory: others wait for them, but not for long."""

from __future__ import annotations

from collections import deque

from gozo.delivery.failures import Failures
from gozo.delivery.source import Due
from gozo.runtime.clock import steady
from gozo.store.message_cache import MessageCache

LONGEST_SILENCE = 0.25  # seconds that others wait while no message arrives from the bucket
LONGEST_STALL = 2.0  # seconds that others wait for one message, even if others arrive
UNREADABLE = "its message cannot be read from the bucket yet"


class MissingMessages:
    """Fetches missing messages, and removes items from the queue whose messages do not arrive."""

    def __init__(self, cache: MessageCache, failures: Failures) -> None:
        self._cache = cache
        self._failures = failures
        self._stalled: tuple[Due, float] | None = None
        """The head of the queue, and since when others wait for it."""

    def note_progress(self) -> None:
        """Note that messages are being sent: nothing has waited for long."""
        self._stalled = None

    def wait_for_head(self, queue: deque[Due]) -> bool:
        """Fetch missing messages; False if that took too long and items were postponed."""
        missing = [
            due for due in queue if due[1].message(due[0]) is None and due[1].is_current(due[0])
        ]
        apart = {due for due in missing if self._cache.was_absent(due[0])}
        for due in missing:
            if due not in apart:
                self._cache.fetch(due[0])
        head, now = missing[0], steady()
        if self._stalled is None or self._stalled[0] != head:
            self._stalled = (head, now)
        if apart:
            pass  # Purged, or just replaced: the follower will notice.
        elif self._failures.was_postponed(head[0]):
            # Others have waited for it before.
            apart = {due for due in missing if self._failures.was_postponed(due[0])}
        elif self._cache.is_overdue(head[0], LONGEST_SILENCE):
            apart = {due for due in missing if self._cache.is_overdue(due[0], LONGEST_SILENCE)}
        elif now - self._stalled[1] > LONGEST_STALL:
            apart = {head}
        else:
            return True
        self._stalled = None
        rest = [due for due in queue if due not in apart]
        queue.clear()
        queue.extend(rest)
        for due in apart:
            self._failures.postpone(due, UNREADABLE, unread=True)
        return False
