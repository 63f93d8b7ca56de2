"""The stream that keeps events for a while, so that one can ask what happened to a schedule."""

from __future__ import annotations

from typing import Any

from gozo.errors import JetStreamError
from gozo.jetstream import NO_PEERS, STREAM_NOT_FOUND, JetStream
from gozo.logs import get_logger
from gozo.store.bucket import CLUSTER_REPLICAS

log = get_logger("gozo.store")


def history_of(bucket: str) -> str:
    """The stream for the events about a bucket."""
    return f"{bucket}_history"


async def open_history(
    js: JetStream, bucket: str, request_subject: str, *, age_us: int, replicas: int | None
) -> None:
    """Make the stream, or let the one that is there keep events for so long from now on.

    `replicas` None means the same as for the bucket.

    Raises:
        JetStreamError: the server refused it.
        NoServerError, NotAllowedError: as for `JetStream.call`.
    """
    name = history_of(bucket)
    age = age_us * 1000
    try:
        config: dict[str, Any] = (await js.call(f"STREAM.INFO.{name}"))["config"]
    except JetStreamError as error:
        if error.code != STREAM_NOT_FOUND:
            raise
        await _create(js, name, request_subject, age, replicas)
        return
    if config.get("max_age") != age:
        # No server lets duplicates be known for longer than messages are kept.
        window = min(config.get("duplicate_window", 0), age)
        wanted = config | {"max_age": age, "duplicate_window": window}
        await js.call(f"STREAM.UPDATE.{name}", wanted, timeout=5.0)
        log.info("history.changed", stream=name, hours=age_us / 3_600_000_000)


async def _create(
    js: JetStream, name: str, request_subject: str, age: int, replicas: int | None
) -> None:
    wanted = {
        "name": name,
        "description": "events of gozo",
        "subjects": [f"{request_subject}.event.>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas or (CLUSTER_REPLICAS if js.connection.info.get("cluster") else 1),
        "max_age": age,
        "discard": "old",
        "allow_direct": True,
    }
    try:
        await js.call(f"STREAM.CREATE.{name}", wanted, timeout=5.0)
    except JetStreamError as error:
        if error.code not in NO_PEERS or replicas is not None:
            raise
        await js.call(f"STREAM.CREATE.{name}", wanted | {"num_replicas": 1}, timeout=5.0)
    log.info("history.created", stream=name, hours=age / 3_600_000_000_000)
