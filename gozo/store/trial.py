"""Tries the settings of a bucket in a temporary bucket with the same settings.

The trial writes, reads, follows, replaces, settles and removes an entry, as a daemon would, and
deletes the temporary bucket. It does not test the effects of the name or of limits on size.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, TypeVar

from gozo.errors import DisconnectedError, GozoError, JetStreamError, NotAllowedError
from gozo.protocol.headers import block
from gozo.runtime.clock import steady, wall_us
from gozo.schedule.model import MICROSECONDS, Entry, Reason
from gozo.store.bucket import Bucket, bucket_of, stream_of
from gozo.store.entry_codec import entry_headers
from gozo.store.marker_codec import marker_headers
from gozo.store.marker_life import SHORTEST
from gozo.store.ordered_consumer import Consumer
from gozo.transport.jetstream import STREAM_NAME_IN_USE, JetStream, parse_time, read_ack
from gozo.transport.permissions import missing_permission

DESCRIPTION = "temporary, of gozo check"
"""The prefix of the description of a temporary bucket; a random word follows."""

ABANDONED = 60.0  # seconds after which a temporary bucket cannot belong to a running check
ANSWER_TIME = 2.0  # seconds
POLL_INTERVAL = 0.01  # seconds
TRIAL_BYTES = 1024 * 1024  # the temporary bucket's max_bytes; a lower limit stays
READERS = 2  # at a time: a daemon and one command of gozoctl
KEY, PAYLOAD = "trial", b"x"

_NOT_TAKEN_OVER = frozenset({"mirror", "sources", "republish", "subject_transform", "sealed"})
"""Settings that affect more than the bucket, or that a new stream cannot have."""


T = TypeVar("T")


class Tried(NamedTuple):
    """The result of a trial."""

    problem: str = ""
    """What does not work; empty if everything works."""
    untried: str = ""
    """Why nothing was tried; empty if the trial took place."""
    code: int = 0
    """The error code if the server refused to create the temporary bucket, otherwise 0."""


class _FailedError(Exception):
    """A step of the trial does not work."""


def temporary_of(name: str) -> str:
    """The temporary bucket's name."""
    return f"{name}_check"


async def attempt(js: JetStream, name: str, config: Mapping[str, Any]) -> Tried:
    """Try the settings of a bucket, and return the result.

    Raises:
        DisconnectedError: the link was lost.
    """
    try:
        async with _temporary(js, temporary_of(name), config) as bucket:
            await _use(bucket)
    except _FailedError as failed:
        return Tried(problem=str(failed))
    except JetStreamError as error:
        return Tried(untried=str(error), code=error.code)
    except NotAllowedError as error:
        return Tried(untried=str(error))
    return Tried()


@asynccontextmanager
async def _temporary(js: JetStream, name: str, config: Mapping[str, Any]) -> AsyncIterator[Bucket]:
    """Create the temporary bucket, and delete it at the end.

    Raises:
        JetStreamError, NotAllowedError: it cannot be created.
    """
    stream = stream_of(name)
    await _check_removable(js, stream)
    wanted = {key: value for key, value in config.items() if key not in _NOT_TAKEN_OVER}
    wanted |= {
        "name": stream,
        "subjects": [f"$KV.{name}.>"],
        "description": f"{DESCRIPTION} {secrets.token_hex(6)}",
    }
    if wanted.get("max_bytes", -1) > TRIAL_BYTES:
        wanted["max_bytes"] = TRIAL_BYTES
    made = None
    try:
        made = await _made(js, stream, wanted)
        yield bucket_of(js, name, made)
    finally:
        with suppress(GozoError):
            # Also if the answer to its creation was lost; but never another check's bucket.
            if made is not None or await _is_there(js, stream, wanted["description"]):
                await js.call(f"STREAM.DELETE.{stream}")


async def _is_there(js: JetStream, stream: str, description: str) -> bool:
    config = (await js.call(f"STREAM.INFO.{stream}"))["config"]
    return bool(config.get("description") == description)


async def _check_removable(js: JetStream, stream: str) -> None:
    """Make sure that the bucket can be deleted, before it is created.

    Raises:
        NotAllowedError: it cannot.
    """
    with suppress(JetStreamError):  # expected: this request takes no body
        await js.call(f"STREAM.DELETE.{stream}", {"name": "="})


async def _made(js: JetStream, stream: str, wanted: dict[str, Any]) -> dict[str, Any]:
    verb = f"STREAM.CREATE.{stream}"
    try:
        made: dict[str, Any] = await js.call(verb, wanted, timeout=5.0)
    except JetStreamError as error:
        if error.code != STREAM_NAME_IN_USE:
            raise
        info = await js.call(f"STREAM.INFO.{stream}")
        age = (wall_us() - parse_time(info["created"])) / MICROSECONDS
        if not str(info["config"].get("description")).startswith(DESCRIPTION) or age < ABANDONED:
            raise JetStreamError(
                f"the stream {stream} exists: another gozo check is running, or it is not gozo's"
            ) from error
        with suppress(JetStreamError):
            await js.call(f"STREAM.DELETE.{stream}")
        made = await js.call(verb, wanted, timeout=5.0)
    config: dict[str, Any] = made["config"]
    return config


async def _use(bucket: Bucket) -> None:
    """Use the bucket as a daemon does.

    Raises:
        NotAllowedError: a permission is missing.
        _FailedError: a step does not work.
    """
    now_us = wall_us()
    entry = Entry(KEY, "gozo.check", "+3600", now_us + 3600 * MICROSECONDS, now_us)
    lines = entry_headers(entry, b"0" * 16)
    first = await _write(bucket, "write", lines, PAYLOAD, 0)
    await _read(bucket, first)
    seen: dict[int, set[int]] = {}
    broken: list[str] = []
    readers = []
    denied: list[str] = []

    def on_denied(kind: str, subject: str) -> None:
        denied.append(subject)

    bucket.js.connection.on_denied.append(on_denied)
    try:
        for number in range(READERS):
            seen[number] = set()
            reader = _reader(bucket, seen[number], broken)
            readers.append(reader)
            await _step("follow", reader.start(None))
        await _followed(seen, first, broken)
        await _read(bucket, first, "it is gone after it was read")
        second = await _write(bucket, "replace", lines, PAYLOAD, first)
        await _followed(seen, second, broken)
        marker = marker_headers(Reason.DELIVERED, SHORTEST * bucket.marker_ttl)
        third = await _write(bucket, "settle", marker, b"", second)
        await _followed(seen, third, broken)
    except _FailedError:
        if denied:
            raise missing_permission("publish", denied[0]) from None
        raise
    finally:
        bucket.js.connection.on_denied.remove(on_denied)
        for reader in readers:
            reader.stop()
    await _step("remove", bucket.purge(KEY, third))
    if await _step("remove", bucket.read(KEY)) is not None:
        raise _FailedError("cannot remove an entry: it still exists")


async def _step(verb: str, doing: Awaitable[T]) -> T:
    """Await a step; name it in the error if it failed.

    Raises:
        NotAllowedError, DisconnectedError: nothing can be tried.
        _FailedError: the step failed.
    """
    try:
        return await doing
    except (NotAllowedError, DisconnectedError):
        raise
    except GozoError as error:
        raise _FailedError(f"cannot {verb} an entry: {error}") from error


async def _write(bucket: Bucket, verb: str, lines: bytes, payload: bytes, expected: int) -> int:
    request = bucket.js.connection.request(
        bucket.entrance + KEY, payload, headers=block(lines, expected), timeout=ANSWER_TIME
    )
    try:
        reply = await _step(verb, request)
    except _FailedError as failed:
        raise _FailedError(f"cannot {verb} an entry: no acknowledgement") from failed
    ack = read_ack(reply.headers, reply.payload)
    if not ack.sequence:
        raise _FailedError(f"cannot {verb} an entry: {ack.words}")
    return ack.sequence


async def _read(bucket: Bucket, revision: int, otherwise: str = "it does not exist") -> None:
    """Read the entry, from the stream's leader and directly."""
    js = bucket.js
    found = await _step("read", bucket.read(KEY))
    if found is None or (found.sequence, found.payload) != (revision, PAYLOAD):
        raise _FailedError(f"cannot keep an entry: {otherwise}")
    if bucket.direct:
        asked = json.dumps({"seq": revision}).encode()
        request = js.connection.request(f"{js.prefix}.DIRECT.GET.{bucket.stream}", asked)
        if (await _step("read", request)).payload != PAYLOAD:
            raise _FailedError("cannot read an entry directly")


def _reader(bucket: Bucket, seen: set[int], broken: list[str]) -> Consumer:
    def on_message(
        key: str, revision: int, stored_us: int, headers: bytes | None, pending: int
    ) -> None:
        seen.add(revision)

    return Consumer(bucket.js.connection, bucket, on_message, broken.append)


async def _followed(seen: dict[int, set[int]], revision: int, broken: list[str]) -> None:
    """Wait until each reader has seen a revision."""
    deadline = steady() + ANSWER_TIME
    while not all(revision in revisions for revisions in seen.values()):
        if broken:
            raise _FailedError(f"cannot follow entries: {broken[0]}")
        if steady() > deadline:
            raise _FailedError(f"cannot follow entries: nothing came within {ANSWER_TIME:g} s")
        await asyncio.sleep(POLL_INTERVAL)
