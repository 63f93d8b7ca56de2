"""Receives requests and calls, and processes them in order of arrival.

They wait in memory, up to a limit, until they are stored. They have their own connection, so that
a flood of them delays neither acknowledgements nor the lease.

A standby receives them as well, and keeps those that the leader has not reported as handled: the
next leader starts with them (see `gozo.requests.standby` and `gozo.leadership.handled_feed`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import NoReturn

from gozo.delivery.in_memory import Taken
from gozo.errors import GozoError, RequestError
from gozo.leadership.feed_messages import (
    GREETING,
    Offer,
    Question,
    feed_subject,
    read_feed_message,
    read_offer,
    read_question,
    term_of,
)
from gozo.leadership.handled_feed import FeedWriter
from gozo.leadership.lookout import Lookout
from gozo.leadership.offsets import ECHOES, ENOUGH_SAMPLES
from gozo.protocol.heard import Heard, Verb, hear
from gozo.requests.admin_verbs import VERBS, AdminVerbs
from gozo.requests.admission import Admission
from gozo.requests.handler import RequestHandler
from gozo.requests.handover import Handover
from gozo.requests.in_progress import InProgress
from gozo.requests.missed import Claims
from gozo.requests.replies import Replies
from gozo.requests.request_loop import RequestLoop
from gozo.requests.standby import Standby, has_no_id
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.logs import get_logger
from gozo.transport.connection import Connection
from gozo.transport.subscriptions import Listener

CATCH_UP_TIME = 1.0  # seconds that a new leader waits for messages still on its link

log = get_logger("gozo.intake")


class Mode(Enum):
    """How requests are treated on arrival."""

    DEAF = "deaf"
    """No requests are received."""
    KEEPING = "keeping"
    """Requests are kept until the leader has handled them."""
    WAITING = "waiting"
    """Requests wait until this replica, the new leader, has read the whole bucket."""
    ACTING = "acting"
    """Requests are processed in order."""


_ACTING, _REQUEST = Mode.ACTING, Verb.REQUEST  # looked up once, not for each request


class Intake:
    """Receives requests while this replica can lead, and processes them while it leads."""

    def __init__(
        self,
        *,
        connection: Connection,
        request_subject: str,
        clock: ClockWatch,
        may_act: Callable[[], bool],
        lookout: Lookout,
        feed_writer: FeedWriter,
        admission: Admission,
        replies: Replies,
        in_progress: InProgress,
        handler: RequestHandler,
        admin_verbs: AdminVerbs,
        standby: Standby,
        handover: Handover,
        loop: RequestLoop,
    ) -> None:
        """Process requests, as the leader, while `may_act`; see `gozo.requests.build`."""
        self._connection = connection
        self._subject = request_subject
        self._clock = clock
        self._may_act = may_act
        self._lookout = lookout
        self._feed_writer = feed_writer
        self._admission = admission
        self._replies = replies
        self._in_progress = in_progress
        self._handler = handler
        self._admin_verbs = admin_verbs
        self._standby = standby
        self._handover = handover
        self._loop = loop
        self._claims = Claims()
        self._listeners: list[Listener] = []
        self._mode = Mode.DEAF
        self._ending = False
        clock.on_set.append(self.clock_set)
        connection.on_lost.append(self._on_lost)
        connection.on_connected.append(self._on_connected)
        connection.on_granted.append(self._on_granted)

    # Changes of the leader

    def stand_by(self) -> None:
        """Keep requests from now on, until the leader has handled them."""
        if self._mode is Mode.DEAF:
            self._enter(Mode.KEEPING)
            self._standby.begin()
            self._begin_hearing()
            subject = self._subject
            self._listeners = [
                self._hear(subject, Verb.REQUEST),
                *(self._hear(f"{subject}.admin.{verb}", verb) for verb in VERBS),
                self._connection.listen(feed_subject(subject), self._on_feed),
            ]
            self._handover.inquiry.greet()

    def leave(self) -> None:
        """Receive no requests: this replica cannot lead."""
        if self._mode is Mode.KEEPING:
            self._enter(Mode.DEAF)
            self._end_hearing()
            self._standby.forget_all()

    def lead(self) -> None:
        """Take over all kept requests; they wait until `act`."""
        self.stand_by()
        self._admission.begin_term(self._standby.counted_until_us, self._clock.reading_us())
        self._enter(Mode.WAITING)
        self._standby.take_over()
        self._claims.begin_term()
        self._handover.begin_term()
        self._feed_writer.begin_term()

    async def catch_up(self) -> None:
        """Receive all pending messages of the server, including the last leader's reports."""
        try:
            await self._connection.echo(CATCH_UP_TIME)
        except GozoError as error:
            log.info("intake.catch_up_failed", reason=str(error))

    async def act(self) -> None:
        """Begin to process requests, once all keys of the bucket are known.

        Returns once those received so far are begun, so that a cancel among them is in time; after
        a second at the latest.
        """
        self._enter(Mode.ACTING)
        self._standby.begin_acting()  # not earlier: the last leader's reports were still arriving
        self._handover.release()
        self._feed_writer.hello(echoes=ECHOES)
        self._loop.wake()
        await self._loop.backlog_begun()

    def keep(self) -> None:
        """Stop processing requests, but keep receiving them: another replica is about to lead."""
        if self._mode in (Mode.WAITING, Mode.ACTING):
            self._enter(Mode.KEEPING)
            self._handover.hold_back()
            self._standby.end_acting()

    def lose(self) -> None:
        """Stop processing requests: another replica may lead, and has received the same ones."""
        if self._mode is Mode.ACTING:
            self._standby.move_to(self._handover.left)
        self._handover.end_term()
        if self._mode is not Mode.DEAF:
            self._enter(Mode.KEEPING)
            self._standby.begin()
            self._handover.forget_successor()

    def _enter(self, mode: Mode) -> None:
        self._mode = mode
        self._loop.lead(mode is Mode.ACTING)
        self._handler.use_memory(mode is Mode.ACTING and not self._ending)

    async def hear_successor(self, is_led: Callable[[], bool]) -> None:
        """Find out which of this replica's requests the next leader has.

        `is_led` tells whether there is a next leader.
        """
        if self._handover.is_needed:
            account = await self._handover.ask(is_led)
            if self._mode is Mode.KEEPING:
                self._handover.note(account)

    def act_on_left(self) -> None:
        """Process the requests of the past term that the next leader does not have."""
        self._handover.act_on_left()
        self._loop.wake()

    def lacking(self, requests: list[Taken]) -> list[Taken]:
        """Return the requests in memory here that the next leader does not have."""
        return self._handover.lacking(requests)

    async def left_begun(self) -> None:
        """Wait until all requests left by the past term are begun."""
        await self._loop.left_begun()

    async def stop_hearing(self) -> None:
        """Stop receiving requests; those received are still processed, and none is kept in memory.

        Raises:
            GozoError: there is no connection, or it does not answer.
        """
        self._ending = True
        self._enter(self._mode)
        try:
            if self._mode is Mode.ACTING:
                await self._count_together()
        finally:
            self._feed_writer.end_hearing()
            self._end_hearing(hear_out=True)
        await self._connection.echo()

    async def _count_together(self) -> None:
        """Let standbys determine exactly how their counts differ from this one."""
        for _ in range(ENOUGH_SAMPLES):
            self._feed_writer.hello()
            await self._connection.echo()
        self._feed_writer.hello()

    def tell(self, by: Connection) -> None:
        """Report handled requests at once, over this connection or another."""
        if by is self._connection:
            self._feed_writer.flush()
        else:
            self._feed_writer.flush_by(partial(by.publish, feed_subject(self._subject)))

    def wake(self) -> None:
        """Check again for requests to process."""
        self._loop.wake()

    async def run(self) -> NoReturn:
        """Process requests; runs until it is cancelled."""
        await self._loop.run()

    # Periodic work

    def forget_old(self) -> None:
        """Enforce the limits on kept requests; to be called several times a second."""
        self._standby.turn()
        self._handover.end_if_done()
        if self._mode is Mode.KEEPING:
            self._standby.forget_old()

    @property
    def waiting(self) -> int:
        """How many requests this replica still has to process."""
        mine = self._mode in (Mode.WAITING, Mode.ACTING)
        return len(self._handover.left) + (len(self._standby.backlog) if mine else 0)

    def answer_late(self, *, all_: bool = False) -> None:
        """Answer requests whose result is not known in time, or all that are unanswered."""
        self._replies.answer_late(all_=all_)

    def clock_set(self, by_us: int) -> None:
        """Adjust for a clock that was set: delays still count from the arrival of requests."""
        self._standby.clock_set(by_us)
        self._handover.left.shift(by_us)

    # Receiving

    def _hear(self, subject: str, verb: Verb) -> Listener:
        """Queue the messages of a subject."""
        name, now_us, count = subject.encode(), self._clock.reading_us, self._feed_writer.count
        claims, standby = self._claims, self._standby
        wake, is_early, most = self._loop.wake, standby.feed_reader.is_early, standby.max_backlog

        def on_message(_: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
            position = count.value = count.value + 1
            heard = hear(verb, position, now_us(), name, reply, headers, payload)
            if position <= claims.noting_until:
                claims.hear_first(heard.digest)
            if self._mode is _ACTING:
                claims.hear(heard.digest)
                self._wait(heard)
                wake()
            elif is_early(heard.digest):
                return
            elif self._mode is Mode.WAITING:
                self._wait(heard)
            else:
                standby.backlog.add(heard)
                if standby.backlog.size > most:
                    standby.shrink()

        return self._connection.listen(subject, on_message)

    def _wait(self, heard: Heard) -> None:
        backlog = self._standby.backlog
        try:
            if self._admission.limits_unread and heard.verb is _REQUEST:
                self._admission.check_unread(len(heard.payload))
            self._in_progress.check_room(heard, backlog.size)
        except RequestError as error:
            self._feed_writer.handled(heard.digest, heard.position)
            if heard.verb is _REQUEST:
                self._replies.refuse(heard, error, at_once=True)
            else:
                self._admin_verbs.refuse(heard, error, replies=not self._replies.is_flooded())
        else:
            backlog.add(heard)

    def _on_feed(self, _: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        """Handle a message of another replica: a report, a question or an offer."""
        if term_of(payload) == self._feed_writer.term:
            self._feed_writer.heard_back(payload)
            return
        question = read_question(payload)
        if question is not None:
            if not self._lookout.is_foreign(question.leader):
                self._on_question(question)
            return
        offer = read_offer(payload)
        if offer is not None:
            self._on_offer(offer)
            return
        message = read_feed_message(payload)
        if message is None or self._lookout.is_foreign(message.term):
            return
        if self._standby.feed_reader.is_repeated(message):
            return
        missed = self._standby.feed_reader.hear(message, self._feed_writer.count.value)
        self._handover.inquiry.hear(message)
        if self._mode is Mode.ACTING:
            self._lookout.look_soon()
            return
        if self._mode is Mode.KEEPING:
            self._standby.hear(message, missed=missed)
        self._standby.handled(message)

    def _on_question(self, question: Question) -> None:
        """Answer a replica that greets the leader, or a former leader that asks for an account."""
        if self._mode not in (Mode.WAITING, Mode.ACTING) or self._ending:
            return
        if question.nonce == GREETING:
            self._feed_writer.hello(echoes=ECHOES)
        elif self._may_act():
            self._handover.answer(question)

    def _on_offer(self, offer: Offer) -> None:
        """Process a request that this leader missed and a standby offers."""
        leads = self._mode in (Mode.WAITING, Mode.ACTING) and not self._ending
        if not leads or offer.term != self._feed_writer.term:
            return
        came_us = self._clock.reading_us() - offer.age_us
        message = (offer.reply, offer.headers, offer.payload)
        heard = hear(Verb.REQUEST, offer.begun, came_us, self._subject.encode(), *message)
        if has_no_id(heard) and self._claims.claims(offer, heard.digest):
            self._wait(heard)
            self._loop.wake()

    def _on_lost(self) -> None:
        """Forget kept requests: without a connection, a standby misses the reports about them."""
        if self._mode is Mode.KEEPING:
            self._standby.forget_all()
        self._begin_hearing()

    def _begin_hearing(self) -> None:
        """Count requests from here on; some may have been missed.

        The count is increased by one, so that each subscription begins at a different count. No
        received request has this position; it is that of the requests handed over by standbys.
        """
        count = self._feed_writer.count
        count.value += 1
        self._standby.begin_hearing()
        self._claims.begin_hearing(count.value)
        self._feed_writer.begin_hearing()

    def _end_hearing(self, *, hear_out: bool = False) -> None:
        for listener in self._listeners:
            listener.stop(hear_out=hear_out)
        self._listeners = []

    def _on_connected(self) -> None:
        if self._mode is Mode.ACTING:
            self._feed_writer.hello(echoes=ECHOES)
            self._feed_writer.flush()
        elif self._mode is Mode.KEEPING:
            self._handover.inquiry.greet()

    def _on_granted(self, subject: str) -> None:
        """Start over after the server granted a subscription that it had denied."""
        if any(listener.subject == subject for listener in self._listeners):
            self._on_lost()
            self._on_connected()
