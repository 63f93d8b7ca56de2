"""Collects the answers of services (ADR-32) to a question."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from gozo.settings.model import ConnectionSettings
from gozo.transport.commands import Reply
from gozo.transport.connection import Connection

WORKERS = "$SRV.INFO.gozo-worker"


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A running `gozoctl worker`, as described by itself."""

    host: str
    version: str
    files: str
    """The names of its files."""
    jobs: int
    """How many tables of its files are for it."""
    running: tuple[str, ...]
    """The ids of the jobs that it runs."""


async def ask_all(connection: Connection, subject: str, wait: float) -> list[Any]:
    """Collect answers for `wait` seconds, read as JSON; those that are not are omitted.

    Raises:
        NoServerError, NotAllowedError: as for `Connection.request`.
    """
    found: list[Any] = []

    def on_answer(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        try:
            found.append(json.loads(payload))
        except (ValueError, RecursionError):
            return

    answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    inbox = connection.new_inbox()
    listener = connection.listen(inbox, on_answer)
    try:
        with connection.failing_if_denied(subject, answer):
            connection.publish(subject, reply=inbox)
            await connection.echo()
            if answer.done():
                answer.result()
        await asyncio.sleep(wait)
    finally:
        listener.stop()
    return found


async def find_workers(
    connection: Connection, settings: ConnectionSettings, wait: float
) -> list[WorkerInfo]:
    """Collect answers of workers on the same bucket and request subject for `wait` seconds.

    Raises:
        NoServerError, NotAllowedError: as for `Connection.request`.
    """
    found: list[WorkerInfo] = []
    for answer in await ask_all(connection, WORKERS, wait):
        try:
            told = answer["metadata"]
            if (told["request_subject"], told["bucket"]) == (
                settings.request_subject,
                settings.bucket,
            ):
                found.append(_worker(answer))
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            continue  # not from a worker, or from another version
    return sorted(found, key=lambda worker: (worker.host, worker.files))


def _worker(answer: dict[str, Any]) -> WorkerInfo:
    """Read an answer, which may come from an impostor."""
    told = answer["metadata"]
    return WorkerInfo(
        host=str(told["host"]),
        version=str(answer["version"]),
        files=str(told["files"]),
        jobs=int(told["jobs"]),
        running=tuple(str(one["id"]) for one in answer["running"]),
    )
