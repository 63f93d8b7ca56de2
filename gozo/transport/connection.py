"""A connection to NATS that is opened once and then kept up until it is closed.

`Connection` makes one link after the other, subscribes each to the same subjects, and notifies its
owner when a link is lost and when there is a new one. Nothing is sent again automatically: a
request without a reply gets "lost" as its reply when the link is lost.

This module has the life of the links. `dialer` makes a link, `inbox` receives replies.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NoReturn

from gozo.errors import DisconnectedError, GozoError, Refusal, RequestError, UnsuitableServerError
from gozo.runtime.logs import get_logger
from gozo.settings.model import ConnectionSettings
from gozo.transport.client import HardenedClient
from gozo.transport.commands import OnReply, Reply, publication
from gozo.transport.dialer import RECONNECT_WAIT, Dialer
from gozo.transport.inbox import Inbox
from gozo.transport.link import DEFAULT_MAX_PAYLOAD, SETTLED, Link, notify
from gozo.transport.liveness import Liveness
from gozo.transport.parser import Handler
from gozo.transport.payload_limit import PayloadLimit
from gozo.transport.permissions import Denials, read_denial
from gozo.transport.subscriptions import Listener, Subscriptions

PORTION = 200  # messages dispatched before other tasks run

log = get_logger("gozo.connection")


class Connection:
    """A link to NATS, replaced whenever it is lost."""

    def __init__(
        self,
        settings: ConnectionSettings,
        name: str,
        portion: int = PORTION,
        *,
        private: bool = False,
    ) -> None:
        """`private`: replies arrive where those of daemons do; see `gozo.protocol.inboxes`."""
        self.name = name
        self.js_prefix = settings.js_prefix
        """The prefix of the subjects of the JetStream API."""
        self.closed = False
        """Whether it was closed for good."""
        self._link = Link(name)
        self._denials = Denials()
        self._dialer = Dialer(settings, portion, self._link)
        self._inbox = Inbox(self._link, self._denials, settings.inbox_prefix, private=private)
        self._subscriptions = Subscriptions(self._inbox.call_echo, self._on_granted)
        self._liveness = Liveness(self._link, self._inbox)
        self._payload_limit = PayloadLimit(self._link, self._dialer)
        self._link.on_error.append(self._on_error)
        self._link.on_lost.extend((self._subscriptions.rest, self._inbox.fail_all))
        self.on_connected: list[Callable[[], None]] = []
        self.on_lost = self._link.on_lost
        self.on_closed: list[Callable[[], None]] = []
        self.on_larger = self._link.on_larger
        """Called when the server accepts larger messages than before."""
        self.on_granted: list[Callable[[str], None]] = []
        """Called with the subject of a subscription that was denied and is permitted again."""
        self.on_denied = self._denials.listeners
        """Called with each denied `publish` or `subscription`, and its subject."""
        self.denial_claims = self._denials.claims
        """Called before `on_denied`; one that returns True handles a denial; it is not logged."""
        self._listeners = self._listen_for_replies()

    # The life of a link

    async def open(self, timeout: float) -> None:
        """Connect for the first time, within `timeout` seconds.

        Raises:
            NoServerError, NotAllowedError, UnsuitableServerError, SettingsError: see `Dialer.dial`.
        """
        self._adopt(await self._dialer.dial(timeout))

    async def keep(self) -> NoReturn:
        """Reconnect whenever the link is lost; runs until it is cancelled."""
        while True:
            await self._liveness.watch()
            if self._link.age < SETTLED:
                await asyncio.sleep(_reconnect_wait())
            self._adopt(await self._reconnect())

    async def _reconnect(self) -> HardenedClient:
        while True:
            try:
                return await self._dialer.redial()
            except GozoError as error:
                level = "error" if isinstance(error, UnsuitableServerError) else "warning"
                log.repeated(level, "connection.failed", reason=str(error))
                await asyncio.sleep(_reconnect_wait())

    def _adopt(self, client: HardenedClient) -> None:
        before = self._link.client
        limit = before.max_payload if before else client.max_payload
        self._link.adopt(client)
        self._denials.clear()
        self._liveness.restart()
        self._subscriptions.carry(client)
        log.info(
            "connection.made",
            name=self.name,
            server=client.info.get("server_name", ""),
            version=client.info.get("version", ""),
        )
        notify(self.on_connected)
        if client.max_payload > limit:
            self._link.limit_raised()

    async def close(self) -> None:
        """Send what is buffered, within a second, and close for good."""
        client = self._link.close()
        self.closed = True
        self._subscriptions.rest()
        await self._payload_limit.close()
        notify(self.on_closed)
        if client is not None:
            try:
                async with asyncio.timeout(1.0):
                    await client.emptied()
            except TimeoutError:
                log.warning("connection.unsent", bytes=client.buffered)
            client.lose("closed")
            # The transport closes its socket with the next turn of the loop.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def drop(self, reason: str) -> None:
        """Abort the present link, as if the network had failed; a new one is made."""
        if self._link.client is not None:
            self._link.client.lose(reason)

    def _on_error(self, text: str) -> None:
        denied = read_denial(text)
        if denied is None:
            if self.connected:
                log.repeated("error", "connection.error", name=self.name, reason=text)
            return
        kind, subject = denied
        if kind == "subscription":
            self._subscriptions.deny(subject)
        self._denials.report(kind, subject, self._inbox.group(kind, subject))

    def _on_granted(self, subject: str) -> None:
        self._denials.granted(subject)
        notify(self.on_granted, subject)

    # The present link

    @property
    def connected(self) -> bool:
        """Whether there is a link."""
        return self._link.connected

    @property
    def epoch(self) -> int:
        """The number of the present link: if it has changed, a link was lost."""
        return self._link.epoch

    @property
    def failure(self) -> str:
        """Why the link was lost, or the last attempt to make one failed; empty while connected."""
        return self._link.failure

    @property
    def is_settled(self) -> bool:
        """Whether there is a link that has lasted for a while."""
        return self.connected and self._link.age >= SETTLED

    @property
    def stirred_at(self) -> float:
        """When data last moved on the link, or an attempt to make one failed; steady clock."""
        return self._link.stirred_at

    @property
    def info(self) -> dict[str, Any]:
        """The server's INFO, as of the last time it was connected to."""
        return self._link.info

    @property
    def address(self) -> str:
        """The address of the server, without credentials; empty before the first link."""
        client = self._link.client
        return client.address if client else ""

    @property
    def max_payload(self) -> int:
        """The most bytes of a message, payload and headers together."""
        client = self._link.client
        return client.max_payload if client else DEFAULT_MAX_PAYLOAD

    def doubt_limits(self) -> None:
        """Have the limit on the size of messages checked again: a message was too large."""
        self._payload_limit.doubt()

    @contextmanager
    def doubting_limits(self) -> Iterator[None]:
        """Have the limit checked again if the code in this context is refused as too large."""
        try:
            yield
        except RequestError as error:
            if error.code is Refusal.TOO_LARGE:
                self.doubt_limits()
            raise

    # Sending

    @property
    def buffered(self) -> int:
        """Bytes written that the operating system has not accepted yet, after a push."""
        client = self._link.client
        return client.buffered if client else 0

    @property
    def backlog(self) -> int:
        """Bytes that wait to be sent, including those of this turn of the event loop."""
        client = self._link.client
        return client.backlog if client else 0

    async def drained(self) -> None:
        """Wait until there is room to write again.

        Raises:
            DisconnectedError: there is no link, or it was lost.
        """
        client = self._link.require()
        try:
            await client.drained()
        except ConnectionError as error:
            raise DisconnectedError("the connection to NATS was lost") from error

    def write(self, data: bytes) -> None:
        """Send commands made with `publication`, in one piece.

        Raises:
            DisconnectedError: there is no link.
        """
        self._link.require().write(data)

    def publish(
        self, subject: str, payload: bytes = b"", *, headers: bytes = b"", reply: str = ""
    ) -> None:
        """Send a message; only a reply shows that it arrived.

        Raises:
            DisconnectedError: there is no link.
        """
        self.write(publication(subject.encode(), payload, headers, reply.encode()))

    def failing_if_denied(
        self, subject: str, answer: asyncio.Future[Reply], needed: str = ""
    ) -> AbstractContextManager[None]:
        """Make `answer` fail if publishing is denied; see `Denials.failing`."""
        return self._denials.failing(subject, answer, needed)

    # Receiving

    def listen(self, subject: str, handler: Handler, *, queue: str = "", most: int = 0) -> Listener:
        """Subscribe, on this link and on all later ones; see `HardenedClient.listen`."""
        return self._subscriptions.add(subject, handler, queue, most)

    @property
    def refused(self) -> frozenset[str]:
        """The subjects whose subscriptions the server denied, so that nothing is received."""
        return self._subscriptions.refused

    @property
    def inbox_prefix(self) -> str:
        """The prefix of the subjects for replies."""
        return self._inbox.prefix

    def use_inboxes(self, prefix: str) -> None:
        """Receive replies below a prefix from now on; no reply may be awaited."""
        for listener in self._listeners:
            listener.stop()
        self._inbox.move(prefix)
        self._listeners = self._listen_for_replies()

    def _listen_for_replies(self) -> list[Listener]:
        add = self._subscriptions.add
        return [add(subject, handler) for subject, handler in self._inbox.subscriptions()]

    def new_inbox(self, *, peers: bool = False) -> str:
        """Return a new subject for replies; `peers`: for those of other daemons."""
        return self._inbox.new_subject(peers=peers)

    # Requests: see `Inbox`

    def call(
        self, subject: bytes, payload: bytes, on_reply: OnReply, headers: bytes = b""
    ) -> bytes:
        """Send a message; its first reply goes to `on_reply`. Returns a token for `hang_up`."""
        return self._inbox.call(subject, payload, on_reply, headers)

    def call_echo(self, on_reply: OnReply) -> bytes:
        """Send a message to ourselves; everything that the server sent before arrives before it."""
        return self._inbox.call_echo(on_reply)

    def expect(self, on_reply: OnReply) -> tuple[bytes, bytes]:
        """Return a token, and the subject on which a message for `on_reply` may arrive."""
        return self._inbox.expect(on_reply)

    def expect_more(self, token: bytes, on_reply: OnReply) -> None:
        """Wait for another reply to a `call`."""
        self._inbox.expect_more(token, on_reply)

    def hang_up(self, token: bytes) -> None:
        """Stop waiting for the reply to a `call`."""
        self._inbox.hang_up(token)

    async def request(
        self, subject: str, payload: bytes = b"", *, headers: bytes = b"", timeout: float = 2.0
    ) -> Reply:
        """Send a message and wait for its reply, up to `timeout` seconds."""
        return await self._inbox.request(subject, payload, headers=headers, timeout=timeout)

    async def ask_peers(self, subject: str, timeout: float) -> Reply:
        """Send other daemons an empty message and wait for the first reply."""
        return await self._inbox.ask_peers(subject, timeout)

    async def echo(self, timeout: float = 2.0) -> None:
        """Wait until the server has read all that we sent, and we all that it sent before."""
        await self._inbox.echo(timeout)


def _reconnect_wait() -> float:
    return RECONNECT_WAIT * random.uniform(0.8, 1.2)  # noqa: S311  # jitter
