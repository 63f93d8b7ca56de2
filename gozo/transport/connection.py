"""A connection to NATS that is made once, and then kept for ever.

`Connection` connects one hardened client after the other, subscribes each to the same
subjects, and tells its owner when the link was lost and when it is back. What was sent and
not answered when the link was lost is answered with "lost"; nothing is sent again by itself.

Errors of nats-py are translated here.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, NoReturn

from gozo.errors import (
    DisconnectedError,
    GozoError,
    NoServerError,
    NotAllowedError,
    Refusal,
    RequestError,
    SettingsError,
    UnsuitableServerError,
)
from gozo.protocol.inboxes import PEERS, prefix_for, tokens
from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.runtime.tasks import end
from gozo.settings.model import ConnectionSettings
from gozo.transport.client import Handler, HardenedClient
from gozo.transport.dialer import (
    PassingError,
    TurnedAwayError,
    check_headers,
    explain,
    lasts,
    options,
    targets,
)
from gozo.transport.subscriptions import Listener, Subscriptions

ATTEMPT = 2.0  # seconds for one server to answer
CHECK = 10.0  # seconds between looks whether a link carries messages, and for it to carry one
ASK_AGAIN = 5.0  # seconds between questions to a server what it takes
LAG = 60.0  # seconds that an echo may be behind all else that a server keeps for us
RECONNECT_WAIT = 0.25  # seconds between rounds through the servers
SETTLED = 1.0  # seconds after which a link that is lost may be made anew at once

PORTION = 200  # messages dispatched before others get their turn
MOST_DENIED = 1_000  # rights whose lack is remembered as logged

OnReply = Callable[[bytes | None, bytes | None], None]
"""Takes an answer's header block and payload; the payload is None if the link was lost."""

_DENIED = re.compile(
    r'permissions violation for (publish|subscription) to ("(?:[^"\\]|\\.)*")', re.IGNORECASE
)

log = get_logger("gozo.connection")


class Reply(NamedTuple):
    """An answer to a request."""

    headers: bytes | None
    payload: bytes

    @property
    def status(self) -> int:
        """The status that the server put in the first line (ADR-4), e.g. 503; 0 if none."""
        return status_of(self.headers)


class Connection:
    """One link to NATS, renewed whenever it is lost."""

    # It has more attributes than Python is quick with otherwise: see tests/unit/test_attributes.py.
    __slots__ = (
        *("_asked_at", "_asking", "_client", "_denied", "_dialed", "_echoed_at", "_failed_at"),
        *("_inbox", "_inboxes", "_lost", "_made_at", "_may_echo", "_peers", "_portion", "_private"),
        *("_settings", "_skip", "_subscriptions", "_tokens", "_used", "_waiting", "closed"),
        *("connected", "epoch", "failure", "inbox_prefix", "name", "on_closed", "on_connected"),
        *("on_denied", "on_granted", "on_larger", "on_lost", "takes_denied"),
    )

    def __init__(
        self,
        settings: ConnectionSettings,
        name: str,
        portion: int = PORTION,
        *,
        private: bool = False,
    ) -> None:
        """`private`: answers come where daemons hear them; see `gozo.protocol.inboxes`."""
        self.name = name
        self._portion = portion
        self.epoch = 0
        """The number of the present link: a different one means that a link was lost."""
        self.connected = False
        self.closed = False
        """Whether it was closed for good."""
        self.failure = ""
        """Why the link was lost, or no server reached when that was last tried; else empty."""
        self.on_lost: list[Callable[[], None]] = []
        self.on_connected: list[Callable[[], None]] = []
        self.on_granted: list[Callable[[str], None]] = []
        """Called with the subject of a subscription that was refused and is permitted again."""
        self.on_closed: list[Callable[[], None]] = []
        self.on_larger: list[Callable[[], None]] = []
        """Told that the server takes larger messages than it did."""
        self.on_denied: list[Callable[[str, str], None]] = []
        """Told of each refused `publish` or `subscription`, with its subject."""
        self._failed_at = steady()
        self._made_at = steady()
        self._echoed_at = steady()
        self._used = settings.addresses[0]
        """The address that last served, of those given."""
        self._dialed = self._used, ""
        """The address of the present link, and its name for TLS; see `targets`."""
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = -ASK_AGAIN
        self._may_echo = True
        """Whether the server has not refused an echo on this link."""
        self._settings = settings
        self._client: HardenedClient | None = None
        self._subscriptions = Subscriptions(self.call_echo, self._on_granted)
        self.takes_denied: Callable[[str, str], bool] = lambda kind, subject: False
        """Asked first: True where somebody sees to it, so that nobody else is told, nor the log."""
        self._denied: set[tuple[str, str]] = set()
        """What the server refused, and was logged, since the link was made."""
        self._lost = asyncio.Event()
        self._waiting: dict[bytes, OnReply] = {}
        self._private = private
        self._tokens = tokens()
        self._inboxes: list[Listener] = []
        self.use_inboxes(prefix_for(settings.inbox_prefix, private=private))

    # The life of a link

    async def open(self, timeout: float) -> None:
        """Connect for the first time, within `timeout` seconds.

        Raises:
            NoServerError: no server answered.
            TurnedAwayError: one did answer, and took no connection: it is full, for instance.
            NotAllowedError: a server refused the credentials, or there is no TLS; at once where
                all have refused.
            UnsuitableServerError: none can carry what gozo sends.
            SettingsError: a file of certificates or credentials cannot be used.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        told: set[str] = set()
        turned_away: TurnedAwayError | None = None
        while True:
            try:
                return await self._connect(deadline)
            except (NoServerError, PassingError) as error:
                if isinstance(error, TurnedAwayError):
                    turned_away = error
                if asyncio.get_running_loop().time() + RECONNECT_WAIT >= deadline:
                    if isinstance(error, NoServerError) and turned_away is not None:
                        # A server's own words; those of its last line may have been lost.
                        raise turned_away from error
                    raise
                if str(error) not in told:
                    told.add(str(error))
                    log.info("connection.failed", reason=str(error), wait_s=timeout)
            await asyncio.sleep(RECONNECT_WAIT)

    async def keep(self) -> NoReturn:
        """Reconnect whenever the link is lost; runs until it is cancelled."""
        while True:
            try:
                async with asyncio.timeout(CHECK):
                    await self._lost.wait()
            except TimeoutError:
                await self._check()
                continue
            try:
                if steady() - self._made_at < SETTLED:
                    self._made_at = 0.0  # it is waited for once
                    await asyncio.sleep(_reconnect_wait())
                await self._connect(None)
            except GozoError as error:
                level = "error" if isinstance(error, UnsuitableServerError) else "warning"
                log.repeated(level, "connection.failed", reason=str(error))
                await asyncio.sleep(_reconnect_wait())

    async def _check(self) -> None:
        """Leave a link that answers PINGs, and carries no messages: its subscriptions are gone.

        An echo comes behind all that the server has for us. While that comes, the echo is
        waited for; not for ever, since a link may bring what it is sent and take nothing.
        """
        client = self._client
        if client is None or not self._may_echo:
            return
        client.carried = False
        try:
            await self.echo(CHECK)
        except NotAllowedError:
            self._may_echo = False  # who refuses it has heard it, and would again
        except DisconnectedError:
            return
        except NoServerError:
            if client is self._client and not self.buffered:
                lag = steady() - self._echoed_at
                if not client.carried or lag > LAG:
                    self.drop("it carries no messages")
            return
        self._echoed_at = steady()

    async def close(self) -> None:
        """Send what is buffered, within a second, and close for good."""
        client, self._client = self._client, None
        self.connected = False
        self.closed = True
        self._subscriptions.rest()
        await end(self._asking)
        for tell in self.on_closed:
            _call(tell)
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
        """Give the present link up, as if the network had: a new one is made."""
        if self._client is not None:
            self._client.lose(reason)

    def doubt_limits(self) -> None:
        """Have the server asked anew how large a message it takes: one was too large.

        A limit that was raised is told to new connections only, so one is made for that. It is
        made now and then, and only where something was refused, since it takes a place of those
        that the account may have.
        """
        now = steady()
        if self.connected and now >= self._asked_at + ASK_AGAIN:
            self._asked_at = now
            self._asking = asyncio.create_task(self._ask_limits(), name="ask for limits")

    @contextmanager
    def doubting_limits(self) -> Iterator[None]:
        """Do so where something is refused as too large."""
        try:
            yield
        except RequestError as error:
            if error.code is Refusal.TOO_LARGE:
                self.doubt_limits()
            raise

    async def _ask_limits(self) -> None:
        client, (address, tls_name) = self._client, self._dialed
        one_more = HardenedClient(
            secure=self._settings.demands_tls,
            portion=self._portion,
            on_lost=lambda reason: None,
            on_error=lambda text: None,
            on_larger=lambda: None,
        )
        try:
            await one_more.open(
                timeout=ATTEMPT, **options(self._settings, self.name, address, tls_name)
            )
        except Exception as error:  # noqa: BLE001  # as in `_connect`
            log.debug("connection.limits_unknown", reason=str(error))
            return
        finally:
            one_more.lose("asked")
        said = one_more.info
        # Another server may be behind the same address.
        if client is not None and said.get("server_id") == client.info.get("server_id"):
            client.note_info({"max_payload": one_more.max_payload})

    def _on_larger(self) -> None:
        if self.connected:
            log.info("connection.takes_more", name=self.name, max_payload=self.max_payload)
            for tell in self.on_larger:
                _call(tell)

    async def _connect(self, deadline: float | None) -> None:
        """Try each server once.

        Raises:
            NotAllowedError: all have refused; a PassingError where to try again may help.
            UnsuitableServerError: none can carry what gozo sends.
            NoServerError: none serves just now; a TurnedAwayError where one answered.
            SettingsError: a file of certificates or credentials cannot be used.
        """
        failures: list[GozoError] = []
        for address, tls_name in targets(self._settings, self._used, self.info):
            timeout = ATTEMPT
            if deadline is not None:
                timeout = min(timeout, max(0.1, deadline - asyncio.get_running_loop().time()))
            client = HardenedClient(
                secure=self._settings.demands_tls,
                portion=self._portion,
                on_lost=self._on_lost,
                on_error=self._on_error,
                on_larger=self._on_larger,
            )
            try:
                await client.open(
                    timeout=timeout, **options(self._settings, self.name, address, tls_name)
                )
                check_headers(address, client.info)
            except SettingsError:
                raise
            except Exception as error:  # noqa: BLE001  # whatever nats-py makes of no NATS server
                self._failed_at = steady()
                failures.append(explain(address, error, client.info, self._settings))
                client.lose("could not connect")
                continue
            finally:
                if not client.is_connected:
                    client.lose("could not connect")
            if address in self._settings.addresses:
                self._used = address
            self._dialed = address, tls_name
            self._adopt(client)
            return
        self.failure = "; ".join(dict.fromkeys(map(str, failures)))
        if all(lasts(failure) for failure in failures):
            raise failures[0]
        if any(isinstance(failure, NotAllowedError) for failure in failures):
            raise PassingError(self.failure)
        if any(isinstance(failure, TurnedAwayError) for failure in failures):
            raise TurnedAwayError(self.failure)
        raise NoServerError(self.failure)

    def _adopt(self, client: HardenedClient) -> None:
        before = self._client.max_payload if self._client else client.max_payload
        self._client = client
        self._denied.clear()
        self._lost.clear()
        self.epoch += 1
        self._made_at = self._echoed_at = steady()
        self._may_echo = True
        self.connected = True
        self.failure = ""
        self._subscriptions.carry(client)
        log.info(
            "connection.made",
            name=self.name,
            server=client.info.get("server_name", ""),
            version=client.info.get("version", ""),
        )
        for tell in self.on_connected:
            _call(tell)
        if client.max_payload > before:
            self._on_larger()

    def _on_lost(self, reason: str) -> None:
        if not self.connected:
            return
        self.connected = False
        self.failure = reason
        self._lost.set()
        self._subscriptions.rest()
        log.warning("connection.lost", name=self.name, reason=reason)
        waiting, self._waiting = self._waiting, {}
        for on_reply in waiting.values():
            _call(on_reply, None, None)
        for tell in self.on_lost:
            _call(tell)

    def _on_error(self, text: str) -> None:
        match = _DENIED.match(text)
        if match is None:
            if self.connected:
                log.repeated("error", "connection.error", name=self.name, reason=text)
            return
        kind, subject = match[1].lower(), _unquote(match[2])
        if kind == "subscription":
            self._subscriptions.deny(subject)
        if self.takes_denied(kind, subject):
            return
        # Each answer has a subject of its own, and so has each question to other daemons.
        inbox = f"{self.inbox_prefix}." if self._private else self._inbox.decode()
        to_inbox = kind == "publish" and subject.startswith(inbox)
        known = (kind, inbox if to_inbox else subject)
        if known not in self._denied:
            if len(self._denied) >= MOST_DENIED:
                self._denied.clear()
            self._denied.add(known)
            log.limited("error", "connection.denied", kind=kind, subject=subject)
        for tell in self.on_denied:
            _call(tell, kind, subject)

    def _on_granted(self, subject: str) -> None:
        self._denied.discard(("subscription", subject))
        for tell in self.on_granted:
            _call(tell, subject)

    @property
    def is_settled(self) -> bool:
        """Whether there is a link that has held for a while."""
        return self.connected and steady() - self._made_at >= SETTLED

    @property
    def stirred_at(self) -> float:
        """When something last moved on the link, or an attempt to make one failed; steady clock."""
        return max(self._failed_at, self._client.lived_at if self._client else 0.0)

    # What the link is used for

    @property
    def js_prefix(self) -> str:
        """What the subjects of the JetStream API begin with here."""
        return self._settings.js_prefix

    def use_inboxes(self, prefix: str) -> None:
        """Hear answers below a prefix from now on; no answer may be awaited."""
        for listener in self._inboxes:
            listener.stop()
        self.inbox_prefix = prefix
        inbox = f"{self.new_inbox()}."
        self._inbox = self._peers = inbox.encode()
        self._skip = len(inbox)
        self._inboxes = [self._subscriptions.add(f"{inbox}*", self._answer)]
        if self._private:
            peers = f"{self.new_inbox(peers=True)}."
            self._peers = peers.encode()
            self._inboxes.append(self._subscriptions.add(f"{peers}*", self._answer_of_peer))

    def new_inbox(self, *, peers: bool = False) -> str:
        """Make up a subject for answers that nobody else has; `peers`: for those of daemons."""
        part = f".{PEERS}" if peers and self._private else ""
        return f"{self.inbox_prefix}{part}.{secrets.token_hex(11)}"

    @property
    def info(self) -> dict[str, Any]:
        """What the server said of itself when it was last connected to."""
        return self._client.info if self._client else {}

    @property
    def address(self) -> str:
        """The address of the server, without credentials; empty before there was one."""
        return self._client.address if self._client else ""

    @property
    def max_payload(self) -> int:
        """Bytes that payload and headers of one message may have together."""
        return self._client.max_payload if self._client else 1024 * 1024

    @property
    def buffered(self) -> int:
        """Bytes written that the operating system has not taken yet."""
        return self._client.buffered if self._client else 0

    @property
    def backlog(self) -> int:
        """Bytes that wait to be sent, those of this turn of the event loop included."""
        return self._client.backlog if self._client else 0

    async def drained(self) -> None:
        """Wait until there is room to write again.

        Raises:
            DisconnectedError: the link is lost.
        """
        client = self._require()
        try:
            await client.drained()
        except ConnectionError as error:
            raise DisconnectedError("the connection to NATS was lost") from error

    def write(self, data: bytes) -> None:
        """Send commands made with `publication`, as one piece.

        Raises:
            DisconnectedError: there is no link.
        """
        self._require().write(data)

    def publish(
        self, subject: str, payload: bytes = b"", *, headers: bytes = b"", reply: str = ""
    ) -> None:
        """Send a message; that it arrived is known only from an answer.

        Raises:
            DisconnectedError: there is no link.
        """
        self.write(publication(subject.encode(), payload, headers, reply.encode()))

    def listen(self, subject: str, handler: Handler, *, queue: str = "", most: int = 0) -> Listener:
        """Subscribe, on this link and on each later one; see `HardenedClient.listen`."""
        return self._subscriptions.add(subject, handler, queue, most)

    @property
    def refused(self) -> frozenset[str]:
        """The subjects that are listened on in vain, since the server refuses the subscription."""
        return self._subscriptions.refused

    def call(
        self, subject: bytes, payload: bytes, on_reply: OnReply, headers: bytes = b""
    ) -> bytes:
        """Send a message with a reply subject of its own; the first answer goes to `on_reply`.

        Returns a token for `hang_up`: there is no time limit here.

        Raises:
            DisconnectedError: there is no link.
        """
        token, inbox = self.expect(on_reply)
        self.write(publication(subject, payload, headers, inbox))
        return token

    def call_echo(self, on_reply: OnReply) -> bytes:
        """Send a message to ourselves: when it comes, the server has all sent before it."""
        token, inbox = self.expect(on_reply)
        self.write(publication(inbox, b""))
        return token

    def expect(self, on_reply: OnReply) -> tuple[bytes, bytes]:
        """Make a token, and the subject on which a message for `on_reply` is to come.

        Raises:
            DisconnectedError: there is no link.
        """
        self._require()
        token = next(self._tokens)
        self._waiting[token] = on_reply
        return token, self._inbox + token

    def _expect_answer(self, on_reply: OnReply) -> bytes:
        """Expect the answer of a daemon: that a stream keeps the question is none."""

        def on_answer(headers: bytes | None, payload: bytes | None) -> None:
            if keeper_of(payload):
                self._waiting[token] = on_answer
            else:
                on_reply(headers, payload)

        token, _ = self.expect(on_answer)
        return token

    def expect_more(self, token: bytes, on_reply: OnReply) -> None:
        """Wait for another answer to a `call`."""
        self._waiting[token] = on_reply

    def hang_up(self, token: bytes) -> None:
        """Stop waiting for the answer to a `call`."""
        self._waiting.pop(token, None)

    async def ask_peers(self, subject: str, timeout: float) -> Reply:
        """Send other daemons an empty message and wait for the first answer.

        Raises:
            NotAllowedError, NoServerError, DisconnectedError: as for `request`.
        """
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        token = self._expect_answer(partial(self._resolve, answer))
        self.write(publication(subject.encode(), b"", reply=self._peers + token))
        with self.failing_if_denied(subject, answer):
            return await self._within(timeout, token, answer, f"on {subject}")

    async def request(
        self, subject: str, payload: bytes = b"", *, headers: bytes = b"", timeout: float = 2.0
    ) -> Reply:
        """Send a message and wait for its answer, `timeout` seconds at most.

        Raises:
            NotAllowedError: gozo may not publish there.
            NoServerError: nothing came in time.
            DisconnectedError: the link is lost.
        """
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        token = self.call(subject.encode(), payload, partial(self._resolve, answer), headers)
        with self.failing_if_denied(subject, answer):
            return await self._within(timeout, token, answer, f"on {subject}")

    async def echo(self, timeout: float = 2.0) -> None:
        """Wait until the server has read all that was written, and we all it sent before.

        Raises:
            NotAllowedError, NoServerError, DisconnectedError: as for `request`.
        """
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        token = self.call_echo(partial(self._resolve, answer))
        inbox = (self._inbox + token).decode()
        # The subject of each echo differs, and this is one reason for as long as it lasts.
        with self.failing_if_denied(inbox, answer, f"{self.inbox_prefix}.>"):
            await self._within(timeout, token, answer, "to an echo")

    @contextmanager
    def failing_if_denied(
        self, subject: str, answer: asyncio.Future[Reply], needed: str = ""
    ) -> Iterator[None]:
        """Let `answer` fail if the server refuses what is published on a subject.

        `needed` is the permission to grant, where that is for more than the subject.
        """

        def on_denied(kind: str, denied: str) -> None:
            if kind == "publish" and denied == subject and not answer.done():
                answer.set_exception(missing_permission(kind, needed or subject))

        self.on_denied.append(on_denied)
        try:
            yield
        finally:
            self.on_denied.remove(on_denied)

    async def _within(
        self, timeout: float, token: bytes, answer: asyncio.Future[Reply], what: str
    ) -> Reply:
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError as error:
            raise NoServerError(f"no answer {what} within {timeout:g} s") from error
        finally:
            self.hang_up(token)

    def _require(self) -> HardenedClient:
        if not self.connected or self._client is None:
            raise DisconnectedError(f"there is no connection to NATS at the moment{self._because}")
        return self._client

    @property
    def _because(self) -> str:
        """Words about the link that was lost, for the end of a sentence."""
        return f": {self.failure}" if self.failure else ""

    def _resolve(
        self, answer: asyncio.Future[Reply], headers: bytes | None, payload: bytes | None
    ) -> None:
        """Hand what came for a call, or that the link was lost, to whoever waits for it."""
        if answer.done():
            return
        if payload is None:
            answer.set_exception(
                DisconnectedError(f"the connection to NATS was lost{self._because}")
            )
        else:
            answer.set_result(Reply(headers, payload))

    def _answer(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        on_reply = self._waiting.pop(subject[self._skip :], None)
        if on_reply is not None:
            on_reply(headers, payload)

    def _answer_of_peer(
        self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes
    ) -> None:
        on_reply = self._waiting.pop(subject[len(self._peers) :], None)
        if on_reply is not None:
            on_reply(headers, payload)


def _call(told: Callable[..., None], *arguments: object) -> None:
    """Tell somebody; one that fails fails alone."""
    try:
        told(*arguments)
    except Exception:
        log.exception("connection.handler_failed")


def _reconnect_wait() -> float:
    return RECONNECT_WAIT * random.uniform(0.8, 1.2)  # noqa: S311  # jitter


def missing_permission(kind: str, subject: str) -> NotAllowedError:
    """Make the error for a `publish` or a `subscription` that the server refused."""
    verb = "publish" if kind == "publish" else "subscribe"
    return NotAllowedError(
        f"the server does not let this user {verb} to {subject}: grant that permission"
    )


def not_published(subject: str) -> str:
    """Say of a delivery why it could not be made: the server refused its subject."""
    return f"the server does not let gozo publish on {subject!r}"


def publication(subject: bytes, payload: bytes, headers: bytes = b"", reply: bytes = b"") -> bytes:
    """Make the command that publishes a message (NATS client protocol, PUB and HPUB)."""
    if reply:
        subject = b"%b %b" % (subject, reply)
    if headers:
        size = len(headers)
        return b"HPUB %b %d %d\r\n%b%b\r\n" % (
            subject,
            size,
            size + len(payload),
            headers,
            payload,
        )
    return b"PUB %b %d\r\n%b\r\n" % (subject, len(payload), payload)


def status_of(headers: bytes | None) -> int:
    """The status in the first line of a header block (ADR-4); 0 if there is none."""
    if headers is None or not headers.startswith(b"NATS/1.0 "):
        return 0
    digits = headers[9:12]
    return int(digits) if digits.isdigit() else 0


def keeper_of(payload: bytes | None) -> str:
    """Return the stream that says that it keeps a message (PubAck, ADR-1); "" for anything else.

    A stream that captures a subject says so on the reply subject of each message there, mostly
    before anybody else can answer.
    """
    if payload is None or b'"stream"' not in payload or b'"seq"' not in payload:
        return ""
    try:
        ack = json.loads(payload)
        stream, sequence = ack["stream"], ack["seq"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return stream if isinstance(stream, str) and isinstance(sequence, int) else ""


def _unquote(quoted: str) -> str:
    """Undo Go's %q as far as subjects need it."""
    try:
        return str(json.loads(quoted))
    except ValueError:
        return quoted[1:-1]
