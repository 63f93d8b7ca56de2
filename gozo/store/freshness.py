"""How up to date what is known of the bucket is, and what may have been missed.

Delete markers live for a limited time. Where half of that has passed since everything stored was
seen, markers may be gone that were not seen, and the bucket must be loaded anew.
"""

from __future__ import annotations

from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS, NEVER
from gozo.store.index import BucketIndex

COMPARE = 30.0  # seconds between comparisons with the server's count
COMPARE_SOON = 2.0  # seconds until the next one where there is doubt
TIMED_KEYS = 10_000  # keys from which the duration of a load is measured
CLOCK_SLACK_US = MICROSECONDS  # by which the server's clock may differ from what is known of it

log = get_logger("gozo.follower")


class Freshness:
    """Knows until when what was stored has been seen; times are of the steady clock."""

    def __init__(self, index: BucketIndex) -> None:
        self._index = index
        self.turned_at = self.current_at = steady()
        """When the consumer was last looked after; by when what was stored then was seen."""
        self.missed_markers = ""
        """Why markers may be gone that were not seen."""
        self.compare_at = self.turned_at + COMPARE
        """When to compare the count of messages with the server's."""
        self.ahead_us = NEVER
        """What was stored later than this, the server's clock cannot show yet as it is known."""
        self._key_us = 0.0
        """Microseconds for each key when everything was last loaded, where there were many."""

    def turned(self) -> None:
        """Note that the consumer is being looked after, however long that took."""
        self.turned_at = steady()

    def turn(self, *, loads_all: bool) -> float:
        """Look how long it was not up to date, and return the time.

        While everything is loaded, what is read was stored long ago.
        """
        now, life = steady(), self._index.life
        away = now - (self.turned_at if loads_all else self.current_at)
        self.turned_at = now
        self.date()
        self._index.choose_marker_life(self._key_us)
        entries, markers = len(self._index.timetable), len(self._index.timetable.tombstones)
        if away > life.shortest_in_use(entries, markers) / 2:
            self.missed_markers = f"it was not up to date for {away:.1f} s"
        elif away > life.shortest / 2:
            # Where most keys were purged meanwhile, markers live shorter than is known here.
            self.compare_at = min(self.compare_at, now + COMPARE_SOON)
        return now

    def take_missed(self) -> str:
        """Return why markers may be gone, which ends with the next load."""
        reason, self.missed_markers = self.missed_markers, ""
        return reason

    def saw_until(self, at: float) -> None:
        """Note that what was stored by then was seen, or never will be."""
        self.current_at = max(self.current_at, at)

    def date(self) -> None:
        """Have creates dated by the server's clock as it is known now."""
        server_us = self._index.server_us()
        self._index.lateness.set_server_ahead(server_us / MICROSECONDS - steady())
        self.ahead_us = server_us + CLOCK_SLACK_US

    def check_date(self, key: str, sequence: int, stored_us: int, headers: bytes | None) -> None:
        """Look at an entry that was stored later than can be, by the server's clock as known."""
        if stored_us > self._index.server_us() + CLOCK_SLACK_US:
            # It was set, or another server leads the stream: creates are dated by it at once.
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
        """Note that all was loaded, and whether markers may have come and gone meanwhile."""
        self.current_at = now = steady()
        took, life = now - began_at, self._index.life
        entries, markers = len(self._index.timetable), len(self._index.timetable.tombstones)
        self._key_us = took / (entries + markers) * 1e6 if entries + markers > TIMED_KEYS else 0.0
        self._index.choose_marker_life(self._key_us)
        if took > life.shortest_in_use(entries, markers) / 2:
            # Another load would take as long: only if the counts differ.
            log.warning("follower.slow_load", seconds=took, keys=entries + markers)
            self.compare_at = now
