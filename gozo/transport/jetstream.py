"""The calls of the JetStream API that gozo needs, on its own connection (ADR-1, ADR-31).

Answers are the JSON of the server. "Not found" and "no answer" are distinct: silence does not mean
that a stream or a key is gone, since a cluster is silent while it elects a leader.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, NamedTuple

from gozo.errors import DisconnectedError, JetStreamError, NoServerError
from gozo.schedule.model import MICROSECONDS
from gozo.transport.commands import Reply, status_of
from gozo.transport.connection import Connection

ANSWER_TIME = 2.0  # seconds to wait for an answer
ASK_AGAIN = 0.1  # seconds between attempts to find JetStream

OWN_PREFIX = "$JS.API"
"""The prefix of the API of the server that gozo is connected to."""

NO_RESPONDERS = 503

# Error codes of the server (server/errors.json in nats-server).
WRONG_LAST_SEQUENCE = 10071
WRONG_LAST_SEQUENCE_BUSY = 10164
STREAM_NOT_FOUND = 10059
STREAM_NAME_IN_USE = 10058
SUBJECTS_OVERLAP = 10065
CONSUMER_NOT_FOUND = 10014
CONSUMER_EXISTS = 10148
MESSAGE_NOT_FOUND = 10037
NO_RESOURCES = frozenset({10023, 10028, 10047})
NO_PEERS = frozenset({10005, 10074})
STORE_FAILED = 10077
NO_ROOM = NO_RESOURCES | {10002, STORE_FAILED}
"""Codes for a limit of the server, account or stream that is reached, or for a full disk."""
NOT_ENABLED_FOR_ACCOUNT = 10039
NOT_ENABLED = frozenset({NOT_ENABLED_FOR_ACCOUNT, 10076})
_START = "start nats-server with JetStream (nats-server -js), or use 'gozo serve --embedded'"

NOT_NOW = frozenset({10008, 10009})
"""Codes for a cluster that has no JetStream leader, or is electing one."""

CONFLICTS = frozenset({WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_BUSY})

CHANGED = "it was changed concurrently"
"""The message for a conflict; the server's is `wrong last sequence: 428`."""

FINAL = frozenset(
    {
        10054,  # it is larger than the stream's max_msg_size
        10097,  # its header block is larger than 64 KiB
        10165,  # its time to live is invalid
        10166,  # it has a time to live, which the stream does not allow
        10003,  # the server calls it a bad request
        10060,  # it expects another stream
        10070,  # it expects another last message id
        10193,  # it expects a revision of nothing
        10111,  # it asks for a rollup, which the stream does not allow
    }
)
"""Error codes that mean that a stream will never store a message.

Their reasons are in the message (stream.go, jetstream_batching.go in nats-server). If the reason is
in the stream, an administrator can change it, and schedules wait: the stream is sealed (10109),
offline (10118, 10194), without a leader (10008, 10009), too busy (10163, 10167), or a counter
(10169, 10172). They also wait on unknown codes. Codes about headers that gozo never sends are not
here.
"""

_TOO_LARGE = "message too large"  # words of `STORE_FAILED` for more than 32 MiB


def is_final(code: int, words: str) -> bool:
    """Tell whether a stream that refused a message would always refuse it."""
    return code in FINAL or (code == STORE_FAILED and _TOO_LARGE in words)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as stored in a stream."""

    subject: str
    sequence: int
    stored_us: int
    """When the server stored it, in microseconds since the Unix epoch."""
    headers: bytes | None
    payload: bytes


class Ack(NamedTuple):
    """The answer to a message published to a stream (PubAck, ADR-1)."""

    sequence: int
    """0 if the message was not stored, or if that is unknown."""
    code: int = 0
    """The server's error code; `NO_RESPONDERS` if no stream listens; 0 without an error."""
    words: str = ""
    """Why the message was not stored."""


def read_ack(headers: bytes | None, payload: bytes) -> Ack:
    """Read a PubAck."""
    status = status_of(headers)
    if status:
        return Ack(0, status, "the bucket does not answer at the moment")
    plain = PLAIN_ACK.match(payload)
    if plain is not None:
        return Ack(int(plain[1]))
    try:
        answer = json.loads(payload)
        error = answer.get("error")
        if error is None:
            return Ack(int(answer["seq"]))
        code, words = int(error.get("err_code", 0)), str(error.get("description", error))
        return Ack(0, code, CHANGED if code in CONFLICTS else words)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Ack(0, 0, f"the answer is not an acknowledgement: {payload[:80]!r}")


PLAIN_ACK = re.compile(rb'\{"stream":"[^"]*", ?"seq":([0-9]+)\}\Z')
"""The usual answer; matching it first saves a third of the cost of a write."""


def read_answer(shown: str, reply: Reply) -> dict[str, Any]:
    """Read the answer to a call; `shown` is the name of the call in errors.

    Raises:
        JetStreamError: the server refused; `code` says why.
        NoServerError: JetStream does not answer.
    """
    if reply.status == NO_RESPONDERS:
        raise NoServerError(f"JetStream does not answer {shown} at the moment")
    answer: dict[str, Any] = json.loads(reply.payload)
    error = answer.get("error")
    if error:
        code, words = int(error.get("err_code", 0)), error.get("description", error)
        if code in NOT_NOW:
            raise NoServerError(f"JetStream does not answer {shown} at the moment: {words}")
        if code == NOT_ENABLED_FOR_ACCOUNT:
            raise JetStreamError(
                "JetStream is not enabled for this account: set 'jetstream: enabled' there, or log "
                "in to an account that has it",
                code,
            )
        if code in NOT_ENABLED:
            raise JetStreamError(f"JetStream is not enabled on this server: {_START}", code)
        raise JetStreamError(f"JetStream refused {shown}: {words}", code)
    return answer


class JetStream:
    """The API under the prefix of a connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.prefix = connection.js_prefix

    def entrance(self, subject: str) -> str:
        """Return where to publish a message so that a stream stores it under `subject`.

        The server of a domain receives it below its API prefix, and stores it under the subject
        itself; nats.go does the same.
        """
        return subject if self.prefix == OWN_PREFIX else f"{self.prefix}.{subject}"

    async def call(
        self, verb: str, body: dict[str, Any] | None = None, *, timeout: float = ANSWER_TIME
    ) -> dict[str, Any]:
        """Call the API, e.g. `STREAM.INFO.KV_gozo`.

        Raises:
            JetStreamError: the server refused; `code` says why.
            NoServerError: JetStream does not answer.
            NotAllowedError: a permission is missing.
        """
        payload = b"" if body is None else json.dumps(body).encode()
        # Without the name of a consumer, which is random: errors are logged once for each text.
        shown = ".".join(verb.split(".")[:3])
        try:
            reply = await self.connection.request(f"{self.prefix}.{verb}", payload, timeout=timeout)
        except DisconnectedError:
            raise
        except NoServerError as silence:
            words = f"JetStream does not answer {shown} within {timeout:g} s"
            raise NoServerError(words) from silence
        return read_answer(shown, reply)

    async def check_enabled(self, timeout: float) -> None:
        """Check that JetStream is available.

        Raises:
            JetStreamError: it is not available; the message says how to enable it.
        """
        advice = _START
        deadline = time.monotonic() + timeout
        while True:
            try:
                left = deadline - time.monotonic()
                await self.call("INFO", timeout=min(ANSWER_TIME, max(0.2, left)))
            except DisconnectedError:
                raise
            except NoServerError as error:
                # A cluster without a leader does not answer either.
                elsewhere = self.prefix != OWN_PREFIX
                here = elsewhere or self.connection.info.get("jetstream")
                if here and time.monotonic() < deadline:
                    await asyncio.sleep(ASK_AGAIN)
                    continue
                where = self.prefix if elsewhere else "this server"
                if elsewhere:
                    advice = "check that server, or fix the domain or prefix of the NATS context"
                raise JetStreamError(f"JetStream does not answer on {where}: {advice}") from error
            else:
                return

    async def explain_silence(self) -> None:
        """Raise the reason if JetStream is not available at all.

        Raises:
            JetStreamError: it is not available.
        """
        if self.connection.connected and not self.connection.info.get("jetstream"):
            await self.check_enabled(1.0)

    async def last_message(self, stream: str, subject: str) -> StoredMessage | None:
        """Read the latest message of a subject from the stream's leader; None without one.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `call`.
        """
        return await self._message(stream, {"last_by_subj": subject})

    async def message(self, stream: str, sequence: int) -> StoredMessage | None:
        """Read one message from the stream's leader; None if it is gone.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `call`.
        """
        return await self._message(stream, {"seq": sequence})

    async def messages(
        self, stream: str, sequences: Sequence[int], *, timeout: float = ANSWER_TIME
    ) -> list[StoredMessage | None]:
        """Read messages from the stream's leader, all at once; None for those that are gone.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `call`.
        """
        shown = f"STREAM.MSG.GET.{stream}"
        subject = f"{self.prefix}.{shown}"
        answers: dict[int, Reply] = {}
        complete: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def on_reply(sequence: int, headers: bytes | None, payload: bytes | None) -> None:
            if complete.done():
                return
            if payload is None:
                complete.set_exception(DisconnectedError("the connection to NATS was lost"))
                return
            answers[sequence] = answer = Reply(headers, payload)
            if len(answers) == len(sequences):
                complete.set_result(answer)

        tokens: list[bytes] = []
        try:
            with self.connection.failing_if_denied(subject, complete):
                for sequence in sequences:
                    body = b'{"seq":%d}' % sequence
                    call = partial(on_reply, sequence)
                    tokens.append(self.connection.call(subject.encode(), body, call))
                async with asyncio.timeout(timeout):
                    await complete
        except TimeoutError as error:
            words = f"JetStream does not answer {shown} within {timeout:g} s"
            raise NoServerError(words) from error
        finally:
            for token in tokens:
                self.connection.hang_up(token)
        return [_stored(answers[sequence], shown) for sequence in sequences]

    async def next_message(self, stream: str, subject: str, sequence: int) -> StoredMessage | None:
        """Read the first message of a subject or pattern from a sequence on; None without one.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `call`.
        """
        return await self._message(stream, {"seq": sequence, "next_by_subj": subject})

    async def _message(self, stream: str, query: dict[str, Any]) -> StoredMessage | None:
        try:
            return _read(await self.call(f"STREAM.MSG.GET.{stream}", query))
        except JetStreamError as error:
            if error.code == MESSAGE_NOT_FOUND:
                return None
            raise


def _stored(reply: Reply, shown: str) -> StoredMessage | None:
    try:
        return _read(read_answer(shown, reply))
    except JetStreamError as error:
        if error.code == MESSAGE_NOT_FOUND:
            return None
        raise


def _read(answer: dict[str, Any]) -> StoredMessage:
    """Read an answer that contains a message."""
    message = answer["message"]
    headers = message.get("hdrs")
    return StoredMessage(
        subject=message["subject"],
        sequence=int(message["seq"]),
        stored_us=parse_time(message["time"]),
        headers=base64.b64decode(headers) if headers else None,
        payload=base64.b64decode(message.get("data") or ""),
    )


def parse_time(text: str) -> int:
    """Return a time of the server (RFC 3339, nanoseconds) in microseconds since 1970."""
    whole, _, rest = text.partition(".")
    if not rest:
        return int(datetime.fromisoformat(text).timestamp()) * MICROSECONDS
    digits = len(rest) - len(rest.lstrip("0123456789"))
    fraction, zone = rest[:digits], rest[digits:]
    return _seconds(whole + zone) * MICROSECONDS + int(fraction[:6].ljust(6, "0"))


@lru_cache(maxsize=1_024)
def _seconds(text: str) -> int:
    """Read a time of whole seconds, cached: many messages are stored in the same second."""
    return int(datetime.fromisoformat(text).timestamp())
