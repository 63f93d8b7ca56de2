"""How commands print daemons and their bucket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gozoctl.output import times
from gozoctl.output.printer import Cell, TableSpec
from gozoctl.output.schedules import size

if TYPE_CHECKING:
    from gozo.client import BucketInfo, Replica


def _uptime(one: Replica) -> str:
    return times.span(datetime.now(UTC) - one.started)


def _cells(one: Replica) -> tuple[Cell, ...]:
    return (
        (one.name, "bold"),
        one.version,
        role_cell(one),
        str(one.pending),
        str(one.delivered),
        f"{one.lateness_p50_ms:.1f} ms",
        f"{one.lateness_p99_ms:.1f} ms",
        _uptime(one),
    )


def daemon_texts(one: Replica) -> tuple[str, ...]:
    """Return the columns of a daemon as plain text."""
    return tuple(cell if isinstance(cell, str) else cell[0] for cell in _cells(one))


def daemon_record(one: Replica) -> dict[str, Any]:
    """Return a daemon for JSON."""
    return {
        "name": one.name,
        "version": one.version,
        "role": one.role,
        "problem": one.problem,
        "pending": one.pending,
        "overdue": one.overdue,
        "paused": one.paused,
        "failed": one.failed,
        "invalid": one.invalid,
        "delivered": one.delivered,
        "refused": one.refused,
        "lateness_p50_ms": one.lateness_p50_ms,
        "lateness_p99_ms": one.lateness_p99_ms,
        "started": times.utc(one.started),
    }


def _name(one: Replica) -> str | None:
    return one.name


COLUMNS = ("VERSION", "ROLE", "PENDING", "DELIVERED", "P50", "P99", "UP")

DAEMONS: TableSpec[Replica] = TableSpec(
    ("DAEMON", *COLUMNS),
    _cells,
    daemon_texts,
    daemon_record,
    _name,
    whole=frozenset(COLUMNS),
)


def role_cell(one: Replica) -> Cell:
    """Return the role of a daemon, coloured by whether it is serving."""
    return (one.role, "red" if one.problem else "green" if one.role == "leader" else "")


def problems(replicas: Iterable[Replica]) -> Iterator[str]:
    """Return the name of each daemon that is not serving, with the reason."""
    return (f"{one.name}: {one.problem}" for one in replicas if one.problem)


def bucket_words(name: str, bucket: BucketInfo | None) -> str:
    """Describe a bucket for people."""
    if bucket is None:
        return f"{name}, does not exist yet"
    copies = f"{bucket.replicas} replica{'s' * (bucket.replicas != 1)}"
    return f"{name}, {size(bucket.bytes)}, {copies}, {bucket.storage}"


def bucket_record(bucket: BucketInfo | None) -> dict[str, Any] | None:
    """Return a bucket for JSON."""
    if bucket is None:
        return None
    return {
        "name": bucket.name,
        "keys": bucket.keys,
        "bytes": bucket.bytes,
        "replicas": bucket.replicas,
        "storage": bucket.storage,
        "created": times.utc(bucket.created),
    }
