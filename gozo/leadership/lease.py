"""The lease: of all replicas, only its holder delivers.

The lease is a key in its own bucket, renewed by compare-and-swap. Each replica measures time on
its own steady clock: the holder from when it *sent* its last acknowledged renewal, a standby from
when it *saw* the revision change. So the holder stops before another replica can start.

A standby takes the lease when its revision has not changed for `TAKEOVER` seconds; at once when
the holder has released it; and soon when a renewal is overdue and two questions on the subject of
the connected holder have found no listener. The last is safe because a holder that loses its
connection holds no lease until a renewal is acknowledged again. It proves nothing about a holder
at another cluster or leaf node: there, the link between the servers may be down while the holder's
own connection is up. So a standby waits until such a holder's time is over. (Inside a cluster, the
same can happen if only the routes between the servers are reset. Waiting there as well would make
every crash of a host cost `TAKEOVER` seconds; so in that case both may deliver until the old
holder's time is over.)

If the server has no room for a renewal, it has none for another replica's write either. The holder
then reads the lease to make sure that it still holds it, and says so to standbys that ask, which
measure time from then on.
"""

from __future__ import annotations

import asyncio
import json
from typing import NoReturn, Protocol

from gozo.errors import DisconnectedError, GozoError, JetStreamError, NoServerError
from gozo.leadership.leaders import Place
from gozo.leadership.lease_record import ANSWER_TIME, LeaseRecord, is_release, read_holder
from gozo.leadership.rivals import Rivals
from gozo.leadership.tenure import Role, Tenure
from gozo.protocol.subject_policy import Policy
from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.transport.commands import publication
from gozo.transport.connection import Connection
from gozo.transport.jetstream import (
    CONFLICTS,
    NO_RESPONDERS,
    NO_ROOM,
    STREAM_NOT_FOUND,
    StoredMessage,
)
from gozo.transport.subscriptions import Listener

RENEW_EVERY = 0.5  # seconds between renewals
READ_EVERY = 0.6  # seconds between reads of a standby that does not receive the renewals
READ_AGAIN = 0.02  # seconds between reads of a standby that was notified of a release
STORING = 1.0  # seconds within which a write that a standby sees is stored, if ever
SPACING = 0.25  # seconds after a read in which another write causes no read
OVERDUE = 0.9  # seconds without a renewal after which a standby asks whether the holder lives
DEFERENCE = 3.0  # seconds that a free lease is left to replicas that are serving
ASK_AGAIN = 0.15  # seconds between the two questions
SHORTEST_WAIT = 0.02  # seconds

log = get_logger("gozo.lease")


class Candidate(Protocol):
    """The replica that wants the lease; it is notified when it gains or loses the lease."""

    def may_lead(self) -> bool:
        """Tell whether this replica could lead."""

    def defers(self) -> bool:
        """Tell whether other replicas should take the lease first."""

    def on_gained(self) -> None:
        """Called when this replica has become the leader."""

    def on_renewed(self) -> None:
        """Called when a lease that had lapsed is valid again."""

    def on_lost(self) -> None:
        """Called when another replica may lead."""


class Lease:
    """Takes, renews and releases the lease for one replica."""

    def __init__(
        self,
        connection: Connection,
        tenure: Tenure,
        record: LeaseRecord,
        policy: Policy,
        rivals: Rivals,
        candidate: Candidate,
    ) -> None:
        self._connection = connection
        self._tenure = tenure
        self._record = record
        self._policy = policy
        self._rivals = rivals
        self._candidate = candidate
        self._alive_subject = f"{policy.request_subject}.admin.leader"
        self._holder = {"name": tenure.name, "bucket": tenure.bucket, "id": tenure.id}
        rules = {"allow": policy.allow, "deny": policy.deny, "answers": policy.answers}
        self._description = self._holder | rules
        self._listener: Listener | None = None
        """The subscription to the subject on which only the leader listens."""
        self._read_at = steady()
        self._released_at = -STORING
        """When a release was last received."""
        self._deferred_since: float | None = None
        """Since when the free lease has been left to others; None: it is not left."""
        self._has_room = True
        """Whether the server had room for the last renewal."""
        self._wake = asyncio.Event()
        self._is_retired = False
        self._writing = asyncio.Lock()
        self.decided = asyncio.Event()
        """Set once it is known which replica leads."""
        connection.on_lost.append(self._on_disconnected)
        connection.on_connected.append(self._wake.set)
        connection.listen(record.subject, self._on_write)

    async def run(self) -> NoReturn:
        """Renew the lease, or wait for it; runs until it is cancelled."""
        tenure = self._tenure
        while True:
            self._read_at = steady()
            self._wake.clear()
            try:
                if tenure.role is Role.LEADER:
                    async with self._writing:
                        await self._renew()
                elif not self._is_retired:
                    await self._stand_by()
            except GozoError as error:
                log.repeated("warning", "lease.waiting", role=tenure.role, reason=str(error))
                await self._make_again(error)
            if tenure.is_overdue:
                self._lose("not renewed in time")
            try:
                async with asyncio.timeout(max(SHORTEST_WAIT, self._next_turn - steady())):
                    await self._wake.wait()
            except TimeoutError:
                pass

    @property
    def _next_turn(self) -> float:
        """When to renew or read next, on the steady clock.

        A standby reads when the holder becomes overdue, and when the lease becomes free.
        """
        read_at, seen_at = self._read_at, self._tenure.seen_at
        if self._tenure.role is Role.LEADER:
            return read_at + RENEW_EVERY
        if seen_at < self._released_at and read_at < self._released_at + STORING:
            return read_at + READ_AGAIN  # the notification may precede the stored release
        moments = (read_at + READ_EVERY, seen_at + OVERDUE, self._tenure.free_at)
        return min(moment for moment in moments if moment > read_at)

    def retire(self) -> None:
        """Stop trying to take the lease; a held one is kept until `release`."""
        self._is_retired = True

    async def release(self) -> None:
        """Release the lease for good, so that a standby takes over at once."""
        self.retire()
        async with self._writing:
            if self._tenure.role is not Role.LEADER:
                return
            self._stop_leading()
            if await self._write_release():
                log.info("lease.released")

    async def give_way(self, reason: str) -> None:
        """Release the lease to whichever replica can lead; this one stands by."""
        async with self._writing:
            if self._tenure.role is not Role.LEADER:
                return
            self._lose(reason)
            await self._write_release()

    async def _write_release(self) -> bool:
        tenure = self._tenure
        try:
            tenure.wrote(await self._record.release(tenure.revision))
        except GozoError as error:
            log.warning("lease.not_released", reason=str(error))
            return False
        return True

    # The holder

    async def _renew(self) -> None:
        tenure, connection = self._tenure, self._connection
        if tenure.role is not Role.LEADER:
            return
        sent, epoch = steady(), connection.epoch
        lapsed = not tenure.is_valid
        if lapsed and not await self._is_ours():
            # The server restarted and lost its memory, or another replica took the lease.
            self._lose("the entry is gone, or belongs to another replica")
            self._wake.set()
            return
        try:
            await self._write()
        except JetStreamError as error:
            self._has_room = error.code not in NO_ROOM
            if self._has_room and error.code not in CONFLICTS:
                raise
            if not await self._is_ours():
                self._lose("another replica took the lease")
                return
            if self._has_room:
                raise
            log.repeated("warning", "lease.storage_full", reason=str(error))
        else:
            self._has_room = True
            tenure.stored(sent)
        # An acknowledgement over a link that was lost since proves nothing about the new one.
        if connection.epoch == epoch and connection.connected:
            tenure.confirmed(sent)
            if lapsed:
                log.info("lease.renewed")
                self._candidate.on_renewed()

    async def _is_ours(self) -> bool:
        """Read whether this replica still holds the lease, as after a renewal without an answer."""
        message = await self._record.read()
        if message is None or read_holder(message.payload).get("id") != self._tenure.id:
            return False
        self._tenure.expects(message.sequence)
        return True

    async def _write(self) -> None:
        """Write the lease for this replica, in place of the known revision."""
        tenure = self._tenure
        rivals = {"rivals": ids} if (ids := self._rivals.ids) else {}
        value = json.dumps(self._holder | {"cluster": tenure.cluster} | rivals).encode()
        tenure.wrote(await self._record.write(value, tenure.revision))

    def _on_disconnected(self) -> None:
        self._tenure.void()
        self._wake.set()

    def _lose(self, reason: str) -> None:
        self._stop_leading()
        log.warning("lease.lost", reason=reason)
        self._candidate.on_lost()

    def _stop_leading(self) -> None:
        self._tenure.lost()
        self._deferred_since = None
        if self._listener is not None:
            self._listener.stop()
            self._listener = None

    # A standby

    async def _stand_by(self) -> None:
        tenure = self._tenure
        message = await self._record.read()
        revision = message.sequence if message else 0
        released = message is not None and is_release(message.headers)
        if revision != tenure.revision:
            self._see(message, released=released)
        if not self._candidate.may_lead():
            self.decided.set()
            return
        unchanged = steady() - tenure.seen_at
        if released or steady() >= tenure.free_at:
            if not self._leaves_it():
                await self._take()
        elif (
            (message is None or unchanged >= OVERDUE)
            and await self._nobody_leads()
            and tenure.is_holder_near
        ):
            await asyncio.sleep(ASK_AGAIN)
            message = await self._record.read()
            is_same = (message.sequence if message else 0) == revision
            if is_same and await self._nobody_leads() and not self._leaves_it():
                await self._take()

    def _see(self, message: StoredMessage | None, *, released: bool) -> None:
        """Note that the lease has changed."""
        tenure = self._tenure
        if tenure.revision and not released:
            self.decided.set()
        if message is not None:
            holder = {} if released else read_holder(message.payload)
            tenure.saw_holder(holder)
            if self._rivals.told(holder.get("rivals")):
                log.warning("rival.ignored", leader=holder.get("name"))
        tenure.saw(message.sequence if message else 0)
        self._deferred_since = None

    def _leaves_it(self) -> bool:
        """Tell whether to leave the free lease, for a while, to a replica that is serving."""
        if not self._candidate.defers():
            return False
        if self._deferred_since is None:
            self._deferred_since = steady()
        return steady() < self._deferred_since + DEFERENCE

    async def _take(self) -> None:
        """Take the lease, unless another replica is quicker."""
        if self._is_retired:
            return
        tenure, connection = self._tenure, self._connection
        # Before the lease is held, so that a standby that asks meanwhile finds a listener.
        listener = connection.listen(self._alive_subject, self._on_question)
        sent, epoch = steady(), connection.epoch
        try:
            await self._write()
        except GozoError as error:
            listener.stop()
            if isinstance(error, JetStreamError) and error.code in CONFLICTS:
                return
            raise
        if connection.epoch != epoch or not connection.connected:
            listener.stop()
            return
        self._listener = listener
        tenure.gained(sent)
        self.decided.set()
        log.info("lease.acquired", name=tenure.name, revision=tenure.revision)
        self._candidate.on_gained()

    async def _nobody_leads(self) -> bool:
        """Ask whether a replica holds the lease, until its time is over anyway."""
        tenure = self._tenure
        left = max(SHORTEST_WAIT, tenure.free_at - steady())
        try:
            reply = await self._connection.ask_peers(self._alive_subject, min(ANSWER_TIME, left))
        except DisconnectedError:
            raise
        except NoServerError:
            return False
        if reply.status == NO_RESPONDERS:
            return True
        self.decided.set()
        self._deferred_since = None
        answer = read_holder(reply.payload)
        if answer.get("room") is False and answer.get("id") == tenure.holder.get("id"):
            tenure.heard_holder()
        return False

    async def _make_again(self, error: GozoError) -> None:
        """Create the lease's bucket again if it is gone."""
        if not isinstance(error, JetStreamError) or error.code != STREAM_NOT_FOUND:
            return
        try:
            await self._record.make_again()
            self._wake.set()
        except GozoError as failure:
            reason = str(failure)
            log.repeated("warning", "lease.waiting", role=self._tenure.role, reason=reason)

    # Messages from others

    def _on_write(
        self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes
    ) -> None:
        """Handle a write of the lease: a standby reads it at once, and measures time from then on.

        Not after every write: a standby also receives writes that the server refuses, such as those
        of other replicas that try to take the lease.
        """
        released = is_release(headers)
        if released:
            self._released_at = steady()
        follows = self._tenure.role is Role.STANDBY and steady() > self._read_at + SPACING
        if released or follows:
            self._wake.set()

    def _on_question(
        self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes
    ) -> None:
        if self._tenure.role is Role.LEADER and self._policy.may_answer_daemon(reply):
            description = self._description | {
                "room": self._has_room,
                "renewed_s": steady() - self._tenure.written_at,
                "rivals": [rival.record for rival in self._rivals.all],
                **Place.of(self._connection)._asdict(),
            }
            self._connection.write(publication(reply, json.dumps(description).encode()))
