"""Stores outcomes and outputs in their streams.

The caller goes on as soon as the stream has an outcome, so that its run is not removed before. A
stream that does not answer delays it for a moment only: the outcome is then stored later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, NoReturn

from gozo.errors import DisconnectedError, GozoError
from gozo.protocol.headers import block
from gozo.protocol.outcome_codec import outcome_json
from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.schedule.expression import print_rfc3339
from gozo.schedule.outcome import Outcome
from gozo.settings.model import ServeSettings
from gozo.store.outcome_streams import KeptStream, open_kept, outcomes_of, output_of
from gozo.transport.connection import Connection
from gozo.transport.jetstream import NO_RESPONDERS, JetStream, is_final, read_ack
from gozo.transport.link import notify
from gozo.transport.permissions import missing_permission

PATIENCE = 0.5  # seconds that a run waits for its outcome to be stored
SWEEP = 0.25  # seconds between two searches for runs that have waited for so long
ANSWER_TIME = 5.0  # seconds after which a message without an answer is sent again
RETRY = 2.0  # seconds between two attempts to store what the streams did not take
OPEN_AGAIN = 10.0  # seconds between two attempts to create the streams
MOST_UNSTORED = 10_000  # messages that are sent again; beyond that, the oldest are dropped
AT_ONCE = 500  # of them sent at a time
DENIED = 60.0  # seconds without messages after the server denied one
BACKLOG = 4 * 1024 * 1024  # unsent bytes beyond which nothing is sent again

log = get_logger("gozo.store")


def outcome_writer(connection: Connection, settings: ServeSettings) -> OutcomeWriter:
    """Create the writer of the streams of a daemon's bucket."""
    place = settings.connection.bucket, settings.connection.request_subject
    return OutcomeWriter(
        connection,
        outcomes_of(*place),
        output_of(*place),
        age_us=settings.outcomes_us,
        replicas=settings.replicas,
    )


class _Message(NamedTuple):
    """An outcome, or an output."""

    stream: KeptStream
    subject: bytes
    headers: bytes
    payload: bytes


class _Sent(NamedTuple):
    """A message without an answer."""

    message: _Message
    at: float
    token: bytes


class OutcomeWriter:
    """The streams of one bucket, as the leader writes to them."""

    def __init__(
        self,
        connection: Connection,
        outcomes: KeptStream,
        output: KeptStream,
        *,
        age_us: int,
        replicas: int | None,
    ) -> None:
        """With `age_us` 0 nothing is stored."""
        self._connection = connection
        self._outcomes, self._output = outcomes, output
        self.enabled = age_us > 0
        self._age_us, self._replicas = age_us, replicas
        self._numbers = 0
        self._sent: dict[int, _Sent] = {}
        """In order of sending."""
        self._waiting: dict[int, Callable[[], None]] = {}
        """What to call once a message is stored, by its number."""
        self._unstored: deque[_Message] = deque(maxlen=MOST_UNSTORED)
        self._is_away = False
        """Whether the last message was not stored in time: then nothing waits for the next."""
        self._silent_until: dict[str, float] = {}
        """Until when nothing is sent to a stream, by its name: the server denied it."""
        self._news = asyncio.Event()
        """Set when a stream seems to be missing."""
        if self.enabled:
            connection.denial_claims.append(self._takes_denied)
            connection.on_connected.append(self._on_connected)

    def __len__(self) -> int:
        """How many runs wait for their outcomes to be stored."""
        return len(self._waiting)

    def write(self, outcome: Outcome, *, recurs: bool, then: Callable[[], None]) -> None:
        """Store an outcome; `then` is called once, when that is done or takes too long.

        `recurs` is whether its schedule does. An outcome that is stored again soon, by this or
        the next leader, is the same message for the server.
        """
        if self._is_off(self._outcomes):
            then()
            return
        subject = self._outcomes.subject(outcome.key, recurs=recurs)
        headers = block(f"Nats-Msg-Id: {_name(outcome)}\r\n".encode())
        message = _Message(self._outcomes, subject.encode(), headers, outcome_json(outcome))
        size, most = len(headers) + len(message.payload), self._connection.max_payload
        if size > most:  # it would end the connection
            reason = f"{size} bytes exceed the server's max_payload, {most}"
            log.limited("warning", "outcomes.dropped", id=outcome.id, reason=reason)
            then()
        else:
            self._send(message, then)

    def write_output(self, outcome: Outcome, output: bytes, *, recurs: bool) -> None:
        """Store the output of the run with this outcome."""
        if self._is_off(self._output):
            return
        id_ = "" if outcome.id is None else f"Gozo-Id: {outcome.id}\r\n"
        lines = (
            f"Nats-Msg-Id: {_name(outcome)}\r\n{id_}Gozo-Occurrence: {outcome.occurrence}\r\n"
            f"Gozo-Outcome: {outcome.result}\r\nGozo-Due: {print_rfc3339(outcome.due_us)}\r\n"
        )
        subject = self._output.subject(outcome.key, recurs=recurs).encode()
        headers = block(lines.encode())
        room = max(self._connection.max_payload - len(headers), 0)
        if room:  # a larger message would end the connection
            self._send(_Message(self._output, subject, headers, output[-room:]))

    def _is_off(self, stream: KeptStream) -> bool:
        return not self.enabled or steady() < self._silent_until.get(stream.name, 0.0)

    def _send(self, message: _Message, then: Callable[[], None] | None = None) -> None:
        number = self._numbers = self._numbers + 1
        on_reply = partial(self._on_reply, number)
        try:
            token = self._connection.call(
                message.subject, message.payload, on_reply, message.headers
            )
        except DisconnectedError:
            self._keep_unstored(message)
            if then is not None:
                then()
            return
        self._sent[number] = _Sent(message, steady(), token)
        if then is None:
            return
        if self._is_away:
            then()
        else:
            self._waiting[number] = then

    def _on_reply(self, number: int, headers: bytes | None, payload: bytes | None) -> None:
        sent = self._sent.pop(number, None)
        if sent is None:
            return
        if payload is None:
            self._keep_unstored(sent.message)
        else:
            ack = read_ack(headers, payload)
            if ack.sequence:
                self._is_away = False
            else:
                self._not_stored(sent.message, ack.code, ack.words)
        self._go_on(number)

    def _not_stored(self, message: _Message, code: int, words: str) -> None:
        name = message.stream.name
        if code == NO_RESPONDERS:
            words = "it does not exist, or has no leader"
        log.repeated("warning", "outcomes.unavailable", stream=name, reason=words)
        self._news.set()
        if not is_final(code, words):
            self._keep_unstored(message)

    def _go_on(self, number: int) -> None:
        then = self._waiting.pop(number, None)
        if then is not None:
            then()

    # Streams that do not take what they should

    async def sweep(self) -> NoReturn:
        """Let runs go on that have waited for too long, and send again what was not stored."""
        retry_at = 0.0
        while True:
            await asyncio.sleep(SWEEP)
            now = steady()
            self._end_waits(now)
            if now > retry_at:
                retry_at = now + RETRY
                self._end_silence(now)
                self._send_again()

    def _end_waits(self, now: float) -> None:
        late = []
        for number in self._waiting:
            if self._sent[number].at > now - PATIENCE:
                break
            late.append(number)
        if late:
            self._is_away = True
            name = self._outcomes.name
            log.repeated("warning", "outcomes.unavailable", stream=name, reason="no answer")
        for number in late:
            self._go_on(number)

    def _end_silence(self, now: float) -> None:
        while self._sent:
            number, sent = next(iter(self._sent.items()))
            if sent.at > now - ANSWER_TIME:
                break
            del self._sent[number]
            self._connection.hang_up(sent.token)
            self._keep_unstored(sent.message)

    def _keep_unstored(self, message: _Message) -> None:
        if len(self._unstored) == MOST_UNSTORED:
            reason = f"more than {MOST_UNSTORED:,} wait to be stored: the oldest are dropped"
            log.limited("warning", "outcomes.dropped", stream=message.stream.name, reason=reason)
        self._unstored.append(message)

    def _send_again(self) -> None:
        connection = self._connection
        if not connection.connected or connection.backlog > BACKLOG:
            return
        for _ in range(min(AT_ONCE, len(self._unstored))):
            self._send(self._unstored.popleft())

    def _takes_denied(self, kind: str, subject: str) -> bool:
        """Store nothing for a while if the server denies it; log that once for each connection.

        If it denies what the streams need, `keep` logs that.
        """
        streams = (self._outcomes, self._output)
        if kind == "publish" and subject.endswith(tuple(f".{one.name}" for one in streams)):
            notify(self._connection.on_denied, kind, subject)
            return True
        denied = next((one for one in streams if subject.startswith(f"{one.prefix}.")), None)
        if kind != "publish" or denied is None:
            return False
        reason = f"{missing_permission(kind, f'{denied.prefix}.>')}, or give --outcomes 0"
        log.repeated("warning", "outcomes.unavailable", stream=denied.name, reason=reason)
        self._silent_until[denied.name] = steady() + DENIED
        others = [one for one in self._unstored if one.stream is not denied]
        self._unstored = deque(others, MOST_UNSTORED)
        for number in [at for at, one in self._sent.items() if one.message.stream is denied]:
            self._connection.hang_up(self._sent.pop(number).token)
            self._go_on(number)
        return True

    def _on_connected(self) -> None:
        self._silent_until.clear()

    # The streams themselves

    async def keep(self) -> NoReturn:
        """Create the streams, and again if they are removed; runs until it is cancelled."""
        js = JetStream(self._connection)
        while True:
            self._news.clear()
            for stream in (self._outcomes, self._output):
                try:
                    await open_kept(js, stream, age_us=self._age_us, replicas=self._replicas)
                except GozoError as error:
                    self._news.set()
                    log.repeated(
                        "warning", "outcomes.unavailable", stream=stream.name, reason=str(error)
                    )
            await self._news.wait()
            await asyncio.sleep(OPEN_AGAIN)


def _name(outcome: Outcome) -> str:
    """Name an outcome for the server, which stores it once."""
    return f"{outcome.key}.{outcome.occurrence}.{outcome.due_us:x}.{outcome.result}"
