"""Takes requests: reads them off the wire at once, acts on them in the order they came.

What arrives waits in memory, within a bound, until it is stored. Requests have a connection
of their own, so that a flood of them delays neither an acknowledgement nor a lease.

A standby hears all requests too, and keeps those that the leader has not told it were handled:
whoever leads next begins with them (see `gozo.leadership.handled_feed`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from itertools import chain
from typing import NoReturn

from gozo.delivery.in_memory import InMemory, Taken
from gozo.errors import DisconnectedError, GozoError, Refusal, RequestError
from gozo.leadership.feed_messages import (
    GREETING,
    Offer,
    Question,
    read_feed_message,
    read_offer,
    read_question,
    term_of,
)
from gozo.leadership.handled_feed import FeedReader, FeedWriter, Handled
from gozo.leadership.lookout import Lookout
from gozo.leadership.offsets import ECHOES, ENOUGH
from gozo.protocol.heard import Act, Heard, hear
from gozo.protocol.requests import (
    asks_receipt,
    cancel_receipt,
    parse_request,
    refusal_receipt,
    shortened,
    stored_receipt,
    unknown_receipt,
)
from gozo.protocol.subject_policy import LARGEST_BLOCK, UNLIMITED, Policy
from gozo.requests.admin_verbs import AdminVerbs, refusal_of
from gozo.requests.admission import Admission
from gozo.requests.backlog import Backlog
from gozo.requests.entrusted import Entrusted
from gozo.requests.inheritance import Account, Inheritance, Inquiry, others
from gozo.requests.missed import Claims, Offers
from gozo.requests.quotas import Quotas
from gozo.requests.unanswered import Waiting
from gozo.runtime.clock import steady
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS, CancelRequest, Request, ScheduleRequest
from gozo.store.changes import NO_DEADLINE, Result
from gozo.store.entry_codec import reserved_key
from gozo.store.schedule_store import ScheduleStore
from gozo.telemetry.events import EventSink
from gozo.telemetry.stats import Stats
from gozo.transport.connection import Connection
from gozo.transport.subscriptions import Listener

TURN = 0.001  # seconds for which requests are acted on before others get a turn
KEPT = 15  # seconds for which a standby keeps a request with an id that nobody has handled
HURRY = 1.0  # seconds for which deliveries wait for what was requested before this replica led

CATCHING_UP = 1.0  # seconds for which a new leader waits for what its link still has for it

MORE = 1_024
"""Bytes by which a refusal may exceed its request, so that gozo does not amplify traffic."""

MOST_UNSENT = 4 * 1024 * 1024  # bytes that wait to be sent, beyond which no refusal is told

_ID = re.compile(rb"gozo-(?:del-)?id", re.IGNORECASE)
_RECEIPT = re.compile(rb"gozo-receipt", re.IGNORECASE)

log = get_logger("gozo.intake")


class Mode(Enum):
    """What becomes of a request that is heard."""

    DEAF = "deaf"
    """None is heard."""
    KEEPING = "keeping"
    """It is kept until the leader has handled it."""
    WAITING = "waiting"
    """It waits until this replica, which leads, knows the whole bucket."""
    ACTING = "acting"


_ACTING = Mode.ACTING  # looking it up in the enumeration takes time, for each request
_NEW, _REPLACED = Result.STORED, Result.REPLACED


class Intake:
    """The beginning of a schedule's life."""

    # It has more attributes than Python is quick with otherwise: see tests/unit/test_attributes.py.
    __slots__ = (
        *("_admin_verbs", "_admission", "_backlog", "_bytes", "_claims", "_clock"),
        *("_connection", "_count", "_counted_until_us", "_details", "_ending", "_entrusted"),
        *("_inherited", "_inquiry", "_store", "_left", "_listeners", "_lookout", "_max_backlog"),
        *("_may_act", "_memory", "_mode", "_offers", "_on_too_large", "_wake_delivery", "_policy"),
        *(
            "_feed_reader",
            "_stats",
            "_successor",
            "_feed_writer",
            "_feed_subject",
            "_turn",
            "_unanswered",
        ),
        *("_in_memory", "_work", "_yielding", "_events"),
    )

    def __init__(
        self,
        connection: Connection,
        policy: Policy,
        quotas: Quotas,
        store: ScheduleStore,
        in_memory: InMemory,
        stats: Stats,
        events: EventSink,
        max_backlog: int,
        clock: ClockWatch,
        wake_delivery: Callable[[], None],
        may_act: Callable[[], bool],
        on_too_large: Callable[[], None],
        tag: bytes,
        lookout: Lookout,
    ) -> None:
        self._connection = connection
        self._policy = policy
        self._store = store
        self._in_memory = in_memory
        self._stats = stats
        self._events = events
        self._max_backlog = max_backlog
        self._clock = clock
        self._wake_delivery = wake_delivery
        self._may_act = may_act
        self._on_too_large = on_too_large
        self._lookout = lookout
        self._counted_until_us = 0
        """Until when requests have been counted by who led, towards the rate."""
        self._admission = Admission(
            policy, quotas, store, in_memory, lambda: connection.max_payload
        )
        self._unanswered = Waiting()
        self._admin_verbs = AdminVerbs(
            policy,
            store,
            in_memory,
            stats,
            lambda: connection.max_payload,
            self._answer,
            on_refused=self._refused,
            on_done=self._done,
            on_dropped=self._drop,
            on_acted=events.acted,
            wake_delivery=wake_delivery,
        )
        self._listeners: list[Listener] = []
        self._mode = Mode.DEAF
        self._backlog = Backlog()
        self._memory = Backlog()
        """Older ones without an id: the leader has them in memory, and so does a standby."""
        self._left = Backlog()
        """What a term that is over left undone."""
        self._yielding = False
        """Whether that is held back until it is known what another leader has of it."""
        self._ending = False
        self._bytes = 0
        """What requests take in memory that are being stored."""
        self._work, self._turn = asyncio.Event(), asyncio.Event()
        self._details = log.enabled(logging.DEBUG)
        """Whether each request is worth a line of the log."""
        self._count = 0
        """How many messages were heard, on the request subject and those of the verbs."""
        self._feed_subject = f"{policy.request_subject}.admin.told"
        tell = partial(connection.publish, self._feed_subject)
        self._feed_writer = FeedWriter(tell, lambda: self._count, tag)
        self._entrusted = Entrusted()
        self._feed_reader = FeedReader(self._on_earlier)
        self._offers = Offers(
            tag, tell, self._feed_reader, (self._memory, self._backlog), self._has_no_id
        )
        self._claims = Claims()
        self._inherited = Inheritance((), 0)
        self._inquiry = Inquiry(tag, tell, self._feed_reader, lambda: self._count)
        self._successor: Account | None = None
        """What the replica that leads now has; None where that is not known, or it is this one."""
        in_memory.on_removed = self._handled
        connection.on_lost.append(self._on_lost)
        connection.on_connected.append(self._on_connected)
        connection.on_granted.append(self._on_granted)

    # Hearing

    def stand_by(self) -> None:
        """Keep requests from now on, until the leader has handled them."""
        if self._mode is Mode.DEAF:
            self._mode = Mode.KEEPING
            self._index()
            self._begin_hearing()
            subject = self._policy.request_subject
            verbs = self._admin_verbs.verbs
            self._listeners = [
                self._hear(subject, self._take),
                *(self._hear(f"{subject}.admin.{verb}", verbs[verb]) for verb in verbs),
                self._connection.listen(self._feed_subject, self._on_feed),
            ]
            self._inquiry.greet()

    def leave(self) -> None:
        """Keep none: this replica cannot lead."""
        if self._mode is Mode.KEEPING:
            self._mode = Mode.DEAF
            self._end_hearing()
            self._forget_all()

    def lead(self) -> None:
        """All that was heard is this replica's now; it waits until `act`."""
        self.stand_by()
        self._admission.begin_term(self._counted_until_us, self._clock.reading_us())
        self._mode = Mode.WAITING
        self._strike(self._feed_reader.settle())
        self._backlog.move_to(self._memory)
        self._backlog, self._memory = self._memory, self._backlog
        self._claims.begin_term()
        self._successor = None
        self._inherited = Inheritance(self._requests(), self._count)
        self._feed_writer.begin_term()

    def _requests(self) -> Iterable[Heard]:
        """Return the requests that this leader has in memory, and has not begun to store."""
        held = (self._in_memory, self._left, self._entrusted, self._backlog)
        return chain(self._offers.aside, *(one.requests for one in held))

    def _take_back(self) -> None:
        """Put what is kept apart before all else: it came first."""
        apart = (*self._entrusted.requests, *self._offers.aside)
        if apart:
            self._backlog.move_to(self._memory)  # which is empty
            for heard in apart:
                self._backlog.add(heard)
            self._memory.move_to(self._backlog)
        self._entrusted.clear()
        self._offers.forget()

    async def catch_up(self) -> None:
        """Hear all that the server has for this replica, what the last leader told among it."""
        try:
            await self._connection.echo(CATCHING_UP)
        except GozoError as error:
            log.info("intake.behind", reason=str(error))

    async def act(self) -> None:
        """Begin to act on requests: all keys of the bucket are known by now.

        Returns once those are begun that were heard until now, so that a cancel among them is
        in time, or after `HURRY` seconds.
        """
        self._mode = Mode.ACTING
        self._take_back()  # not earlier: the last leader's reports still came
        self._backlog.index(False)
        self._yielding = False
        self._store.go_on()
        self._feed_writer.hello(echoes=ECHOES)
        self._work.set()
        last = self._backlog.last
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HURRY):
                while self._backlog.first <= last:
                    await self._next_turn()

    async def _next_turn(self) -> None:
        self._turn.clear()
        await self._turn.wait()

    def keep(self) -> None:
        """Stop acting on requests, but keep what is heard: another replica is about to lead."""
        if self._mode in (Mode.WAITING, Mode.ACTING):
            self._mode = Mode.KEEPING
            self._yielding = True
            self._index()
            first = next(iter(self._backlog.requests), None)
            kept_from = self._count if first is None else first.position - 1
            self._feed_reader.keep_from(steady(), kept_from)
            self._counted_until_us = self._clock.reading_us()

    def clock_set(self, by_us: int) -> None:
        """Adjust for a clock that was set: delays still count from when requests were heard."""
        for kept in (self._backlog, self._memory, self._left, self._entrusted):
            kept.shift(by_us)

    def lose(self) -> None:
        """Another replica may lead, and has heard what was heard here."""
        if self._mode is Mode.ACTING:
            self._counted_until_us = self._clock.reading_us()
            self._backlog.move_to(self._left)
            self._feed_reader.keep_from(steady(), self._count)
        self._entrusted.move_to(self._left)
        self._yielding = True
        self._store.hold()
        if self._mode is not Mode.DEAF:
            self._mode = Mode.KEEPING
            self._index()
            self._successor = None

    def _index(self) -> None:
        self._backlog.index(True)
        self._memory.index(True)

    async def hear_successor(self, is_led: Callable[[], bool]) -> None:
        """Wait until it is known what the next leader has of what this replica has.

        `is_led` tells whether there is one.
        """
        if self._left or len(self._in_memory) or self._store.origins:
            account = await self._inquiry.find_out(lambda: self._feed_writer.begun, is_led)
            if self._mode is Mode.KEEPING:
                self._successor = account
                if account is not None:
                    mine = (*self._in_memory.requests, *self._left.requests, *self._store.origins)
                    self._entrusted.begin(account.leader, account.pending(mine))

    def act_on_left(self) -> None:
        """Act on what the past term left undone and the next leader does not have."""
        if self._successor is not None:
            left = [self._left.take() for _ in range(len(self._left))]
            lacking = self._successor.lacking(left)
            for heard in lacking:
                self._left.add(heard)
            begun = self._store.origins
            lacking += self._successor.lacking(begun)
            has = others((*begun, *left), lacking)
            if has:
                log.info("intake.dropped", requests=len(has))
                self._store.drop({heard.position for heard in has})
                self._entrusted.keep(has)
        self._yielding = False
        self._store.go_on()
        self._work.set()

    def lacking(self, requests: list[Taken]) -> list[Taken]:
        """Return the requests in memory here that the next leader does not have.

        The others are kept here until that one has handled them.
        """
        if self._successor is None:
            return requests
        lacking = self._successor.lacking(requests)
        self._entrusted.keep([taken.heard for taken in others(requests, lacking)])
        return lacking

    async def left_begun(self) -> None:
        """Wait until all of that is begun."""
        while self._left:
            await self._next_turn()

    async def stop_hearing(self) -> None:
        """Stop hearing requests; those heard are still acted on, and none kept in memory.

        Raises:
            GozoError: there is no connection, or it does not answer.
        """
        self._ending = True
        try:
            if self._mode is Mode.ACTING:
                await self._count_together()
        finally:
            self._feed_writer.end_hearing()
            self._end_hearing(hear_out=True)
        await self._connection.echo()

    async def _count_together(self) -> None:
        """Let the standbys know for certain how far their counts differ from this one."""
        for _ in range(ENOUGH):
            self._feed_writer.hello()
            await self._connection.echo()
        self._feed_writer.hello()

    def _end_hearing(self, *, hear_out: bool = False) -> None:
        for listener in self._listeners:
            listener.stop(hear_out=hear_out)
        self._listeners = []

    def tell(self, by: Connection) -> None:
        """Tell the standbys at once what was handled, by one's own connection or another."""
        if by is self._connection:
            self._feed_writer.flush()
        else:
            self._feed_writer.flush_by(partial(by.publish, self._feed_subject))

    def forget_old(self) -> None:
        """Let what a standby keeps not grow: what the leader does not mention, it has not got.

        All without an id it mentions once they are delivered, however late that is.
        """
        self._feed_reader.turn(steady(), self._count)
        if not (self._yielding or self._left or len(self._in_memory)):
            self._successor = None
            self._entrusted.end()
        if self._mode is Mode.KEEPING:
            for heard in self._backlog.take_before(self._clock.reading_us() - KEPT * MICROSECONDS):
                if self._has_no_id(heard):
                    self._memory.add(heard)
                else:
                    self._backlog.dropped = heard.position
            before_us = self._clock.reading_us() - KEPT * MICROSECONDS
            self._entrusted.forget_old(before_us, self._has_no_id)
            self._shrink()
            self._offers.make(steady(), self._clock.reading_us())

    def _has_no_id(self, heard: Heard) -> bool:
        """Tell whether this is a request for a schedule without an id."""
        return heard.act == self._take and not _ID.search(heard.headers or b"", 0, LARGEST_BLOCK)

    def _shrink(self) -> None:
        dropped = self._entrusted.shrink(self._max_backlog - self._backlog.size - self._memory.size)
        dropped += self._memory.shrink(self._max_backlog - self._backlog.size)
        self._backlog.dropped = max(self._backlog.dropped, self._memory.dropped)
        dropped += self._backlog.shrink(self._max_backlog)
        if dropped:
            log.repeated("warning", "intake.not_kept", requests=dropped)

    def _forget_all(self) -> None:
        self._backlog.clear()
        self._memory.clear()
        self._entrusted.clear()

    def _forget_until(self, position: int | None) -> None:
        """Forget what the leader may have told as handled, which this standby did not hear."""
        log.info("intake.missed", kept=len(self._backlog) + len(self._memory))
        self._entrusted.clear()
        self._offers.set_aside(self._count if position is None else position, steady())
        if position is None:
            self._forget_all()
            position = self._count
        else:
            self._backlog.forget(position)
            self._memory.forget(position)
        # What is handled of that must not strike out later ones that are the same.
        self._feed_reader.keep_from(steady(), position)

    def _hear(self, subject: str, act: Act) -> Listener:
        """Let messages of a subject wait for `act`."""
        name, now_us = subject.encode(), self._clock.reading_us
        claims = self._claims

        def on_message(_: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
            self._count += 1
            heard = hear(act, self._count, now_us(), name, reply, headers, payload)
            if self._count <= claims.noting_until:
                claims.hear_first(heard.digest)
            if self._mode is _ACTING:
                claims.hear(heard.digest)
                self._wait(heard)
                self._work.set()
            elif self._feed_reader.is_early(heard.digest):
                return
            elif self._mode is Mode.WAITING:
                self._wait(heard)
            else:
                self._backlog.add(heard)
                if self._backlog.size > self._max_backlog:
                    self._shrink()

        return self._connection.listen(subject, on_message)

    def _wait(self, heard: Heard) -> None:
        try:
            self._check_room(heard)
        except RequestError as error:
            self._feed_writer.handled(heard.digest, heard.position)
            if heard.act == self._take:
                self._refuse_unread(heard, error, at_once=True)
            else:
                self._admin_verbs.refuse(heard, error, told=not self._is_flooded())
        else:
            self._backlog.add(heard)

    def _check_room(self, heard: Heard) -> None:
        if self._admission.limits_unread and heard.act == self._take:
            self._admission.check_unread(len(heard.payload))
        size = self._backlog.size + self._bytes
        if size + heard.size > self._max_backlog:
            raise RequestError(
                Refusal.BUSY,
                f"{size} bytes of requests wait to be stored already: "
                "send it again later, or raise --max-backlog",
            )

    def _on_feed(self, _: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        """Another leader tells what it has dealt with."""
        if term_of(payload) == self._feed_writer.term:
            self._feed_writer.heard_back(payload)  # its own words
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
        told = read_feed_message(payload)
        if told is None or self._lookout.is_foreign(told.term):
            return
        missed = self._feed_reader.hear(told, self._count)
        self._inquiry.hear(told)
        if self._mode is Mode.ACTING:
            self._lookout.look_soon()
            return
        if self._mode is Mode.KEEPING:
            heard_until = None
            if self._offers.note(told, steady()) and told.place is not None:
                # What the leader told may have been lost with its link, and before it.
                heard_until = self._feed_reader.heard_until(told.leader, told.place.begun)
            if missed:
                self._forget_until(heard_until)
        self._counted_until_us = self._clock.reading_us()
        self._entrusted.handled(told)
        self._strike(self._feed_reader.handled(told))

    def _on_earlier(self, leader: bytes, digest: bytes, position: int) -> None:
        """A leader has handled a request that this replica had when it led, or has offered."""
        if self._offers.has_offered(leader, position):
            self._offers.strike(leader, digest, position)
            if not self._memory.strike(digest, self._count):
                self._backlog.strike(digest, self._count)
        if self._entrusted and leader != self._entrusted.leader:
            self._entrusted.strike(digest)

    def _strike(self, handled: list[Handled]) -> None:
        memory, backlog = self._memory, self._backlog
        for one in handled:
            if not (memory.strike(*one) or backlog.strike(*one)):
                self._feed_reader.note_early(one)

    def _on_question(self, question: Question) -> None:
        """A replica greets the leader, or one that led before asks what the leader had then."""
        if self._mode not in (Mode.WAITING, Mode.ACTING) or self._ending:
            return
        if question.nonce == GREETING:
            self._feed_writer.hello(echoes=ECHOES)
        elif self._may_act():
            left = (*self._requests(), *self._store.origins)
            self._inherited.tell(question, self._feed_reader, self._feed_writer, left)

    def _on_offer(self, offer: Offer) -> None:
        """A standby hands over what this leader did not hear; it acts on that now."""
        leads = self._mode in (Mode.WAITING, Mode.ACTING) and not self._ending
        if not leads or offer.term != self._feed_writer.term:
            return
        came_us = self._clock.reading_us() - offer.age_us
        subject = self._policy.request_subject.encode()
        message = (offer.reply, offer.headers, offer.payload)
        heard = hear(self._take, offer.begun, came_us, subject, *message)
        if self._has_no_id(heard) and self._claims.claims(offer, heard.digest):
            self._wait(heard)
            self._work.set()

    def _on_lost(self) -> None:
        """Without a connection, a standby does not hear what is handled meanwhile."""
        if self._mode is Mode.KEEPING:
            self._forget_all()
        self._begin_hearing()

    def _begin_hearing(self) -> None:
        """Count requests from here on, of which some may have been missed.

        The count goes on by one, so that each subscription begins at another. No request has
        this position; those that a standby has handed over count as if they had.
        """
        self._count += 1
        self._offers.forget()
        self._claims.begin_hearing(self._count)
        self._feed_reader.begin(steady(), self._count)
        self._feed_writer.begin_hearing()

    def _on_connected(self) -> None:
        if self._mode is Mode.ACTING:
            self._feed_writer.hello(echoes=ECHOES)
            self._feed_writer.flush()
        elif self._mode is Mode.KEEPING:
            self._inquiry.greet()

    def _on_granted(self, subject: str) -> None:
        """Hear anew after a time in which the server kept something from this replica."""
        if any(listener.subject == subject for listener in self._listeners):
            self._on_lost()
            self._on_connected()

    # Acting

    def wake(self) -> None:
        """Look again whether there is anything to act on."""
        self._work.set()

    @property
    def waiting(self) -> int:
        """How many requests this replica has still to act on."""
        mine = self._mode in (Mode.WAITING, Mode.ACTING)
        return len(self._left) + (len(self._backlog) if mine else 0)

    async def run(self) -> NoReturn:
        """Act on requests; runs until it is cancelled."""
        while True:
            backlog = self._next()
            if backlog is None:
                self._work.clear()
                await self._work.wait()
                continue
            if not self._store.has_room:
                await self._store.progress()
                continue
            over = time.monotonic() + TURN  # asked for each request, and quicker than `steady`
            while backlog and time.monotonic() < over:
                heard = backlog.take()
                self._bytes += heard.size
                try:
                    heard.act(heard)
                except Exception:
                    # One message that nobody foresaw must not end what all others depend on.
                    self._stats.refused[Refusal.INVALID_REQUEST] += 1
                    log.exception("request.failed")
            self._turn.set()
            await asyncio.sleep(0)

    def _next(self) -> Backlog | None:
        """Where the next request is that may be acted on now."""
        if self._left and not self._yielding:
            return self._left
        acting = self._mode is Mode.ACTING and self._may_act()
        return self._backlog if self._backlog and acting else None

    def _done(self, heard: Heard) -> None:
        self._bytes -= heard.size
        self._handled(heard)

    def _handled(self, heard: Heard) -> None:
        self._feed_writer.handled(heard.digest, heard.position)

    def _drop(self, heard: Heard) -> None:
        """Let go of what was begun and not done: another leader may have it."""
        self._bytes -= heard.size

    def _take(self, heard: Heard) -> None:
        try:
            self._admission.check_kept(heard.received_us)
            request = parse_request(heard.reply, heard.headers, heard.payload, heard.received_us)
            request = self._admission.admit(request, heard.reply)
        except RequestError as error:
            self._done(heard)
            self._refuse_unread(heard, error)
            return
        if isinstance(request, CancelRequest):
            self._admission.cancelling(request.id)
            number = self._await_receipt(request, heard, "cancelled")
            done = partial(self._on_result, request, heard, request.id, number)
            self._store.cancel(request.id, done, by_request=True, origin=heard)
        elif (id_ := request.entry.id) is not None:
            self._put(request, heard, id_)
        elif self._mode is _ACTING and not (self._ending or request.entry.extended):
            self._bytes -= heard.size
            self._stats.accepted += 1
            self._in_memory.add(request, heard)
            self._feed_writer.heard()
            if self._events.enabled:
                self._events.accepted(request.entry, replaced=False)
            self._wake_delivery()
        else:
            key = reserved_key()
            self._put(request, heard, key, key)

    def _put(
        self, request: ScheduleRequest, heard: Heard, name: str, key: str | None = None
    ) -> None:
        """Store a request under its id, which is its `name`, or else under a key of its own."""
        number, deadline = 0, NO_DEADLINE
        if request.receipt is not None:
            number = self._await_receipt(request, heard, "stored")
            deadline = self._unanswered.until(number)
        self._admission.storing(name)
        done = partial(self._on_result, request, heard, name, number)
        self._store.put(request, done, key, deadline=deadline, origin=heard)

    def _await_receipt(self, request: Request, heard: Heard, verb: str) -> int:
        """Make sure that a request is answered in time; 0 if it asks for no receipt."""
        if request.receipt is None:
            return 0
        age = (self._clock.reading_us() - heard.received_us) / MICROSECONDS
        return self._unanswered.add(request.receipt, request.id, verb, age=age, now=steady())

    def answer_late(self, *, all_: bool = False) -> None:
        """Answer requests whose result is not known in time, or all that are unanswered."""
        for one in self._unanswered.late(NO_DEADLINE if all_ else steady()):
            log.limited("warning", "receipt.unknown", id=one.id)
            self._answer(one.receipt, unknown_receipt(one.id, one.verb))

    def _on_result(
        self, request: Request, heard: Heard, name: str, number: int, result: Result, words: str
    ) -> None:
        self._admission.done(name)
        if result is Result.DROPPED:
            self._drop(heard)
            self._unanswered.settle(number)  # the other leader answers
            return
        self._done(heard)
        refusal = None
        if result is not _NEW and result is not _REPLACED:
            refusal = refusal_of(result, words)
        if refusal is not None:
            self._refused(request.id, refusal)
        else:
            self._stats.accepted += 1
            if self._events.enabled and isinstance(request, ScheduleRequest) and request.id is None:
                self._events.accepted(request.entry, replaced=False)
        if self._details:
            log.debug("request.done", id=request.id, result=result)
        if request.receipt is None or not self._unanswered.settle(number):
            return
        if refusal is not None:
            most = _wire_size(heard) + MORE
            self._answer(request.receipt, refusal_receipt(request.id, refusal), most)
            return
        if isinstance(request, ScheduleRequest):
            receipt = stored_receipt(request.entry, replaced=result is Result.REPLACED)
        else:
            receipt = cancel_receipt(request.id, result)
        self._answer(request.receipt, receipt)

    def _refuse_unread(self, heard: Heard, error: RequestError, *, at_once: bool = False) -> None:
        """Refuse a request that was not acted on; whoever asked for a receipt gets one.

        It waits for the receipts of earlier requests for the same id, but for one that is to be
        told `at_once`: nothing of a flood is kept.
        """
        headers = heard.headers
        self._refused(asks_receipt(headers)[1] if self._events.enabled else None, error)
        is_asked = headers is not None and (
            len(headers) > LARGEST_BLOCK or _RECEIPT.search(headers)
        )
        if not is_asked or self._is_flooded():
            return
        receipt, id_ = asks_receipt(headers)
        if receipt is None or not self._policy.may_receive(receipt):
            return
        most = _wire_size(heard) + MORE
        answer = partial(self._answer, receipt, refusal_receipt(id_, error), most)
        if id_ is None or at_once:
            answer()
        else:
            self._store.after(id_, answer)

    def _is_flooded(self) -> bool:
        """Whether refusals are no longer told: what is not sent yet takes memory."""
        flooded = self._connection.backlog > MOST_UNSENT
        if flooded:
            log.limited("info", "receipt.lost", reason="too many refusals wait to be sent")
        return flooded

    def _refused(self, id_: str | None, error: RequestError) -> None:
        self._stats.refused[error.code] += 1
        if error.code is Refusal.TOO_LARGE:
            self._on_too_large()
        log.limited("warning", "request.refused", code=error.code, reason=str(error))
        self._events.refused(id_, error)

    def _answer(self, subject: str, answer: dict[str, object], most: int = UNLIMITED) -> None:
        """Publish an answer; a refusal of more bytes than `most` is shortened."""
        answer = self._lookout.signed(answer)
        payload = json.dumps(answer).encode()
        if len(payload) > most:
            payload = json.dumps(shortened(answer, most)).encode()
        if len(payload) > self._connection.max_payload:
            # The server would not refuse it but end the connection.
            log.limited("warning", "receipt.too_large", bytes=len(payload))
            return
        try:
            self._connection.publish(subject, payload)
        except DisconnectedError as error:
            log.limited("info", "receipt.lost", reason=str(error))


def _wire_size(heard: Heard) -> int:
    """Bytes that somebody sent to be heard."""
    return len(heard.headers or b"") + len(heard.payload) + len(heard.reply)
