"""One run of a command: what is logged while it lasts, and how it is ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from gozo.client.worker_tables import Job
from gozoctl.worker import run
from gozoctl.worker.children import Children
from gozoctl.worker.locks import Locks
from gozoctl.worker.places import Place, Places
from gozoctl.worker.run import Runner
from gozoctl.worker.tables import Table
from tests.support.patience import until


@pytest.fixture
async def children() -> AsyncIterator[Children]:
    """Have processes."""
    children = Children()
    yield children
    children.kill_all()
    children.close()


def place(folder: Path, command: str) -> Place:
    """Take the place of a command."""
    job = Job("a", "s", command, environment={"HOME": "/"})
    taken = Places(Locks(folder, "gozo", "gozo"), lambda: None).take(Table(job, "f", 1))
    assert taken is not None
    return taken


def fields(record: logging.LogRecord) -> Mapping[str, object]:
    """Return the fields of a logged event."""
    found: Mapping[str, object] = getattr(record, "gozo_fields", {})
    return found


async def test_a_long_run_is_logged(
    children: Children,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After some time, and each time that has doubled."""
    monkeypatch.setattr(run, "LONG", 0.05)
    runner = Runner(children, {})
    with caplog.at_level(logging.INFO, "gozo.worker"), place(tmp_path, "sleep 0.5") as taken:
        await runner.run(taken, b"", {"id": "a"})
    names = [record.message for record in caplog.records]
    assert names[0] == "job.started"
    assert names[-1] == "job.ended"
    between = names[1:-1]
    assert set(between) == {"job.running"}
    assert 1 <= len(between) <= 4  # at 0.05, 0.1, 0.2 and 0.4 s
    assert all(fields(record)["id"] == "a" for record in caplog.records)
    assert all("pid" in fields(record) for record in caplog.records)


async def test_it_is_ended_with_its_worker(children: Children, tmp_path: Path) -> None:
    """First by SIGTERM; one that ignores that, by SIGKILL when it is asked for again."""
    runner = Runner(children, {})
    script = f"trap '' TERM; echo $$ > {tmp_path}/pid; sleep 1000"
    with place(tmp_path, script) as taken:
        running = asyncio.create_task(runner.run(taken, b"", {"id": "a"}))
        await until((tmp_path / "pid").exists, "it runs")
        runner.interrupt()
        await asyncio.sleep(0.1)
        assert not running.done()
        runner.interrupt()
        ended = await running
    assert ended.reason == "ended with its worker"
    assert ended.status == 128 + 9


async def test_a_place_is_free_again(tmp_path: Path) -> None:
    """After any end; those who wait for room hear of it."""
    changes: list[set[str]] = []
    places = Places(Locks(tmp_path, "gozo", "gozo"), lambda: changes.append(places.full))
    tables = [Table(Job(id_, "s", "x"), "f", 2) for id_ in "abc"]
    first = places.take(tables[0])
    assert first is not None
    assert places.take(tables[0]) is None  # none runs beside itself
    second = places.take(tables[1])
    assert second is not None
    assert places.take(tables[2]) is None  # no room
    other = Table(Job("d", "s", "x", allows_overlap=True), "g", 2)
    assert [places.take(other) is None for _ in range(3)] == [False, False, True]
    with pytest.raises(ZeroDivisionError), first:
        _ = 1 // 0
    with second:
        third = places.take(tables[2])
        assert third is not None
    assert places.take(tables[0]) is not None
    assert changes[:3] == [{"f"}, {"f", "g"}, {"g"}]
