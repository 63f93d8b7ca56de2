"""The key/value bucket: its name, its settings, and how it comes to be (ADR-8)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from gozo.clock import wall_us
from gozo.errors import JetStreamError, NoServerError
from gozo.jetstream import (
    NO_PEERS,
    STREAM_NAME_IN_USE,
    STREAM_NOT_FOUND,
    JetStream,
    StoredMessage,
    parse_time,
)
from gozo.logs import get_logger

CLUSTER_REPLICAS = 3

log = get_logger("gozo.store")


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket that exists."""

    js: JetStream
    name: str
    marker_ttl: bool
    """The server ends delete markers by itself (nats-server 2.11 and later)."""
    direct: bool
    """Messages can be read without asking the stream's leader (ADR-31)."""

    @property
    def stream(self) -> str:
        """The stream behind the bucket."""
        return stream_of(self.name)

    @property
    def prefix(self) -> str:
        """What the subjects of the bucket's keys begin with."""
        return f"$KV.{self.name}."

    @property
    def entrance(self) -> str:
        """What the subjects begin with on which messages for the bucket are published."""
        return self.js.entrance(self.prefix)

    async def read(self, key: str) -> StoredMessage | None:
        """Read the latest of a key, marker or not, from the stream's leader.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
        """
        return await self.js.last_message(self.stream, self.prefix + key)

    async def purge(self, key: str, revision: int) -> None:
        """Remove a version of a key and what came before it, without a trace; a later one stays.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
        """
        await self.js.call(
            f"STREAM.PURGE.{self.stream}", {"filter": self.prefix + key, "seq": revision + 1}
        )

    async def state(self) -> BucketState:
        """Ask how the bucket is doing.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
        """
        sent_us = wall_us()
        info = await self.js.call(f"STREAM.INFO.{self.stream}")
        now_us = wall_us()
        state = info["state"]
        server_us = parse_time(info["ts"]) if "ts" in info else (sent_us + now_us) // 2
        return BucketState(
            created=info["created"],
            messages=int(state["messages"]),
            last_sequence=int(state["last_seq"]),
            clock_ahead_us=(sent_us + now_us) // 2 - server_us,
        )


@dataclass(frozen=True, slots=True)
class BucketState:
    """What the server says of a bucket."""

    created: str
    messages: int
    """Keys, those of delete markers included."""
    last_sequence: int
    clock_ahead_us: int
    """How far this host's clock is ahead of the server's, in microseconds."""


def stream_of(bucket: str) -> str:
    """The stream behind a bucket (ADR-8)."""
    return f"KV_{bucket}"


async def open_bucket(
    js: JetStream, name: str, *, replicas: int | None, memory: bool = False, history: int = 1
) -> Bucket:
    """Find a bucket, or create it.

    `replicas` None means 3 in a cluster, where there are as many servers, and 1 elsewhere.
    A bucket that exists is left as it is; what differs from gozo's own settings is logged.

    Raises:
        JetStreamError: the server refused to create it, or it cannot serve.
        NoServerError, NotAllowedError: as for `JetStream.call`.
    """
    copies = replicas or (CLUSTER_REPLICAS if js.connection.info.get("cluster") else 1)
    wanted: dict[str, Any] = {
        "name": stream_of(name),
        "description": "gozo",
        "subjects": [f"$KV.{name}.>"],
        "retention": "limits",
        "storage": "memory" if memory else "file",
        "num_replicas": copies,
        "max_msgs_per_subject": history,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msg_size": -1,
        "discard": "new",
        "duplicate_window": 120 * 1_000_000_000,
        "deny_delete": True,
        "deny_purge": False,
        "allow_rollup_hdrs": False,
        "allow_direct": True,
        "allow_msg_ttl": True,
    }
    try:
        config = (await js.call(f"STREAM.INFO.{wanted['name']}"))["config"]
        _report(name, config, wanted, replicas)
    except JetStreamError as error:
        if error.code != STREAM_NOT_FOUND:
            raise
        config = await _create(js, wanted, fall_back=replicas is None)
    return _bucket(js, name, config)


async def find_bucket(js: JetStream, name: str) -> Bucket | None:
    """Find a bucket; None where there is none.

    Raises:
        JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
    """
    try:
        return _bucket(js, name, (await js.call(f"STREAM.INFO.{stream_of(name)}"))["config"])
    except JetStreamError as error:
        if error.code == STREAM_NOT_FOUND:
            return None
        raise


def _bucket(js: JetStream, name: str, config: dict[str, Any]) -> Bucket:
    return Bucket(
        js=js,
        name=name,
        marker_ttl=bool(config.get("allow_msg_ttl")),
        direct=bool(config.get("allow_direct")),
    )


async def _create(js: JetStream, wanted: dict[str, Any], *, fall_back: bool) -> dict[str, Any]:
    verb = f"STREAM.CREATE.{wanted['name']}"
    try:
        config: dict[str, Any] = (await js.call(verb, wanted, timeout=5.0))["config"]
    except JetStreamError as error:
        if error.code == STREAM_NAME_IN_USE:
            config = (await js.call(f"STREAM.INFO.{wanted['name']}"))["config"]
        elif error.code in NO_PEERS and fall_back and wanted["num_replicas"] > 1:
            log.warning("bucket.one_replica", stream=wanted["name"], reason=str(error))
            return await _create(js, wanted | {"num_replicas": 1}, fall_back=False)
        else:
            raise
    log.info("bucket.created", stream=wanted["name"], replicas=config.get("num_replicas"))
    return config


def _report(
    name: str, config: dict[str, Any], wanted: dict[str, Any], replicas: int | None
) -> None:
    """Name what differs from gozo's own settings, and refuse what cannot work.

    Raises:
        JetStreamError: the stream of that name cannot hold schedules.
    """
    if config.get("subjects") != wanted["subjects"]:
        raise JetStreamError(
            f"the stream {wanted['name']} is not the key/value bucket {name}: "
            "give another --bucket, or remove the stream"
        )
    settings = ["max_msgs_per_subject", "max_age", "allow_rollup_hdrs", "deny_purge", "max_bytes"]
    settings += ["num_replicas"] if replicas else []
    other = {s: config.get(s) for s in settings if (config.get(s) or 0) != wanted[s]}
    if other:
        listed = ", ".join(f"{key}={value}" for key, value in other.items())
        log.warning("bucket.other_settings", bucket=name, settings=listed)


async def wait_for_bucket(
    js: JetStream, name: str, *, replicas: int | None, timeout: float
) -> Bucket:
    """`open_bucket`, while the servers may still be electing a leader.

    Raises:
        JetStreamError, NoServerError, NotAllowedError: as for `open_bucket`.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return await open_bucket(js, name, replicas=replicas)
        except NoServerError:
            if time.monotonic() >= deadline:
                raise
