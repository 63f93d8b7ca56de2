"""The key/value bucket: its name, its settings, and how it is created (ADR-8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from gozo.errors import JetStreamError, UnsuitableServerError
from gozo.protocol.subject_policy import UNLIMITED
from gozo.runtime.clock import steady_ns, wall_us
from gozo.runtime.logs import get_logger
from gozo.store.suitability import faults
from gozo.transport.jetstream import (
    NO_PEERS,
    STREAM_NAME_IN_USE,
    STREAM_NOT_FOUND,
    JetStream,
    StoredMessage,
    parse_time,
)

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
    max_message: int = UNLIMITED
    """Bytes that a message may have, headers included, if the server takes as many."""

    @property
    def stream(self) -> str:
        """The stream behind the bucket."""
        return stream_of(self.name)

    @property
    def prefix(self) -> str:
        """The prefix of the subjects of the bucket's keys."""
        return f"$KV.{self.name}."

    @property
    def entrance(self) -> str:
        """The prefix of the subjects on which messages for the bucket are published."""
        return self.js.entrance(self.prefix)

    async def read(self, key: str) -> StoredMessage | None:
        """Read the latest message of a key, marker or not, from the stream's leader.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
        """
        return await self.js.last_message(self.stream, self.prefix + key)

    async def purge(self, key: str, revision: int) -> None:
        """Remove a version of a key and all earlier ones, without a trace; a later one stays.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
        """
        await self.js.call(f"STREAM.PURGE.{self.stream}", self.purge_body(key, revision))

    def purge_body(self, key: str, revision: int) -> dict[str, Any]:
        """Return the body of a STREAM.PURGE request for `purge`."""
        return {"filter": self.prefix + key, "seq": revision + 1}

    async def state(self) -> BucketState:
        """Ask the server for the state of the bucket.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
        """
        sent_us = steady_ns() // 1_000
        offset_before_us = wall_us() - sent_us
        info = await self.js.call(f"STREAM.INFO.{self.stream}")
        now_us = steady_ns() // 1_000
        state = info["state"]
        middle_us = (sent_us + now_us) // 2
        offset_us = wall_us() - now_us
        server_us = parse_time(info["ts"]) - middle_us if "ts" in info else offset_us
        return BucketState(
            created=info["created"],
            keys=int(state.get("num_subjects", 0)),
            last_sequence=int(state["last_seq"]),
            copies=int(info["config"].get("num_replicas", 1)),
            clock_ahead_us=offset_us - server_us,
            server_us=server_us,
            error_us=max(now_us - middle_us, abs(offset_us - offset_before_us)),
        )


@dataclass(frozen=True, slots=True)
class BucketState:
    """What the server reports about a bucket."""

    created: str
    keys: int
    """Those of delete markers are included; earlier versions of a key do not count."""
    last_sequence: int
    copies: int
    """How many servers hold a copy of it."""
    clock_ahead_us: int
    """How far this host's clock is ahead of the server's, in microseconds."""
    server_us: int
    """The server's clock less this host's steady one, in microseconds."""
    error_us: int
    """The error of `server_us`, at most: half the round trip, or the step by which this host's
    clock was set meanwhile, since the server's may have been set as well."""


def stream_of(bucket: str) -> str:
    """The stream behind a bucket (ADR-8)."""
    return f"KV_{bucket}"


async def open_bucket(
    js: JetStream, name: str, *, replicas: int | None, memory: bool = False, history: int = 1
) -> Bucket:
    """Find a bucket, or create it.

    `replicas` None means 3 in a cluster of at least as many servers, otherwise 1.
    An existing bucket is left as it is; settings that differ from gozo's own are logged.

    Raises:
        JetStreamError: the server refused to create it, or the stream is not a bucket.
        UnsuitableServerError: gozo can never work with it.
        NoServerError, NotAllowedError: as for `JetStream.call`.
    """
    wanted = own_settings(js, name, replicas=replicas, memory=memory, history=history)
    try:
        config = (await js.call(f"STREAM.INFO.{wanted['name']}"))["config"]
        _report(name, config, wanted, js.connection.info)
    except JetStreamError as error:
        if error.code != STREAM_NOT_FOUND:
            raise
        config = await _create(js, wanted, fall_back=replicas is None)
    return bucket_of(js, name, config)


def own_settings(
    js: JetStream, name: str, *, replicas: int | None, memory: bool = False, history: int = 1
) -> dict[str, Any]:
    """Return the configuration of a bucket that gozo creates; see `open_bucket`."""
    copies = replicas or (CLUSTER_REPLICAS if js.connection.info.get("cluster") else 1)
    return {
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


async def find_bucket(js: JetStream, name: str) -> Bucket | None:
    """Find a bucket; None if it does not exist.

    Raises:
        JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
    """
    try:
        return bucket_of(js, name, (await js.call(f"STREAM.INFO.{stream_of(name)}"))["config"])
    except JetStreamError as error:
        if error.code == STREAM_NOT_FOUND:
            return None
        raise


def bucket_of(js: JetStream, name: str, config: dict[str, Any]) -> Bucket:
    """Make a `Bucket` from the configuration of its stream."""
    largest = int(config.get("max_msg_size", -1))
    # If earlier versions of a key are kept, a schedule would come back once its marker ends.
    keeps_one = config.get("max_msgs_per_subject") == 1
    return Bucket(
        js=js,
        name=name,
        marker_ttl=bool(config.get("allow_msg_ttl")) and keeps_one,
        direct=bool(config.get("allow_direct")),
        max_message=largest if largest > 0 else UNLIMITED,
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


EFFECTS = {
    "retention": "schedules vanish once they have been read",
    "storage": "its contents may be lost when the server restarts",
    "num_replicas": "--replicas applies only when a bucket is created",
    "max_age": "older schedules vanish, due or not",
    "discard": "the oldest schedules vanish when it is full",
    "max_bytes": "requests beyond that are refused",
    "max_msgs": "requests beyond that are refused",
    "max_msg_size": "larger schedules are refused",
    "max_msgs_per_subject": "earlier versions of schedules take up space",
    "allow_msg_ttl": "delete markers are purged by the leader",
    "allow_rollup_hdrs": "one message of any client can remove all schedules",
    "deny_purge": "old delete markers stay, and so do delivered schedules when it is full",
}
"""Settings that matter, and the effect of a value other than gozo's own."""

TTL_SINCE = (2, 11)
"""The first version of nats-server that supports a time to live for each message."""


def _report(
    name: str, config: dict[str, Any], wanted: dict[str, Any], server: dict[str, Any]
) -> None:
    """Log settings that differ from gozo's own, and refuse those that cannot work.

    Raises:
        JetStreamError: the stream of that name cannot hold schedules.
        UnsuitableServerError: gozo can never work with it.
    """
    others = deviations(name, config, wanted, server)
    _refuse(name, config)
    for other in others:
        log.warning("bucket.setting_differs", bucket=name, **other._asdict())


def _refuse(name: str, config: dict[str, Any]) -> None:
    """Make sure that gozo can work with a bucket that exists.

    Raises:
        UnsuitableServerError: it never can.
    """
    for fault in faults(f"the bucket {name}", config):
        if fault.is_final:
            raise UnsuitableServerError(fault.sentence)


class Deviation(NamedTuple):
    """A setting of a bucket that differs from gozo's own."""

    setting: str
    value: object
    own: object
    effect: str
    """What the difference means."""


def deviations(
    name: str, config: dict[str, Any], wanted: dict[str, Any], server: dict[str, Any]
) -> list[Deviation]:
    """Return the settings that differ from gozo's own.

    Raises:
        JetStreamError: the stream of that name cannot hold schedules.
    """
    if config.get("subjects") != wanted["subjects"]:
        raise JetStreamError(_other_subjects(name, config, wanted))
    found = []
    for setting, effect in EFFECTS.items():
        own, value = wanted[setting], config.get(setting, False)
        unknown = setting == "allow_msg_ttl" and is_before(server.get("version", ""), TTL_SINCE)
        # A lease is stored on disk if there was no memory for it.
        safer = setting == "storage" and own == "memory"
        if value != own and not unknown and not safer:
            found.append(Deviation(setting, value, own, effect))
    return found


def _other_subjects(name: str, config: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Say what is wrong with the subjects of a stream; a bucket may be full of schedules."""
    stream, own = wanted["name"], wanted["subjects"]
    taken = config.get("subjects") or []
    if more := [subject for subject in taken if subject not in own]:
        if len(more) < len(taken):
            return (
                f"the stream {stream} of the bucket {name} stores {' and '.join(more)} as well: "
                "remove that from its subjects, or give another --bucket"
            )
        why = f"it stores {' and '.join(more)}"
    else:
        why = "it copies another stream" if config.get("mirror") else "it has no subjects"
    return (
        f"the stream {stream} is not the key/value bucket {name} ({why}): give another --bucket, "
        "or remove the stream if nothing needs it"
    )


def is_before(version: str, since: tuple[int, int]) -> bool:
    """Tell whether a server's version is older than another; "" is older than all."""
    return tuple(int(part) for part in (version or "0.0").split(".")[:2]) < since
