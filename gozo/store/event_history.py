"""The stream that keeps events, to show later what happened to a schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gozo.errors import JetStreamError, NoServerError, NotAllowedError
from gozo.protocol.subject_policy import expression
from gozo.runtime.logs import get_logger
from gozo.schedule.expression import print_duration
from gozo.store.bucket import CLUSTER_REPLICAS
from gozo.transport.jetstream import (
    NO_PEERS,
    STREAM_NAME_IN_USE,
    STREAM_NOT_FOUND,
    SUBJECTS_OVERLAP,
    JetStream,
)

DESCRIPTION = "events of gozo"
"""The description of streams that gozo created."""

NAMES = "STREAM.NAMES"
"""Called only to name streams in error messages; a daemon works without this permission."""

log = get_logger("gozo.store")


def history_of(bucket: str) -> str:
    """The stream for the events about a bucket."""
    return f"{bucket}_history"


async def open_history(
    js: JetStream, bucket: str, request_subject: str, *, age_us: int, replicas: int | None
) -> None:
    """Create the stream, or extend the existing one to keep these events for that time.

    The stream keeps the events it has, also those of another request subject. Its time is never
    shortened, since a mistyped value would remove events for good. `replicas` None means the same
    as for the bucket.

    Raises:
        JetStreamError: the server refused it, or another stream keeps the events.
        NoServerError, NotAllowedError: as for `JetStream.call`.
    """
    name, subject = history_of(bucket), _events_of(request_subject)
    age = age_us * 1000
    config = await find_history(js, bucket, request_subject, age_us=age_us)
    try:
        if config is None:
            config = await _create(js, name, subject, age, replicas)
        changed = changes_for(config, subject, age)
        if changed:
            await js.call(f"STREAM.UPDATE.{name}", config | changed, timeout=5.0)
            log.info("history.changed", stream=name, age_s=_seconds(age), subject=subject)
        if reason := why_longer(bucket, config, age_us):
            log.warning("history.not_shortened", reason=reason)
    except JetStreamError as error:
        if error.code != SUBJECTS_OVERLAP:
            raise
        keepers = await _keepers(js, bucket, subject)
        raise _in_the_way(bucket, subject, keepers) from error


async def find_history(
    js: JetStream, bucket: str, request_subject: str, *, age_us: int
) -> dict[str, Any] | None:
    """Return the configuration of the stream if gozo may change it; None if it does not exist.

    Raises:
        JetStreamError: gozo did not create the stream of that name, and it keeps something else, or
            it is sealed.
        NoServerError, NotAllowedError: as for `JetStream.call`.
    """
    name, subject = history_of(bucket), _events_of(request_subject)
    age = age_us * 1000
    try:
        config: dict[str, Any] = (await js.call(f"STREAM.INFO.{name}"))["config"]
    except JetStreamError as error:
        if error.code == STREAM_NOT_FOUND:
            return None
        raise
    if config.get("sealed"):
        raise JetStreamError(
            f"the stream {name} is sealed, so it accepts no more events: remove it, or give "
            "--events instead of --history"
        )
    if config.get("description") != DESCRIPTION and changes_for(config, subject, age):
        kept = ", ".join(config.get("subjects") or ["no subject of its own"])
        raise JetStreamError(
            f"gozo did not create the stream {name}, which keeps {kept} "
            f"{how_long(config)}, not {subject} for {print_duration(age_us)}: change it to that, "
            "remove it, or give --events instead of --history"
        )
    return config


def how_long(config: Mapping[str, Any]) -> str:
    """Say for how long a stream of this configuration keeps messages."""
    age = config.get("max_age")
    return f"for {print_duration(age // 1000)}" if age else "forever"


def why_longer(bucket: str, config: Mapping[str, Any], age_us: int) -> str:
    """Say that a stream keeps events for longer than asked for, and how to change that."""
    if not _is_longer(config, age_us * 1000):
        return ""
    name, given = history_of(bucket), print_duration(age_us)
    return (
        f"the stream {name} keeps events {how_long(config)}, and --history {given} does not "
        f"shorten that: to remove what is older, run 'nats stream edit {name} --max-age {given}'"
    )


def _is_longer(config: Mapping[str, Any], age: int) -> bool:
    kept = config.get("max_age")  # nanoseconds; 0 is forever
    return not kept or kept > age


async def check_room(js: JetStream, bucket: str, request_subject: str) -> None:
    """Make sure that no other stream keeps the events, if gozo has the permission to find out.

    Raises:
        JetStreamError: one does.
    """
    subject = _events_of(request_subject)
    if keepers := await _keepers(js, bucket, subject):
        raise _in_the_way(bucket, subject, keepers)


def _events_of(request_subject: str) -> str:
    return f"{request_subject}.event.>"


def _seconds(age: int) -> float:
    return age / 1_000_000_000


def changes_for(config: dict[str, Any], subject: str, age: int) -> dict[str, Any]:
    """Return the changes needed to keep a subject for at least `age` nanoseconds."""
    changes: dict[str, Any] = {}
    subjects = config.get("subjects") or []
    if not is_covered(subject, subjects):
        # The server refuses subjects that overlap with the new one.
        apart = [one for one in subjects if not is_covered(one, [subject])]
        changes["subjects"] = [*apart, subject]
    if config.get("max_age") != age and not _is_longer(config, age):
        changes["max_age"] = age
    return changes


def is_covered(subject: str, patterns: Sequence[str]) -> bool:
    """Tell whether one of the patterns matches everything that a subject ending in `>` matches."""
    return any(
        pattern.split(".")[-1] == ">" and expression((pattern,)).match(subject)
        for pattern in patterns
    )


async def _create(
    js: JetStream, name: str, subject: str, age: int, replicas: int | None
) -> dict[str, Any]:
    wanted = {
        "name": name,
        "description": DESCRIPTION,
        "subjects": [subject],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas or (CLUSTER_REPLICAS if js.connection.info.get("cluster") else 1),
        "max_age": age,
        "discard": "old",
        "allow_direct": True,
    }
    try:
        config = await made(js, wanted)
    except JetStreamError as error:
        if error.code not in NO_PEERS or replicas is not None:
            raise
        config = await made(js, wanted | {"num_replicas": 1})
    log.info("history.created", stream=name, age_s=_seconds(age), subject=subject)
    return config


async def made(js: JetStream, wanted: dict[str, Any]) -> dict[str, Any]:
    """Create the stream, unless another daemon that starts at the same time has done so."""
    try:
        answer = await js.call(f"STREAM.CREATE.{wanted['name']}", wanted, timeout=5.0)
    except JetStreamError as error:
        if error.code != STREAM_NAME_IN_USE:
            raise
        answer = await js.call(f"STREAM.INFO.{wanted['name']}")
    config: dict[str, Any] = answer["config"]
    return config


def _in_the_way(bucket: str, subject: str, keepers: Sequence[str]) -> JetStreamError:
    """Return the error for a subject that other streams keep; their names may be unknown."""
    named = " and ".join(keepers)
    return JetStreamError(
        f"{f'the stream {named}' if named else 'another stream'} keeps messages on {subject} "
        f"already, and JetStream stores each in one stream only, so {history_of(bucket)} cannot: "
        "give another --request-subject, remove that stream, or give --events instead of "
        "--history",
        SUBJECTS_OVERLAP,
    )


async def _keepers(js: JetStream, bucket: str, subject: str) -> list[str]:
    """Return the names of other streams that keep a subject, if gozo is permitted to list them."""
    try:
        answer = await js.call(NAMES, {"subject": subject})
    except (NotAllowedError, NoServerError, JetStreamError):
        return []
    return [name for name in answer.get("streams") or [] if name != history_of(bucket)]
