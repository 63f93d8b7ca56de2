"""Recognizes entries that were stored so late that their writers had given them up.

A create expects that its key is empty. If it is delayed on its way until a later entry was stored
and removed, and even the delete marker is gone, the server stores it after all, and a cancelled
schedule would come back. So each create carries the time when it was written, by the server's
clock. An entry that was stored later than that by more than the life of markers is ignored; and
its writer, which does not know when it was stored, ignores a late answer.

A request without an id is stored under a generated key that another leader does not know: that
leader received the request too, and stores it under another key. A write of the old leader that
was delayed on a dead link may arrive once the new one leads, and would be delivered as well. So an
entry under such a key is ignored if it was delayed for long enough for another replica to take
over.
"""

from __future__ import annotations

from collections.abc import Callable

from gozo.protocol.ids import RESERVED
from gozo.schedule.model import MICROSECONDS
from gozo.store.entry_tokens import token_of, written_us

UNDATED = 20  # bytes; a dated token is longer
RESERVED_SHARE = 0.6
"""The share of the limit that applies to a key that only its writer knows. A standby takes over a
lease some ten seconds after its last renewal, but for up to three of them the old leader may not
know that its link is dead."""


class Lateness:
    """Dates creates, and recognizes late ones."""

    def __init__(self, limit: int) -> None:
        """`limit` is the shortest time that markers live, in seconds."""
        self.in_time = limit / 2
        """Seconds after which an answer is ignored."""
        self.server_ahead = 0.0
        """Seconds that the server's clock is ahead of the steady one; creates are dated by it."""
        self.awaited_by: list[Callable[[str, bytes], bool]] = []
        """Each tells whether it wrote an entry with this key and token a moment ago."""
        self.on_misdated: list[Callable[[str, int], None]] = []
        """Called with the key and revision of an entry that was in time but is dated too early."""
        self._limit_us = limit * MICROSECONDS
        self._reserved_limit_us = int(RESERVED_SHARE * limit * MICROSECONDS)

    def set_server_ahead(self, seconds: float) -> None:
        """Set by how much the server's clock is ahead of the steady one, to date creates."""
        self.server_ahead = seconds

    def is_late(self, key: str, stored_us: int, headers: bytes | None, token: bytes) -> bool:
        """Tell whether an entry was stored too late, and must be ignored."""
        if len(token) <= UNDATED:
            return False
        at_us = written_us(headers, token)
        if not at_us or stored_us <= at_us + self._limit_of(key):
            return False
        # If the server's clock was just set, an entry that is in time seems to be late.
        return not any(awaits(key, token) for awaits in self.awaited_by)

    def check(self, key: str, revision: int, stored_us: int, headers: bytes | None) -> None:
        """Have an entry rewritten that was in time but will seem late to others."""
        at_us = written_us(headers, token_of(headers))
        if at_us and stored_us > at_us + self._limit_of(key):
            for rewrite in self.on_misdated:
                rewrite(key, revision)

    def _limit_of(self, key: str) -> int:
        return self._reserved_limit_us if key.startswith(RESERVED) else self._limit_us
