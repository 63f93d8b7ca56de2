"""How up to date the index is, and whether it may have missed delete markers.

Delete markers live for a limited time. If the index was not up to date for half of that time, it
may have missed markers that are gone now, and the bucket must be reloaded.
"""

from __future__ import annotations

from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS, NEVER
from gozo.store.index import BucketIndex

COMPARE = 30.0  # seconds between comparisons with the server's count
COMPARE_SOON = 2.0  # seconds until the next one if in doubt
TIMED_KEYS = 10_000  # the duration of a load is measured from this many keys
CLOCK_SLACK_US = MICROSECONDS  # error of the estimate of the server's clock

log = get_logger("gozo.follower")


class Freshness:
    """Knows up to which time everything stored has been read; times are of the steady clock."""

    def __init__(self, index: BucketIndex) -> None:
        self._index = index
        self.turned_at = self.current_at = steady()
        """When the consumer was last checked; up to when everything stored has been read."""
        self.missed_markers = ""
        """Why markers may have been missed; empty if none were."""
        self.compare_at = self.turned_at + COMPARE
        """When to compare the count of messages with the server's."""
        self.ahead_us = NEVER
        """Entries stored later than this are ahead of the server's clock as estimated."""
        self._key_us = 0.0
        """Microseconds for each key during the last full load of many keys."""

    def turned(self) -> None:
        """Note that the consumer is being checked, however late."""
        self.turned_at = steady()

    def turn(self, *, loads_all: bool) -> float:
        """Note for how long the index was not up to date, and return the present time.

        During a full load (`loads_all`), messages that are read were stored long ago.
        """
        now, life = steady(), self._index.life
        away = now - (self.turned_at if loads_all else self.current_at)
        self.turned_at = now
        self.date()
        self._index.choose_marker_life(self._key_us)
        entries, markers = len(self._index.timetable), len(self._index.timetable.tombstones)
        if away > life.shortest_in_use(entries, markers) / 2:
            self.missed_markers = f"not up to date for {away:.1f} s"
        elif away > life.shortest / 2:
            # If most keys were purged meanwhile, markers live shorter than estimated here.
            self.compare_at = min(self.compare_at, now + COMPARE_SOON)
        return now

    def take_missed(self) -> str:
        """Return why markers may have been missed, and clear it: the next load reads everything."""
        reason, self.missed_markers = self.missed_markers, ""
        return reason

    def saw_until(self, at: float) -> None:
        """Note that everything stored up to a time was read, or never will be."""
        self.current_at = max(self.current_at, at)

    def date(self) -> None:
        """Date creates by the present estimate of the server's clock."""
        server_us = self._index.server_us()
        self._index.lateness.set_server_ahead(server_us / MICROSECONDS - steady())
        self.ahead_us = server_us + CLOCK_SLACK_US

    def check_date(self, key: str, sequence: int, stored_us: int, headers: bytes | None) -> None:
        """Check an entry that was stored in the future, by the server's clock as estimated."""
        if stored_us > self._index.server_us() + CLOCK_SLACK_US:
            # The clock was set, or another server leads the stream: creates follow it at once.
            lateness = self._index.lateness
            lateness.set_server_ahead(
                max(lateness.server_ahead, stored_us / MICROSECONDS - steady())
            )
            self.compare_at = 0.0
            lateness.check(key, sequence, stored_us, headers)

    def compared(self, *, in_doubt: bool) -> None:
        """Note that the counts were compared."""
        self.turned()
        self.compare_at = self.turned_at + (COMPARE_SOON if in_doubt else COMPARE)

    def loaded(self, began_at: float) -> None:
        """Note that a load is complete, and whether markers may have come and gone meanwhile."""
        self.current_at = now = steady()
        took, life = now - began_at, self._index.life
        entries, markers = len(self._index.timetable), len(self._index.timetable.tombstones)
        self._key_us = took / (entries + markers) * 1e6 if entries + markers > TIMED_KEYS else 0.0
        self._index.choose_marker_life(self._key_us)
        if took > life.shortest_in_use(entries, markers) / 2:
            # Another load would take as long: reload only if the counts differ.
            log.warning("follower.slow_load", seconds=took, keys=entries + markers)
            self.compare_at = now
