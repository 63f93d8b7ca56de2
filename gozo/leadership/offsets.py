"""How far one replica's count of requests is ahead of another's. Pure.

Both replicas count the requests that they receive on the same subjects, each from its own start.
While both receive everything, the difference is constant, and so is the difference between the
positions of a request, unless servers deliver requests of several clients in different orders.

The leader's messages show the difference. The leader receives them too: if it states its count
when its message 7 came back, and a standby knows its own count when it received the same message,
the difference is exact, however far either lags. Until there is such a sample, the count that the
leader states when it sends a message is an upper bound: the message comes after all requests that
the leader had counted.

In a cluster, a request may reach the leader after the leader's message reaches a standby, which
makes samples too high; on one server, messages of two clients may cross, about one in a thousand.
So the estimate is one of the lower of the latest samples, neither the mean nor the minimum of all.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from gozo.leadership.feed_messages import FeedMessage, Place

SAMPLES = 16  # the latest samples are kept
ENOUGH_SAMPLES = 2  # samples before the estimate is trusted
ECHOES = 4  # samples that a leader provides when it begins to receive or lead
FIRST = 0  # no request has this position: requests are counted from 1
RECENT = 256  # messages of the leader whose echo may still come


class Offset:
    """The number to add to another replica's positions, for one subscription of each."""

    def __init__(self) -> None:
        self.value: int | None = None
        """None while unknown."""
        self._samples: deque[int] = deque(maxlen=SAMPLES)
        self._counts: dict[int, int] = {}
        """This replica's counts when the latest messages of a term arrived, by message number."""
        self._term = b""
        self._echoed = 0

    @property
    def is_settled(self) -> bool:
        """Whether the offset is based on enough samples."""
        return len(self._samples) >= ENOUGH_SAMPLES

    @property
    def spread(self) -> int:
        """How far the samples differ: 0 while both replicas receive everything in the same order.

        A busy server may pass on a whole batch of requests to the two before and after a message,
        so of four or more samples the greatest and the smallest do not count.
        """
        some = sorted(self._samples)
        if len(some) >= ECHOES:
            some = some[1:-1]
        return some[-1] - some[0] if some else 0

    def note(self, message: FeedMessage, place: Place, count: int) -> None:
        """Process a message that arrived when this replica's count was `count`."""
        if message.term != self._term:
            self._term = message.term
            self._echoed = 0
            self._counts.clear()
        self._counts[message.number] = count
        if len(self._counts) > RECENT:
            del self._counts[next(iter(self._counts))]
        own = self._counts.get(place.echoed)
        if own is not None and place.echoed > self._echoed:
            self._echoed = place.echoed
            self._samples.append(own - place.echoed_count)
            self.value = sorted(self._samples)[len(self._samples) // 4]
        elif place.heard and not self._samples:
            bound = count - place.heard
            self.value = bound if self.value is None else min(self.value, bound)


class Gap(NamedTuple):
    """The requests that a leader missed before a subscription, by this replica's positions."""

    after: int
    """The last position before the gap."""
    last: int
    after_spread: int
    """The possible error of `after`."""
    last_spread: int
    is_known: bool = True
    """Whether the leader missed the whole gap; not if it may have had an earlier subscription
    that is not known here."""


class Hearing:
    """The offsets of one leader, for each of its subscriptions."""

    MOST_SUBSCRIPTIONS = 20  # subscriptions remembered

    def __init__(self) -> None:
        self._offsets: dict[int, Offset] = {}
        """The offsets by the leader's count when it subscribed, in order."""
        self._last: Offset | None = None
        self._last_begun = 0

    @property
    def is_settled(self) -> bool:
        """Whether the offset of the present subscription is certain."""
        return self._last is not None and self._last.is_settled

    def note(self, message: FeedMessage, place: Place, count: int) -> None:
        """Process a message of this leader."""
        if place.begun not in self._offsets:
            if len(self._offsets) >= self.MOST_SUBSCRIPTIONS:
                del self._offsets[next(iter(self._offsets))]
            self._offsets[place.begun] = Offset()
        self._last = self._offsets[place.begun]
        self._last_begun = place.begun
        self._last.note(message, place, count)

    def heard_until(self, begun: int) -> int | None:
        """Return the position here of the last request it received before a subscription.

        None if no earlier subscription is known.
        """
        old = self._before(begun)
        if old is None:
            return None
        if old.value is None:
            return self.position(begun)
        return begun - 1 + old.value  # positions start after the count at the beginning

    def gap(self, begun: int) -> Gap | None:
        """Return the gap before one of its subscriptions; None while that is not certain.

        Before the first known subscription, it missed all requests, or received some earlier.
        """
        old, new = self._before(begun), self._offsets.get(begun)
        if new is None or new.value is None or not new.is_settled:
            return None
        if old is None:
            return Gap(FIRST, begun + new.value, 0, new.spread, is_known=begun <= FIRST + 1)
        if old.value is None or not old.is_settled:
            return None
        return Gap(begun - 1 + old.value, begun + new.value, old.spread, new.spread)

    def end_of_gap(self, begun: int) -> int | None:
        """Return the position here at which one of its subscriptions began; None if not known."""
        new = self._offsets.get(begun)
        return None if new is None or new.value is None else begun + new.value

    def position_there(self, own: int) -> int | None:
        """Convert a position here into the leader's; None if that is not certain.

        It is certain if both receive everything in the same order, and did when it came.
        """
        last = self._last
        if last is None or last.value is None or not last.is_settled or last.spread:
            return None
        theirs = own - last.value
        return theirs if theirs > self._last_begun else None

    def _before(self, begun: int) -> Offset | None:
        earlier = [one for one in self._offsets if one < begun]
        return self._offsets[earlier[-1]] if earlier else None

    def position(self, theirs: int) -> int | None:
        """Convert the leader's position of a request into the one here; None if not known.

        If the leader received the request in an unknown subscription, the result is an upper bound:
        requests that a leader misses make later offsets greater.
        """
        found: Offset | None = None
        for begun, offset in self._offsets.items():
            if found is None or begun < theirs:
                found = offset
        if found is None or found.value is None:
            return None
        return theirs + found.value
