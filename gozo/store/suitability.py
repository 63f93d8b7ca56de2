"""Which settings of a bucket's stream make gozo unusable or unsafe. Pure.

`gozo check` fails for all of them; `gozo serve` refuses to start only with the unusable ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gozo.protocol.subject_policy import MOST_HEADERS
from gozo.schedule.expression import print_duration

SMALLEST = 512
"""Bytes that the headers of an ordinary schedule may need."""

FEWEST = 10
"""Messages that a bucket must have room for: gozo stores one or two besides the schedules."""

READERS = 2
"""Consumers needed at a time: a daemon's and a command's."""

INACTIVE = 30
"""The `inactive_threshold` of gozo's consumers, in seconds."""

Config = Mapping[str, Any]
"""A stream's configuration, as the server reports it."""


class Fault(NamedTuple):
    """A setting with which gozo is unusable or unsafe."""

    setting: str
    sentence: str
    is_final: bool
    """Whether gozo can never work with it."""


class _Rule(NamedTuple):
    setting: str
    """Its name; a dot separates the names of nested objects."""
    applies: Callable[[Config], object]
    effect: str
    cure: str
    is_final: bool = False


_REPLACE = "move the schedules to another bucket with gozoctl export and apply"
_EMPTY = "give another --bucket, or remove the stream"


def faults(what: str, config: Config) -> list[Fault]:
    """Return the faults in the configuration of a stream; `what` names it in messages."""
    return [
        Fault(
            rule.setting,
            f"{what} has {rule.setting} {_shown(config, rule.setting)}: {rule.effect}; {rule.cure}",
            rule.is_final,
        )
        for rule in _RULES
        if rule.applies(config)
    ]


def _is_moved(config: Config) -> bool:
    transform = config.get("subject_transform") or {}
    return bool(transform) and transform.get("src") != transform.get("dest")


def _forgets(config: Config) -> bool:
    limits = (config.get("max_msgs", -1), config.get("max_bytes", -1))
    return config.get("discard") == "old" and max(limits) > 0


def _size(config: Config) -> int:
    """The most bytes of a message; less than 1 means no limit."""
    return int(config.get("max_msg_size", -1))


def _inactive(config: Config) -> int:
    limits = config.get("consumer_limits") or {}
    return int(limits.get("inactive_threshold", 0))


_RULES = (
    # gozo can never work with these.
    _Rule(
        "no_ack",
        lambda config: config.get("no_ack"),
        "no write is acknowledged, so nothing is ever known to be stored",
        "set it to false",
        is_final=True,
    ),
    _Rule(
        "sealed",
        lambda config: config.get("sealed"),
        "nothing can be stored or removed",
        _REPLACE,
        is_final=True,
    ),
    _Rule(
        "retention",
        lambda config: config.get("retention", "limits") != "limits",
        "schedules vanish as soon as they are read, or cannot be read",
        _EMPTY,
        is_final=True,
    ),
    _Rule(
        "discard_new_per_subject",
        lambda config: (
            config.get("discard_new_per_subject") and config.get("max_msgs_per_subject") == 1
        ),
        "no schedule can be replaced",
        "set it to false",
        is_final=True,
    ),
    _Rule(
        "subject_transform",
        _is_moved,
        "schedules are not stored under their keys",
        "remove it",
        is_final=True,
    ),
    _Rule(
        "allow_msg_counter",
        lambda config: config.get("allow_msg_counter"),
        "it stores only counters",
        _EMPTY,
        is_final=True,
    ),
    _Rule(
        "max_msg_size",
        lambda config: 0 < _size(config) < SMALLEST,
        "even a schedule without payload is too large",
        f"set it to -1, or at least {MOST_HEADERS}",
        is_final=True,
    ),
    _Rule(
        "consumer_limits.inactive_threshold",
        lambda config: 0 < _inactive(config) < INACTIVE * 1_000_000_000,
        "gozo cannot follow the bucket",
        f"set it to at least {INACTIVE}s",
        is_final=True,
    ),
    # With these, gozo loses schedules, or works only in part.
    _Rule(
        "storage",
        lambda config: config.get("storage") == "memory" and config.get("num_replicas", 1) == 1,
        "all schedules are lost when the server restarts",
        _REPLACE,
    ),
    _Rule(
        "max_age",
        lambda config: config.get("max_age"),
        "older schedules vanish, due or not",
        "set it to 0",
    ),
    _Rule(
        "discard",
        _forgets,
        "since the bucket is limited in size, the oldest schedules vanish when it is full",
        "set it to new",
    ),
    _Rule(
        "persist_mode",
        lambda config: config.get("persist_mode") == "async",
        "schedules are acknowledged before they are written, so a crash of the server loses some",
        _REPLACE,
    ),
    _Rule(
        "max_msg_size",
        lambda config: SMALLEST <= _size(config) < MOST_HEADERS,
        "a schedule with a long id and subject does not fit",
        f"set it to -1, or at least {MOST_HEADERS}",
    ),
    _Rule(
        "deny_purge",
        lambda config: config.get("deny_purge") and not config.get("sealed"),
        "when storage is full, delivered schedules stay, and are delivered again after a restart",
        _REPLACE,
    ),
    _Rule(
        "max_msgs",
        lambda config: 0 < config.get("max_msgs", -1) < FEWEST,
        "gozo's own messages leave no room for schedules",
        "set it to -1",
    ),
    _Rule(
        "max_consumers",
        lambda config: 0 < config.get("max_consumers", -1) < READERS,
        "gozoctl and a standby cannot read the bucket while a daemon does",
        "set it to -1",
    ),
)


def _shown(config: Config, setting: str) -> str:
    value: Any = config
    for name in setting.split("."):
        value = value.get(name)
    if setting == "subject_transform":
        return f"from {value.get('src')} to {value.get('dest')}"
    if setting in ("max_age", "consumer_limits.inactive_threshold"):
        return print_duration(value // 1000)  # from nanoseconds
    return str(value).lower() if isinstance(value, bool) else str(value)
