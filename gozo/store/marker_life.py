"""How long a delete marker lives. Pure.

A marker is there for followers of the bucket: one that reads on from where it was learns from it
that a schedule is gone. So it has to outlive a full load, and whatever else keeps a follower from
reading; and for no longer than that, since each marker costs every reader of the bucket.

Few cost nothing to speak of, and are to live until a removal is safely on disk. nats-server notes
that a marker took an entry's place only through the marker itself, until it writes its index: if
it is killed after the marker's end and before that, it starts with the entry as if it had never
been removed. Replicas that ran all the while notice; one that was started since does not.

The leader chooses a life for each marker as it writes it: `MarkerLife.chosen(entries, markers,
key_us)`, in whole seconds. Others do not know what it chose, but reckon with the same rule from
what they know of the bucket: `MarkerLife.shortest_in_use(entries, markers)` is never more than
what a leader chooses that knows of as many entries and markers. `SHORTEST` bounds both from below.
"""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST = 10  # seconds that a marker lives where little is stored
USUAL = 60  # seconds at most, unless a full load takes half of that
LONGEST = 600  # seconds, whatever a load takes
SAFE = 180  # seconds; the server writes its index every 120, or up to 150
FEW = 30_000  # markers that are loaded within 0.45 s, on a slow host too

ENTRY_US = 30.0  # microseconds that a slow host takes at most to load an entry
MARKER_US = 15.0  # the same for a marker


@dataclass(frozen=True, slots=True)
class MarkerLife:
    """The rule by which markers live."""

    shortest: int = SHORTEST
    """Seconds; the server takes whole ones."""
    few: int = FEW
    """How many markers there may be until others must not live for `SAFE` seconds."""

    def chosen(self, entries: int, markers: int, key_us: float = 0.0) -> int:
        """Return the seconds that a marker is to live which is written now.

        `entries` and `markers` are how many of each the bucket holds; `key_us` is what each
        took when everything was last loaded, in microseconds.
        """
        needed = self._needed(entries, markers, key_us)
        return max(needed, SAFE) if markers < self.few else needed

    def _needed(self, entries: int, markers: int, key_us: float = 0.0) -> int:
        """Return the seconds that followers need."""
        load = (entries * max(ENTRY_US, key_us) + markers * max(MARKER_US, key_us)) / 1e6
        # Three times a load leaves room for more of everything; beyond a minute twice has to do,
        # or many markers would keep each other alive.
        return int(min(max(self.shortest, min(3 * load, USUAL), 2 * load), LONGEST))

    def shortest_in_use(self, entries: int, markers: int) -> int:
        """Return the fewest seconds that markers live, while the bucket holds so much."""
        return self._needed(entries, markers)


USUAL_LIFE = MarkerLife()
"""The rule that all replicas follow."""
