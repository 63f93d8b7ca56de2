"""How commands print workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gozoctl.output.printer import Cell, TableSpec

if TYPE_CHECKING:
    from gozo.client import WorkerInfo


def _cells(one: WorkerInfo) -> tuple[Cell, ...]:
    return ((one.host, "bold"), *worker_texts(one)[1:])


def worker_texts(one: WorkerInfo) -> tuple[str, ...]:
    """Return the columns of a worker as plain text."""
    return (one.host, one.version, str(one.jobs), ", ".join(one.running), one.files)


def worker_record(one: WorkerInfo) -> dict[str, Any]:
    """Return a worker for JSON."""
    return {
        "host": one.host,
        "version": one.version,
        "files": one.files,
        "jobs": one.jobs,
        "running": list(one.running),
    }


def _name(one: WorkerInfo) -> str | None:
    return one.host


COLUMNS = ("VERSION", "JOBS", "RUNNING", "FILES")

WORKERS: TableSpec[WorkerInfo] = TableSpec(
    ("WORKER", *COLUMNS), _cells, worker_texts, worker_record, _name
)
