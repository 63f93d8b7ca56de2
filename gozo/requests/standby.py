"""What a standby keeps: requests that no leader has reported as handled, in case it leads next.

It keeps those with an id for some seconds, since a leader that hears them stores them at once, and
those without an id until they are delivered: such a leader has them in memory as well. What the
leader did not hear is offered to it (see `gozo.requests.missed`). The limit for all of it is
`--max-backlog`.
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

ID_KEPT_TIME = 15  # seconds for which a standby keeps a request with an id that nobody has handled

_ID = re.compile(rb"gozo-(?:del-)?id", re.IGNORECASE)

log = get_logger("gozo.intake")


def has_no_id(heard: Heard) -> bool:
    """Tell whether this is a request for a schedule without an id."""
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
        """Offer requests with `publish`, under a name; `count` is of the messages heard here."""
        self._count = count
        self._clock = clock
        self.max_backlog = max_backlog
        """Bytes that all of these may take."""
        self.backlog = Backlog()
        """What was heard and not handled, in order; a leader acts on it."""
        self._memory = Backlog()
        """Older ones without an id: the leader has them in memory."""
        self.entrusted = Entrusted()
        self.feed_reader = FeedReader(self._on_earlier)
        self.offers = Offers(
            name, publish, self.feed_reader, (self._memory, self.backlog), has_no_id
        )
        self.counted_until_us = 0
        """Until when a leader has counted requests towards the rate that is allowed."""

    # A change of lead

    def begin(self) -> None:
        """Be ready to strike out what the leader reports."""
        self.backlog.index(True)
        self._memory.index(True)

    def take_over(self) -> None:
        """Put all that is kept into the backlog: this replica leads."""
        self._strike(self.feed_reader.settle())
        self.backlog.move_to(self._memory)
        self.backlog, self._memory = self._memory, self.backlog

    def begin_acting(self) -> None:
        """Put what is kept apart before all else: it came first."""
        apart = (*self.entrusted.requests, *self.offers.aside)
        if apart:
            self.backlog.move_to(self._memory)  # which is empty
            for heard in apart:
                self.backlog.add(heard)
            self._memory.move_to(self.backlog)
        self.entrusted.clear()
        self.offers.forget()
        self.backlog.index(False)

    def end_acting(self) -> None:
        """Keep what this leader has not begun: another replica is about to lead."""
        self.begin()
        first = next(iter(self.backlog.requests), None)
        kept_from = self._count.value if first is None else first.position - 1
        self.feed_reader.keep_from(steady(), kept_from)
        self.counted_until_us = self._clock.reading_us()

    def move_to(self, left: Backlog) -> None:
        """Move what this leader has not begun elsewhere: another replica may lead already."""
        self.counted_until_us = self._clock.reading_us()
        self.backlog.move_to(left)
        self.feed_reader.keep_from(steady(), self._count.value)

    # What the leader reports

    def hear(self, message: FeedMessage, *, missed: bool) -> None:
        """Take in a message of the leader; `missed`: an earlier one was not heard."""
        heard_until = None
        if self.offers.note(message, steady()) and message.place is not None:
            # What the leader reported may have been lost with its link, and before it.
            heard_until = self.feed_reader.heard_until(message.leader, message.place.begun)
        if missed:
            self._forget_until(heard_until)

    def handled(self, message: FeedMessage) -> None:
        """Strike out what a message of the leader reports."""
        self.counted_until_us = self._clock.reading_us()
        self.entrusted.handled(message)
        self._strike(self.feed_reader.handled(message))

    def _on_earlier(self, leader: bytes, digest: bytes, position: int) -> None:
        """Strike out what this replica had when it led, or has offered, and a leader handled."""
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

    # Hearing

    def begin_hearing(self) -> None:
        """Hear requests anew: some before may have been missed."""
        self.offers.forget()
        self.feed_reader.begin(steady(), self._count.value)

    # Bounds

    def turn(self) -> None:
        """Forget early reports after some seconds; to be called several times a second."""
        self.feed_reader.turn(steady(), self._count.value)

    def forget_old(self) -> None:
        """Drop what the leader did not report as handled in time: it does not have it.

        Requests without an id are kept: it reports them once they are delivered, however late.
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
        """Drop the oldest beyond the limit."""
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
        """Drop what the leader may have reported in a message that this standby did not hear."""
        log.info("standby.reports_missed", kept=len(self.backlog) + len(self._memory))
        self.entrusted.clear()
        self.offers.set_aside(self._count.value if position is None else position, steady())
        if position is None:
            self.forget_all()
            position = self._count.value
        else:
            self.backlog.forget(position)
            self._memory.forget(position)
        # Reports of what is dropped must not strike out identical requests that come later.
        self.feed_reader.keep_from(steady(), position)

    def clock_set(self, by_us: int) -> None:
        """Adjust for a clock that was set: delays still count from when requests were heard."""
        for kept in (self.backlog, self._memory, self.entrusted):
            kept.shift(by_us)
