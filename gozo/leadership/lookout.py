"""Watches for leaders of other buckets on the same request subject: see `gozo.leadership.rivals`.

This happens if a hub and a leaf node each have a JetStream domain and a gozo: all requests reach
both. A daemon that finds such a leader when it starts exits. If the link between them comes up
later, both report it and are not ready, but both go on: promises to clients are kept, and it is
better to accept a request twice than to lose it.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple, NoReturn

from gozo.errors import (
    DisconnectedError,
    ForeignDaemonError,
    GozoError,
    JetStreamError,
    NoServerError,
)
from gozo.leadership.leaders import LISTEN_TIME, Place, ask_leaders
from gozo.leadership.lease_record import lease_of, read_holder
from gozo.leadership.rivals import UNNOTICED, Leader, Rivals, complaint
from gozo.leadership.tenure import Role, Tenure
from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.store.bucket import stream_of
from gozo.transport.connection import Connection
from gozo.transport.jetstream import STREAM_NOT_FOUND, JetStream

ASK_INTERVAL = 10.0  # seconds between questions while no other leader is known
RIVAL_INTERVAL = 1.0  # seconds between questions while one is known
SPACING = 0.6  # minimum seconds between questions, more than between renewals of a lease
RENEWALS = 3  # renewals of a different lease that prove a rival
LONGEST_NAME = 200  # characters of each leader's description in an answer

SERVICE_INFO = "$SRV.INFO.gozo"

log = get_logger("gozo.lookout")


class Lookout:
    """Finds and reports the rivals of one replica."""

    def __init__(
        self, connection: Connection, tenure: Tenure, rivals: Rivals, subject: str
    ) -> None:
        self._connection = connection
        self._tenure = tenure
        self._rivals = rivals
        self._subject = subject
        self._soon = asyncio.Event()
        connection.on_connected.append(self.look_soon)

    @property
    def rivals(self) -> list[Leader]:
        """The leaders of other buckets, if this replica leads as well."""
        return self._rivals.all if self._tenure.role is Role.LEADER else []

    @property
    def trouble(self) -> str:
        """The problem with rivals, and what to do about it; empty without rivals."""
        rivals = self.rivals
        return complaint((self._tenure, *rivals), self._subject) if rivals else ""

    def look_soon(self) -> None:
        """Ask for other leaders soon, since there is a sign of one."""
        self._soon.set()

    def is_foreign(self, term: bytes) -> bool:
        """Tell whether messages of this term are from a rival, for its standbys."""
        return self._rivals.is_foreign(term)

    def signed(self, answer: dict[str, object]) -> dict[str, object]:
        """Add the leaders to an answer, if its receiver may also get one from a rival."""
        rivals = self.rivals
        if not rivals:
            return answer
        named = [str(one)[:LONGEST_NAME] for one in rivals]
        return answer | {"leader": str(self._tenure)[:LONGEST_NAME], "rivals": named}

    async def run(self) -> NoReturn:
        """Ask periodically while this replica leads; runs until it is cancelled."""
        while True:
            try:
                if self._tenure.role is Role.LEADER:
                    await self._look()
                else:
                    self._rivals.forget()
            except GozoError as error:
                log.debug("rivals.query_failed", reason=str(error))
            await asyncio.sleep(SPACING)
            try:
                async with asyncio.timeout(
                    ASK_INTERVAL if self._rivals.is_alone else RIVAL_INTERVAL
                ):
                    await self._soon.wait()
            except TimeoutError:
                pass
            self._soon.clear()

    async def _look(self) -> None:
        # If the lease is still ours, it has been renewed since the others answered.
        self._rivals.judge(self._tenure.held_since, self._tenure.written_at)
        asked_at = steady()
        leaders = await ask_leaders(self._connection, self._subject)
        others = [one for one in leaders if one.id != self._tenure.id]
        for one in self._rivals.heard(others, asked_at):
            log.info("rival.gone", name=one.name, bucket=one.bucket, domain=one.domain)
        if len(self._rivals.all) < len(others):
            self.look_soon()
        if trouble := self.trouble:
            log.repeated("error", "rival.leads", reason=trouble)


async def check_alone(connection: Connection, bucket: str, subject: str) -> None:
    """Make sure that no daemon of another bucket uses the request subject.

    If one leads and so does a daemon of our own bucket, the latter already reports it.

    Raises:
        ForeignDaemonError: such a daemon was found.
        NoServerError: the connection was lost meanwhile.
    """
    daemons, leaders = await asyncio.gather(
        hear_daemons(connection), ask_leaders(connection, subject)
    )
    for other in daemons:
        if other.get("request_subject") == subject and other.get("bucket") != bucket:
            raise ForeignDaemonError(
                f"the daemon {other.get('name')} already listens on {subject}, for the bucket "
                f"{other.get('bucket')}, not {bucket}: give another --request-subject, or the "
                "same --bucket"
            )
    if not leaders:
        return
    try:
        rival = await _find_foreign(connection, bucket, subject, leaders)
    except DisconnectedError:
        raise
    except (JetStreamError, NoServerError) as error:
        log.debug("rivals.check_failed", reason=str(error))  # a rival would be found later
        return
    if rival is not None:
        own = Place.of(connection)
        raise ForeignDaemonError(
            f"the daemon {rival} already leads on {subject}, for a bucket other than "
            f"{bucket}{own}: each request would be stored and delivered twice; give one of them "
            "another --request-subject, or run gozo in one place only (see Hub and leaf nodes in "
            "gozo(8))"
        )


async def hear_daemons(connection: Connection) -> list[dict[str, Any]]:
    """Return the service metadata of the daemons of all buckets.

    Raises:
        NoServerError: the connection was lost meanwhile.
    """
    found: list[dict[str, Any]] = []

    def on_answer(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        try:
            metadata = json.loads(payload)["metadata"]
        except (ValueError, LookupError, TypeError):
            metadata = None
        if isinstance(metadata, dict):
            found.append(metadata)
        else:
            log.debug("service.invalid_answer")

    inbox = connection.new_inbox(peers=True)
    listener = connection.listen(inbox, on_answer)
    try:
        connection.publish(SERVICE_INFO, reply=inbox)
        await connection.echo()
        await asyncio.sleep(LISTEN_TIME)
    finally:
        listener.stop()
    return found


async def _find_foreign(
    connection: Connection, bucket: str, subject: str, leaders: list[Leader]
) -> Leader | None:
    """Return a leader that renews a lease other than ours, if ours has no holder.

    That is proven if it renews a lease while ours does not change.

    Raises:
        JetStreamError, NoServerError, NotAllowedError: this cannot be determined.
    """
    js = JetStream(connection)
    head = await _read_holder(js, bucket)
    still_since = steady()
    since: dict[str, float] = {}
    proofs: list[Leader] = []
    while leaders and head.id not in {one.id for one in leaders}:
        since = {one.id: since.get(one.id, one.heard_at) for one in leaders}
        leaders = await ask_leaders(connection, subject)
        before, head = head, await _read_holder(js, bucket)
        if head != before:
            if head.id:
                return None  # one of ours has it
            still_since = steady()
            proofs.clear()
            continue
        for one in leaders:
            earlier = [proof.heard_at for proof in proofs if proof.id == one.id]
            if one.renewed_at is not None and one.renewed_at > max(still_since, *earlier, 0.0):
                proofs.append(one)
                if len(earlier) + 1 == RENEWALS:
                    return one
            if one.heard_at - since.get(one.id, one.heard_at) > UNNOTICED:
                return one
    return None


class Holder(NamedTuple):
    """The holder that a lease names, and its revision."""

    id: str
    """Empty without a holder."""
    revision: int


async def _read_holder(js: JetStream, bucket: str) -> Holder:
    """Read the holder of the lease of a bucket.

    Raises:
        JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
    """
    lease = lease_of(bucket)
    try:
        message = await js.last_message(stream_of(lease), f"$KV.{lease}.leader")
    except JetStreamError as error:
        if error.code != STREAM_NOT_FOUND:
            raise
        message = None
    if message is None:
        return Holder("", 0)
    id_ = str(read_holder(message.payload).get("id", ""))  # a released lease names nobody
    return Holder(id_, message.sequence)
