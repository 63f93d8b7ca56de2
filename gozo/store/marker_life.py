"""How long a delete marker lives. Pure.

A marker tells followers of the bucket that a schedule is gone. So it must outlive a full load, and
any other delay of a follower; but not much, since each marker costs every reader of the bucket.

A few markers cost almost nothing, and live until the removal is safely on disk. Until nats-server
writes its index, only the marker itself records that it replaced an entry: if the server is killed
after the marker's end and before it writes the index, it starts with the entry as if it had never
been removed. Replicas that kept running notice that; one that was started since does not.

Once there are too many, new ones live short until half as many are left. While thousands are
written a second, that is never, so that no others stay for minutes beside them.

The leader chooses the life of each marker when it writes it, in whole seconds: `MarkerLife.chosen`.
Other replicas do not know its choice, but apply the same rule to what they know of the bucket:
`MarkerLife.shortest_in_use(entries, markers)` is never more than the choice of a leader that knows
of as many entries and markers. `SHORTEST` is the lower bound of both.
"""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST = 10  # seconds that a marker lives in a small bucket
USUAL = 60  # seconds at most, unless a full load takes more than half of that
LONGEST = 600  # seconds at most, however long a load takes
SAFE = 180  # seconds; the server writes its index every 120 to 150
FEW = 30_000  # markers that are loaded within 0.45 s, on a slow host too
FEW_AGAIN = 0.5  # the fraction of `FEW` below which markers are few again

ENTRY_US = 30.0  # microseconds that a slow host needs to load an entry
MARKER_US = 15.0  # the same for a marker


@dataclass(frozen=True, slots=True)
class MarkerLife:
    """The rule for the life of markers."""

    shortest: int = SHORTEST
    """Seconds; the server accepts only whole ones."""
    few: int = FEW
    """As long as there are fewer markers than this, they live for `SAFE` seconds."""

    def chosen(self, entries: int, markers: int, key_us: float = 0.0, *, before: int = SAFE) -> int:
        """Return how long a marker that is written now is to live, in seconds.

        `entries` and `markers` are how many of each the bucket holds; `key_us` is how many
        microseconds each took during the last full load; `before` is what was chosen last.
        """
        needed = self._needed(entries, markers, key_us)
        few = self.few if before >= SAFE else self.few * FEW_AGAIN
        return max(needed, SAFE) if markers < few else needed

    def _needed(self, entries: int, markers: int, key_us: float = 0.0) -> int:
        """Return how long followers need a marker, in seconds."""
        load = (entries * max(ENTRY_US, key_us) + markers * max(MARKER_US, key_us)) / 1e6
        # Three times a load allows for growth; beyond a minute it is only twice, or many markers
        # would keep each other alive.
        return int(min(max(self.shortest, min(3 * load, USUAL), 2 * load), LONGEST))

    def shortest_in_use(self, entries: int, markers: int) -> int:
        """Return the shortest life of markers while the bucket holds so many, in seconds."""
        return self._needed(entries, markers)


USUAL_LIFE = MarkerLife()
"""The rule of all replicas."""
