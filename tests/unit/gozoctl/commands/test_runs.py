"""`gozoctl runs` between two readings, which nothing outside of it can come between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from gozo.client import Outcome, Schedule
from gozoctl.commands.runs import RunFilter, _Runs
from gozoctl.output.printer import Output
from gozoctl.session import Session

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
RUN = Schedule("a", "=_run.a.1", "jobs", "", NOW, NOW, 0, state="running", occurrence="1")


class Ending:
    """A client that sees a run end once its bucket has been read."""

    def __init__(self) -> None:
        self.has_ended = False

    async def current_runs(self, id_: str | None) -> list[Schedule]:
        """Return the run as long as it is there."""
        runs = [] if self.has_ended else [RUN, RUN._replace(occurrence="2")]
        self.has_ended = True
        return runs

    async def outcomes(self, id_: str | None, **more: object) -> AsyncIterator[Outcome]:
        """Return its outcome from then on."""
        if self.has_ended:
            yield Outcome("succeeded", NOW, "a", occurrence="1", due=NOW)


async def test_a_run_that_ends_meanwhile(capsys: pytest.CaptureFixture[str]) -> None:
    """It is printed once, as it ended."""
    session = Session(cast(Any, Ending()), Output("tsv", header=False), NOW)
    assert await _Runs(session, ["a"], RunFilter()).show() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[4] for line in lines] == ["succeeded", "running"]
