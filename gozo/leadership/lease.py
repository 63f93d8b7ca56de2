"""Who delivers: of any number of replicas, the one that holds the lease.

The lease is a key in a bucket of its own, renewed by compare-and-swap. Each side counts time
on its own steady clock: the holder from when it *sent* its last good renewal, a standby from
when it *saw* the revision change. So the holder stops before anybody else can start.

A standby takes over when the revision has stood still for `TAKEOVER` seconds; at once when the
holder gave the lease up; and soon when a renewal is overdue and nobody listens on the subject
that only a connected holder listens on, asked twice. The last is safe because a holder that
loses its connection holds no lease until a renewal is acknowledged again. But of a holder at
another cluster or leaf node it says nothing: there, the connection between the servers may be
what broke, and the holder's own is as it was. That one's time is waited out. (Inside a cluster
the same can happen, where its servers run on and only the routes between them are reset. To wait
there as well would make every crash of a host cost `TAKEOVER`; so in that case both may deliver
until the old holder's time is over.)

Where the server has no room for a renewal, which is as good as none for a take, the holder
makes sure that the lease is its own by reading it, and says so to standbys that ask: they count
time from there.
"""

from __future__ import annotations

import asyncio
import json
import math
import secrets
from collections.abc import Callable
from enum import StrEnum
from typing import NoReturn

from gozo.errors import DisconnectedError, GozoError, JetStreamError, NoServerError
from gozo.leadership.leaders import Place
from gozo.leadership.rivals import Rivals, words
from gozo.protocol.subject_policy import Policy
from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.store.bucket import Bucket, open_bucket
from gozo.store.entry_codec import block
from gozo.transport.commands import publication
from gozo.transport.connection import Connection
from gozo.transport.jetstream import (
    CONFLICTS,
    NO_RESOURCES,
    NO_RESPONDERS,
    NO_ROOM,
    STREAM_NOT_FOUND,
    JetStream,
    StoredMessage,
    read_ack,
)
from gozo.transport.subscriptions import Listener

RENEW = 0.5  # seconds between renewals
LOOK = 0.6  # seconds between looks of a standby that does not hear the renewals
LOOK_AGAIN = 0.02  # seconds between looks of a standby that has heard that the lease is given up
STORING = 1.0  # seconds in which what was heard is stored, if it ever is
SPACING = 0.25  # seconds after a look in which what is heard is no reason for the next
OVERDUE = 0.9  # seconds without a renewal after which a standby asks whether the holder lives
VALID = 9.0  # seconds after a renewal was sent during which the holder may deliver
TAKEOVER = 10.0  # seconds without a renewal after which the lease is free
DEFERENCE = 3.0  # seconds for which a free lease is left to replicas that serve
ASK_AGAIN = 0.15  # seconds between the two questions
ANSWER_TIME = 1.0  # seconds

_RELEASED = b"KV-Operation: DEL\r\n"
_ELSEWHERE = "elsewhere"

log = get_logger("gozo.lease")


class Role(StrEnum):
    """What a replica is."""

    LEADER = "leader"
    STANDBY = "standby"


class Lease:
    """The lease of one bucket, as one replica sees it."""

    def __init__(
        self,
        connection: Connection,
        bucket: str,
        policy: Policy,
        *,
        held: Bucket,
        name: str,
        replicas: int | None,
        may_lead: Callable[[], bool],
        rivals: Rivals,
        defers: Callable[[], bool],
    ) -> None:
        """Keep the lease of a bucket in the bucket `held`: see `open_lease`.

        `may_lead`: whether this replica could lead; `defers`: whether others should go first.
        """
        self.role = Role.STANDBY
        self.on_gained: Callable[[], None] = lambda: None
        """Told when this replica becomes the leader."""
        self.on_renewed: Callable[[], None] = lambda: None
        """Told when a lease that had lapsed is good again."""
        self.on_lost: Callable[[], None] = lambda: None
        """Told when another replica may lead by now."""
        self._connection, self._js = connection, JetStream(connection)
        self._name, self._replicas = name, replicas
        self._may_lead = may_lead
        self._rivals = rivals
        self._defers = defers
        self._free_since: float | None = None
        """Since when it has been left to others, though it is free; None: it is not free."""
        self._bucket = held
        self._subject = f"{held.prefix}leader"
        self._entrance = self._js.entrance(self._subject)
        self._alive_subject = f"{policy.request_subject}.admin.leader"
        self._policy = policy
        self.id = secrets.token_hex(11)
        """Two replicas may have been given the same name: this tells them apart."""
        self._holder = {"name": name, "bucket": bucket, "id": self.id}
        rules = {"allow": policy.allow, "deny": policy.deny, "answers": policy.answers}
        self._description = self._holder | rules
        self._listener: Listener | None = None
        self._valid_until = self._renewed_at = 0.0
        self.held_since = math.inf
        """Since when this replica has held the lease without a break, as it knows; steady clock."""
        self.written_at = -math.inf
        """When the last renewal was sent that was stored; steady clock."""
        self._revision = 0
        self._seen_at = self._looked_at = steady()
        self._released_at = -STORING
        """When it was last heard that the lease is given up."""
        self._seen: dict[str, object] = {}
        """What the lease said of its holder when it was last seen; nothing where it had none."""
        self._seen_from: str | None = None
        """Where this replica was connected then, if that was where the holder was as well."""
        self._has_room = True
        """Whether the server had room for the last renewal."""
        self._look = asyncio.Event()
        self._stopped = False
        self._writing = asyncio.Lock()
        self.decided = asyncio.Event()
        """Set once it is known whether this replica leads or another does."""
        connection.on_lost.append(self._void)
        connection.on_connected.append(self._look.set)
        connection.listen(self._subject, self._on_change)

    @property
    def is_valid(self) -> bool:
        """Whether this replica may deliver at this moment."""
        return steady() < self._valid_until and self.role is Role.LEADER

    @property
    def another_leads(self) -> bool:
        """Whether another replica leads, as far as this one has heard."""
        heard = self._revision > 0 and steady() < self._seen_at + TAKEOVER
        return self.role is Role.STANDBY and (heard or not self._connection.connected)

    @property
    def another_holds(self) -> bool:
        """Whether another replica held the lease when this one last looked."""
        return self.role is Role.STANDBY and bool(self._seen)

    async def run(self) -> NoReturn:
        """Renew the lease, or wait for it; runs until it is cancelled."""
        while True:
            self._looked_at = steady()
            self._look.clear()
            try:
                if self.role is Role.LEADER:
                    async with self._writing:
                        await self._renew()
                elif not self._stopped:
                    await self._stand_by()
            except GozoError as error:
                log.repeated("warning", "lease.waiting", role=self.role, reason=str(error))
                await self._make_again(error)
            if self.role is Role.LEADER and steady() >= self._renewed_at + TAKEOVER:
                self._lose("it could not be renewed in time")
            try:
                async with asyncio.timeout(max(0.02, self._next_look - steady())):
                    await self._look.wait()
            except TimeoutError:
                pass

    @property
    def _next_look(self) -> float:
        """When to renew or look next, on the steady clock.

        A standby looks at the very moment when the holder is overdue, and when the lease is free.
        """
        looked_at = self._looked_at
        if self.role is Role.LEADER:
            return looked_at + RENEW
        if self._seen_at < self._released_at and looked_at < self._released_at + STORING:
            return looked_at + LOOK_AGAIN  # who hears of it may be quicker than the stream
        moments = (looked_at + LOOK, self._seen_at + OVERDUE, self._seen_at + TAKEOVER)
        return min(moment for moment in moments if moment > looked_at)

    def retire(self) -> None:
        """Take the lease no more; where it is held, it still is."""
        self._stopped = True

    async def release(self) -> None:
        """Give the lease up, so that a standby takes over at once; and take it no more."""
        self.retire()
        async with self._writing:
            if self.role is not Role.LEADER:
                return
            self._lose("released", told=False)
            try:
                await self._write(_RELEASED, b"")
                log.info("lease.released")
            except GozoError as error:
                log.warning("lease.not_released", reason=str(error))

    async def give_way(self, reason: str) -> None:
        """Give the lease up to whoever can lead; this one stands by."""
        async with self._writing:
            if self.role is not Role.LEADER:
                return
            self._lose(reason)
            try:
                await self._write(_RELEASED, b"")
            except GozoError as error:
                log.warning("lease.not_released", reason=str(error))

    # The holder

    async def _renew(self) -> None:
        if self.role is not Role.LEADER:
            return
        sent, epoch = steady(), self._connection.epoch
        lapsed = sent >= self._valid_until
        if lapsed and not await self._is_ours():
            # While a server was away its memory went, or another replica was quicker.
            self._lose("it is not there any more, or another replica's")
            self._look.set()
            return
        try:
            await self._write(b"", self._value())
        except JetStreamError as error:
            self._has_room = error.code not in NO_ROOM
            if self._has_room and error.code not in CONFLICTS:
                raise
            if not await self._is_ours():
                self._lose("another replica took it")
                return
            if self._has_room:
                raise
            log.repeated("warning", "lease.no_room", reason=str(error))
        else:
            self._has_room = True
            self.written_at = sent
        # An acknowledgement that belongs to a link that was lost proves nothing about this one.
        if self._connection.epoch == epoch and self._connection.connected:
            self._renewed_at, self._valid_until = sent, sent + VALID
            if lapsed:
                log.info("lease.renewed")
                self.on_renewed()

    async def _is_ours(self) -> bool:
        """Look whether the lease is still ours, be it by a renewal whose answer was lost."""
        message = await self._read()
        if message is None or _said(message.payload).get("id") != self._holder["id"]:
            return False
        self._revision = message.sequence
        return True

    def _value(self) -> bytes:
        """What the lease says of its holder."""
        rivals = {"rivals": ids} if (ids := self._rivals.ids) else {}
        return json.dumps(self._holder | {"cluster": self._cluster} | rivals).encode()

    @property
    def own_words(self) -> str:
        """This replica as a leader, in words."""
        return words(self._name, self._holder["bucket"], *Place.of(self._connection))

    @property
    def _cluster(self) -> str:
        """The cluster that one is connected to; a server that is in none is one by itself."""
        info = self._connection.info
        return str(info.get("cluster") or info.get("server_id"))

    async def _write(self, lines: bytes, value: bytes) -> None:
        """Write the lease with the revision that we know."""
        reply = await self._connection.request(
            self._entrance, value, headers=block(lines, self._revision), timeout=ANSWER_TIME
        )
        ack = read_ack(reply.headers, reply.payload)
        if not ack.sequence:
            gone = ack.code == NO_RESPONDERS
            raise JetStreamError(ack.words, STREAM_NOT_FOUND if gone else ack.code)
        self._revision = ack.sequence
        self._seen_at = steady()
        self._see({})

    def _void(self) -> None:
        """The connection was lost: nothing is delivered before a renewal is acknowledged."""
        self._valid_until = min(self._valid_until, steady())
        self._look.set()

    def _lose(self, reason: str, *, told: bool = True) -> None:
        self._valid_until = 0.0
        self.held_since = math.inf
        self._seen_at = steady()
        self._free_since = None
        self.role = Role.STANDBY
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
        if told:
            log.warning("lease.lost", reason=reason)
            self.on_lost()

    # A standby

    async def _stand_by(self) -> None:
        message = await self._read()
        revision = message.sequence if message else 0
        released = message is not None and _RELEASED in (message.headers or b"")
        if revision != self._revision:
            if self._revision and not released:
                self.decided.set()
            if message is not None:
                self._see({} if released else _said(message.payload))
            self._revision = revision
            self._seen_at = steady()
            self._free_since = None
        if not self._may_lead():
            self.decided.set()
            return
        still = steady() - self._seen_at
        if released or still >= TAKEOVER:
            if not self._leaves_it():
                await self._take(revision)
        elif (message is None or still >= OVERDUE) and await self._nobody_leads() and self._is_near:
            await asyncio.sleep(ASK_AGAIN)
            message = await self._read()
            unchanged = (message.sequence if message else 0) == revision
            if unchanged and await self._nobody_leads() and not self._leaves_it():
                await self._take(revision)

    def _leaves_it(self) -> bool:
        """Tell whether the free lease is left, for a while, to a replica that is serving."""
        if not self._defers():
            return False
        if self._free_since is None:
            self._free_since = steady()
        return steady() < self._free_since + DEFERENCE

    def _see(self, holder: dict[str, object]) -> None:
        """Note who holds the lease, or nobody, and whether that one is where this replica is."""
        self._seen = holder
        if self._rivals.told(holder.get("rivals")):
            log.warning("rival.ignored", leader=holder.get("name"))
        near = not holder or holder.get("cluster") == self._cluster
        self._seen_from = self._place if near else _ELSEWHERE

    @property
    def _is_near(self) -> bool:
        """Whether the holder was connected where this replica was, and that still is where it is.

        A server may have been started anew since, which ended the holder's connection as well.
        """
        return self._seen_from in (None, self._place)

    @property
    def _place(self) -> str:
        return str(self._connection.info.get("cluster") or self._connection.address)

    async def _take(self, revision: int) -> None:
        """Take the lease from the revision it stands at, unless another replica is quicker."""
        if self._stopped:
            return
        # Heard before it is held: who asks meanwhile must not conclude that nobody leads.
        listener = self._connection.listen(self._alive_subject, self._on_question)
        sent, epoch = steady(), self._connection.epoch
        self._revision = revision
        try:
            await self._write(b"", self._value())
        except GozoError as error:
            listener.stop()
            if isinstance(error, JetStreamError) and error.code in CONFLICTS:
                return
            raise
        if self._connection.epoch != epoch or not self._connection.connected:
            listener.stop()
            return
        self._listener = listener
        self._renewed_at, self._valid_until = sent, sent + VALID
        self.held_since, self.written_at = steady(), sent
        self.role = Role.LEADER
        self.decided.set()
        log.info("lease.acquired", name=self._name, revision=self._revision)
        self.on_gained()

    async def _nobody_leads(self) -> bool:
        """Ask whether anybody holds the lease; not beyond the moment when it is free anyway."""
        left = max(0.02, self._seen_at + TAKEOVER - steady())
        try:
            reply = await self._connection.ask_peers(self._alive_subject, min(ANSWER_TIME, left))
        except DisconnectedError:
            raise
        except NoServerError:
            return False
        if reply.status == NO_RESPONDERS:
            return True
        self.decided.set()
        self._free_since = None
        answer = _said(reply.payload)
        if answer.get("room") is False and answer.get("id") == self._seen.get("id"):
            self._seen_at = steady()
        return False

    async def _read(self) -> StoredMessage | None:
        return await self._bucket.read("leader")

    async def _make_again(self, error: GozoError) -> None:
        """The lease's bucket is gone, as after a restart of a single server: make a new one."""
        if not isinstance(error, JetStreamError) or error.code != STREAM_NOT_FOUND:
            return
        try:
            self._bucket = await open_lease(self._js, self._bucket.name, replicas=self._replicas)
            self._look.set()
        except GozoError as failure:
            log.repeated("warning", "lease.waiting", role=self.role, reason=str(failure))

    # What others say

    def _on_change(
        self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes
    ) -> None:
        """Somebody writes the lease: a standby looks at once, and counts time from there.

        Not as often as that: what the server refuses is heard as well, and others who try to
        take the lease.
        """
        released = headers is not None and _RELEASED in headers
        if released:
            self._released_at = steady()
        follows = self.role is Role.STANDBY and steady() > self._looked_at + SPACING
        if released or follows:
            self._look.set()

    def _on_question(
        self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes
    ) -> None:
        if self.role is Role.LEADER and self._policy.may_answer_daemon(reply):
            description = self._description | {
                "room": self._has_room,
                "renewed_s": steady() - self.written_at,
                "rivals": [rival.record for rival in self._rivals.all],
                **Place.of(self._connection)._asdict(),
            }
            self._connection.write(publication(reply, json.dumps(description).encode()))


async def open_lease(js: JetStream, name: str, *, replicas: int | None) -> Bucket:
    """Find the bucket of a lease, or create it.

    It lives in memory, where a full disk cannot end it; on disk if it must.

    Raises:
        JetStreamError, UnsuitableServerError: as for `open_bucket`.
        NoServerError, NotAllowedError: as for `JetStream.call`.
    """
    try:
        return await open_bucket(js, name, replicas=replicas, memory=True)
    except JetStreamError as error:
        if error.code not in NO_RESOURCES:
            raise
        return await open_bucket(js, name, replicas=replicas)


def lease_of(bucket: str) -> str:
    """The bucket in which the lease of a bucket is."""
    return f"{bucket}_lease"


def _said(value: bytes) -> dict[str, object]:
    """Read what a lease says of its holder; nothing where that is not from gozo."""
    try:
        said = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
