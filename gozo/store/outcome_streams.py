"""The streams that keep outcomes and outputs of runs: their names, subjects and settings.

Those of schedules that do not recur share a limited number of subjects. There may be thousands of
such schedules a second, each with an id of its own, and they must neither fill the disk nor
displace the outcomes of others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from zlib import crc32

from gozo.errors import JetStreamError
from gozo.protocol.ids import RESERVED
from gozo.runtime.logs import get_logger
from gozo.store.bucket import CLUSTER_REPLICAS
from gozo.store.event_history import changes_for, made
from gozo.transport.jetstream import NO_PEERS, STREAM_NOT_FOUND, JetStream

OUTCOME, OUTPUT = "outcome", "output"
"""The tokens after the request subject in their subjects."""

ONCE = f"{RESERVED}once"
"""The token after that of schedules that do not recur: no id has this key."""

OUTCOMES_KEPT, OUTPUTS_KEPT = 100, 10
"""How many of each subject are kept."""

OUTCOME_SHARDS, OUTPUT_SHARDS = 10_000, 1_000
"""The number of subjects that schedules share which do not recur: together they have up to a
million outcomes, about 400 MB, and 10,000 outputs, 160 MB."""

MOST_OUTCOMES, MOST_OUTPUTS = 5_000_000, 65_536
"""Maximum messages of the streams: 2 GB of outcomes, 1 GiB of outputs."""

log = get_logger("gozo.store")


@dataclass(frozen=True, slots=True)
class KeptStream:
    """One of the two streams."""

    name: str
    description: str
    prefix: str
    """Its subjects begin so, and have further tokens."""
    shards: int
    kept: int
    most: int

    def subject(self, key: str, *, recurs: bool) -> str:
        """Return the subject for the schedule under a key; `recurs`: whether it does."""
        if recurs:
            return f"{self.prefix}.{key}"
        return f"{self.prefix}.{ONCE}.{crc32(key.encode()) % self.shards}"

    def subjects(self, key: str) -> tuple[str, str]:
        """Return the subjects that may have messages of the schedule under a key."""
        return self.subject(key, recurs=True), self.subject(key, recurs=False)


def outcomes_of(bucket: str, request_subject: str) -> KeptStream:
    """The stream for the outcomes of a bucket."""
    return KeptStream(
        name=f"{bucket}_outcomes",
        description="outcomes of gozo",
        prefix=f"{request_subject}.{OUTCOME}",
        shards=OUTCOME_SHARDS,
        kept=OUTCOMES_KEPT,
        most=MOST_OUTCOMES,
    )


def output_of(bucket: str, request_subject: str) -> KeptStream:
    """The stream for the outputs of a bucket's runs."""
    return KeptStream(
        name=f"{bucket}_output",
        description="outputs of gozo's receivers",
        prefix=f"{request_subject}.{OUTPUT}",
        shards=OUTPUT_SHARDS,
        kept=OUTPUTS_KEPT,
        most=MOST_OUTPUTS,
    )


async def open_kept(
    js: JetStream, stream: KeptStream, *, age_us: int, replicas: int | None
) -> None:
    """Create a stream, or extend the existing one to keep messages for that time.

    Its time is never shortened: a daemon without the option must not remove what another one was
    told to keep. A stream that gozo did not create is left as it is.

    Raises:
        JetStreamError: the server refused it.
        NoServerError, NotAllowedError: as for `JetStream.call`.
    """
    config = await find_kept(js, stream)
    if config is None:
        await _create(js, stream, age_us, replicas)
    elif config.get("description") == stream.description:
        changed = changes_for(config, f"{stream.prefix}.>", age_us * 1000)
        if changed:
            await js.call(f"STREAM.UPDATE.{stream.name}", config | changed, timeout=5.0)
            log.info("outcomes.changed", stream=stream.name)


async def find_kept(js: JetStream, stream: KeptStream) -> dict[str, Any] | None:
    """Return the configuration of a stream; None if it does not exist.

    Raises:
        JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
    """
    try:
        config: dict[str, Any] = (await js.call(f"STREAM.INFO.{stream.name}"))["config"]
    except JetStreamError as error:
        if error.code == STREAM_NOT_FOUND:
            return None
        raise
    return config


async def _create(js: JetStream, stream: KeptStream, age_us: int, replicas: int | None) -> None:
    wanted = {
        "name": stream.name,
        "description": stream.description,
        "subjects": [f"{stream.prefix}.>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas or (CLUSTER_REPLICAS if js.connection.info.get("cluster") else 1),
        "max_age": age_us * 1000,
        "max_msgs_per_subject": stream.kept,
        "max_msgs": stream.most,
        "discard": "old",
        "allow_direct": True,
    }
    try:
        await made(js, wanted)
    except JetStreamError as error:
        if error.code not in NO_PEERS or replicas is not None:
            raise
        await made(js, wanted | {"num_replicas": 1})
    log.info("outcomes.created", stream=stream.name)
