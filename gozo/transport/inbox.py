"""The subjects on which a connection receives replies, and the requests that they answer."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial

from gozo.errors import NoServerError
from gozo.protocol.inboxes import LENGTH, PEERS, prefix_for, tokens
from gozo.transport.commands import OnReply, Reply, keeper_of, publication
from gozo.transport.link import Link, notify
from gozo.transport.parser import Handler
from gozo.transport.permissions import Denials

_TOKEN = slice(-LENGTH, None)
"""The place of the token in the subject of a reply."""


class Inbox:
    """Matches replies with the requests of one connection.

    A request that has no reply when the link is lost gets "lost" as its reply; it is not repeated.
    """

    def __init__(self, link: Link, denials: Denials, prefix: str | None, *, private: bool) -> None:
        """`private`: replies arrive where those of daemons do; see `gozo.protocol.inboxes`."""
        self._link = link
        self._denials = denials
        self._private = private
        self._tokens = tokens()
        self._waiting: dict[bytes, OnReply] = {}
        self.move(prefix_for(prefix, private=private))

    def move(self, prefix: str) -> None:
        """Receive replies below a prefix from now on; no reply may be awaited."""
        self.prefix = prefix
        """The prefix of all subjects for replies."""
        self._own = f"{self.new_subject()}.".encode()
        self._peers = f"{self.new_subject(peers=True)}.".encode() if self._private else self._own

    def new_subject(self, *, peers: bool = False) -> str:
        """Return a new subject for replies; `peers`: for those of other daemons."""
        part = f".{PEERS}" if peers and self._private else ""
        return f"{self.prefix}{part}.{secrets.token_hex(11)}"

    def subscriptions(self) -> list[tuple[str, Handler]]:
        """Return the subjects to subscribe to, each with its handler."""
        inboxes = dict.fromkeys((self._own, self._peers))
        return [(f"{inbox.decode()}*", self._on_reply) for inbox in inboxes]

    def group(self, kind: str, subject: str) -> str:
        """Return the group of a denied subject, to log once: each reply has its own subject."""
        inbox = f"{self.prefix}." if self._private else self._own.decode()
        return inbox if kind == "publish" and subject.startswith(inbox) else subject

    def call(
        self, subject: bytes, payload: bytes, on_reply: OnReply, headers: bytes = b""
    ) -> bytes:
        """Send a message with its own reply subject; the first reply goes to `on_reply`.

        Returns a token for `hang_up`: there is no time limit here.

        Raises:
            DisconnectedError: there is no link.
        """
        client = self._link.require()
        token = next(self._tokens)
        self._waiting[token] = on_reply
        client.write(publication(subject, payload, headers, self._own + token))
        return token

    def call_echo(self, on_reply: OnReply) -> bytes:
        """Send a message to ourselves; everything that the server sent before arrives before it.

        Raises:
            DisconnectedError: there is no link.
        """
        client = self._link.require()
        token = next(self._tokens)
        self._waiting[token] = on_reply
        client.write(publication(self._own + token, b""))
        return token

    def expect(self, on_reply: OnReply) -> tuple[bytes, bytes]:
        """Return a token, and the subject on which a message for `on_reply` may arrive.

        Raises:
            DisconnectedError: there is no link.
        """
        self._link.require()
        token = next(self._tokens)
        self._waiting[token] = on_reply
        return token, self._own + token

    def expect_more(self, token: bytes, on_reply: OnReply) -> None:
        """Wait for another reply to a `call`."""
        self._waiting[token] = on_reply

    def hang_up(self, token: bytes) -> None:
        """Stop waiting for the reply to a `call`."""
        self._waiting.pop(token, None)

    async def request(
        self, subject: str, payload: bytes = b"", *, headers: bytes = b"", timeout: float = 2.0
    ) -> Reply:
        """Send a message and wait for its reply, up to `timeout` seconds.

        Raises:
            NotAllowedError: gozo has no permission to publish there.
            NoServerError: no reply came in time.
            DisconnectedError: there is no link, or it was lost.
        """
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        token = self.call(subject.encode(), payload, partial(self._resolve, answer), headers)
        with self._denials.failing(subject, answer):
            return await self._within(timeout, token, answer, f"no answer on {subject}")

    async def ask_peers(self, subject: str, timeout: float) -> Reply:
        """Send other daemons an empty message and wait for the first reply.

        The acknowledgement of a stream that captures the subject does not count.

        Raises:
            NotAllowedError, NoServerError, DisconnectedError: as for `request`.
        """
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def on_reply(headers: bytes | None, payload: bytes | None) -> None:
            if keeper_of(payload):
                self._waiting[token] = on_reply
            else:
                self._resolve(answer, headers, payload)

        token, _ = self.expect(on_reply)
        data = publication(subject.encode(), b"", reply=self._peers + token)
        self._link.require().write(data)
        with self._denials.failing(subject, answer):
            return await self._within(timeout, token, answer, f"no answer on {subject}")

    async def echo(self, timeout: float = 2.0) -> None:
        """Wait until the server has read all that we sent, and we all that it sent before.

        Raises:
            NotAllowedError, NoServerError, DisconnectedError: as for `request`.
        """
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        token = self.call_echo(partial(self._resolve, answer))
        subject = (self._own + token).decode()
        # Each echo has its own subject, but all need the same permission.
        with self._denials.failing(subject, answer, f"{self.prefix}.>"):
            await self._within(timeout, token, answer, "no answer to an echo")

    async def _within(
        self, timeout: float, token: bytes, answer: asyncio.Future[Reply], silence: str
    ) -> Reply:
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError as error:
            raise NoServerError(f"{silence} within {timeout:g} s") from error
        finally:
            self.hang_up(token)

    def _resolve(
        self, answer: asyncio.Future[Reply], headers: bytes | None, payload: bytes | None
    ) -> None:
        """Pass on a reply, or the loss of the link."""
        if answer.done():
            return
        if payload is None:
            answer.set_exception(self._link.lost_error())
        else:
            answer.set_result(Reply(headers, payload))

    def fail_all(self) -> None:
        """Answer all pending requests that the link was lost."""
        waiting, self._waiting = self._waiting, {}
        notify(waiting.values(), None, None)

    def _on_reply(
        self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes
    ) -> None:
        on_reply = self._waiting.pop(subject[_TOKEN], None)
        if on_reply is not None:
            on_reply(headers, payload)
