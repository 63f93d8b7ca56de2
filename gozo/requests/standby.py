"""The requests that a standby keeps in case it leads next: those not reported as handled.

A standby keeps requests with an id for some seconds, since a leader that receives them stores them
at once, and requests without an id until they are delivered, since the leader has them in memory.
Requests that the leader missed are offered to it (see `gozo.requests.missed`). All together are
limited by `--max-backlog`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gozo.leadership.feed_messages import FeedMessage
from gozo.leadership.handled_feed import FeedReader, Handled
from gozo.protocol.heard import Heard, HeardCount, Verb
from gozo.protocol.subject_policy import LARGEST_BLOCK
from gozo.requests.backlog import Backlog
from gozo.requests.entrusted import Entrusted
from gozo.requests.missed import Offers
from gozo.runtime.clock import steady
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS

ID_KEPT_TIME = 15  # seconds that a standby keeps an unhandled request with an id

_ID = re.compile(rb"gozo-(?:del-)?id", re.IGNORECASE)

log = get_logger("gozo.intake")


def has_no_id(heard: Heard) -> bool:
    """Tell whether a message requests a schedule without an id."""
    return heard.verb is Verb.REQUEST and not _ID.search(heard.headers or b"", 0, LARGEST_BLOCK)


class Standby:
    """Keeps requests, and strikes out those that a leader reports as handled."""

    def __init__(
        self,
        name: bytes,
        publish: Callable[[bytes], None],
        count: HeardCount,
        clock: ClockWatch,
        max_backlog: int,
    ) -> None:
        """`publish` sends offers, under a `name`; `count` counts the messages received here."""
        self._count = count
        self._clock = clock
        self.max_backlog = max_backlog
        """Bytes that all kept requests may take."""
        self.backlog = Backlog()
        """Received and unhandled requests, in order; a leader processes them."""
        self._memory = Backlog()
        """Older requests without an id, which the leader has in memory."""
        self.entrusted = Entrusted()
        self.feed_reader = FeedReader(self._on_earlier)
        self.offers = Offers(
            name, publish, self.feed_reader, (self._memory, self.backlog), has_no_id
        )
        self.counted_until_us = 0
        """Until when a leader has counted requests towards `--max-rate`."""
        self.kept_until = 0
        """The last position of the requests that an earlier leader may have handled."""

    # Changes of the leader

    def begin(self) -> None:
        """Prepare to strike out requests that the leader reports."""
        self.backlog.index(True)
        self._memory.index(True)

    def take_over(self) -> None:
        """Move all kept requests into the backlog: this replica leads."""
        self._strike(self.feed_reader.settle())
        self.backlog.move_to(self._memory)
        self.backlog, self._memory = self._memory, self.backlog

    def begin_acting(self) -> None:
        """Put entrusted requests, and those set aside, before the backlog: they came first."""
        apart = (*self.entrusted.requests, *self.offers.aside)
        if apart:
            self.backlog.move_to(self._memory)  # which is empty now
            for heard in apart:
                self.backlog.add(heard)
            self._memory.move_to(self.backlog)
        self.entrusted.clear()
        self.offers.forget()
        self.backlog.index(False)
        self.kept_until = self._count.value

    def end_acting(self) -> None:
        """Keep requests that this leader has not begun: another replica is about to lead."""
        self.begin()
        first = next(iter(self.backlog.requests), None)
        kept_from = self._count.value if first is None else first.position - 1
        self.feed_reader.keep_from(steady(), kept_from)
        self.counted_until_us = self._clock.reading_us()

    def move_to(self, left: Backlog) -> None:
        """Move requests that this leader has not begun to `left`: another replica may lead."""
        self.counted_until_us = self._clock.reading_us()
        self.backlog.move_to(left)
        self.feed_reader.keep_from(steady(), self._count.value)

    # Reports of the leader

    def hear(self, message: FeedMessage, *, missed: bool) -> None:
        """Process a message of the leader; `missed`: an earlier one was missed."""
        heard_until = None
        if self.offers.note(message, steady()) and message.place is not None:
            # Reports of the leader may have been lost with its link, and before.
            heard_until = self.feed_reader.heard_until(message.leader, message.place.begun)
        if missed:
            self._forget_until(heard_until)

    def handled(self, message: FeedMessage) -> None:
        """Strike out the requests that a message of the leader reports."""
        self.counted_until_us = self._clock.reading_us()
        self.entrusted.handled(message)
        self._strike(self.feed_reader.handled(message))

    def _on_earlier(self, leader: bytes, digest: bytes, position: int) -> None:
        """Strike out a handled request that this replica had when it led, or has offered."""
        if self.offers.has_offered(leader, position):
            self.offers.strike(leader, digest, position)
            if not self._memory.strike(digest, self._count.value):
                self.backlog.strike(digest, self._count.value)
        if self.entrusted and leader != self.entrusted.leader:
            self.entrusted.strike(digest)

    def _strike(self, handled: list[Handled]) -> None:
        memory, backlog = self._memory, self.backlog
        for one in handled:
            digest, until = one.digest, one.until
            if not (memory.strike(digest, until) or backlog.strike(digest, until)):
                self.feed_reader.note_early(one)

    # Receiving

    def begin_hearing(self) -> None:
        """Start a new subscription: earlier requests may have been missed."""
        self.offers.forget()
        self.feed_reader.begin(steady(), self._count.value)

    # Limits

    def turn(self) -> None:
        """Forget early reports after some seconds; to be called several times a second."""
        self.feed_reader.turn(steady(), self._count.value)

    def forget_old(self) -> None:
        """Drop requests that the leader did not report as handled in time, since it lacks them.

        Requests without an id are kept: the leader reports them once they are delivered.
        """
        for heard in self.backlog.take_before(
            self._clock.reading_us() - ID_KEPT_TIME * MICROSECONDS
        ):
            if has_no_id(heard):
                self._memory.add(heard)
            else:
                self.backlog.note_dropped(heard.position)
        before_us = self._clock.reading_us() - ID_KEPT_TIME * MICROSECONDS
        self.entrusted.forget_old(before_us, has_no_id)
        self.shrink()
        self.offers.make(steady(), self._clock.reading_us())

    def shrink(self) -> None:
        """Drop the oldest requests beyond the limit."""
        dropped = self.entrusted.shrink(self.max_backlog - self.backlog.size - self._memory.size)
        dropped += self._memory.shrink(self.max_backlog - self.backlog.size)
        self.backlog.note_dropped(max(self.backlog.dropped, self._memory.dropped))
        dropped += self.backlog.shrink(self.max_backlog)
        if dropped:
            log.repeated("warning", "standby.requests_dropped", requests=dropped)

    def forget_all(self) -> None:
        """Drop everything."""
        self.backlog.clear()
        self._memory.clear()
        self.entrusted.clear()

    def _forget_until(self, position: int | None) -> None:
        """Drop requests that the leader may have reported in a message that was missed here."""
        log.info("standby.reports_missed", kept=len(self.backlog) + len(self._memory))
        self.entrusted.clear()
        self.offers.set_aside(self._count.value if position is None else position, steady())
        if position is None:
            self.forget_all()
            position = self._count.value
        else:
            self.backlog.forget(position)
            self._memory.forget(position)
        # Reports of dropped requests must not strike out identical ones that come later.
        self.feed_reader.keep_from(steady(), position)

    def clock_set(self, by_us: int) -> None:
        """Adjust for a clock that was set: delays still count from the arrival of requests."""
        for kept in (self.backlog, self._memory, self.entrusted):
            kept.shift(by_us)
