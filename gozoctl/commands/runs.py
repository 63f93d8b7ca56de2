"""`gozoctl runs`: prints how runs ended, and those that have not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozo.errors import NotFoundError, SettingsError
from gozoctl.exit_codes import DONE, NOT_FOUND
from gozoctl.options import completion, past_moments
from gozoctl.output.printer import Elements, Lines, Output, TableSpec
from gozoctl.output.runs import (
    LINES,
    RUNS,
    RUNS_OF_MANY,
    WITH_OUTPUT,
    ShownRun,
    current_run,
    ended_run,
)
from gozoctl.output.schedules import id_matches
from gozoctl.session import OPTIONS, NoHeader, Session, connected

if TYPE_CHECKING:
    from gozo.client import Outcome, Schedule

TABLE = 1_000
"""Runs printed to people as a table; more are printed line by line, without waiting in memory."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """The options that select runs."""

    id_: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="GLOB",
            help="Only runs of schedules whose id matches; * and ? are wildcards.",
        ),
    ] = None
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only runs that ended since this time: 24h (ago), 17:30 or yesterday.",
        ),
    ] = None
    failed: Annotated[
        bool, typer.Option("--failed", help="Only runs that neither succeeded nor were skipped.")
    ] = False
    show_output: Annotated[
        bool, typer.Option("--show-output", help="Print the end of the output of each, if kept.")
    ] = False
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def begin(self) -> datetime | None:
        """Return the moment of --since.

        Raises:
            SettingsError: it is invalid.
        """
        return None if self.since is None else past_moments.since(self.since, self.now)

    @property
    def is_narrow(self) -> bool:
        """Whether any of the options that select runs was given."""
        return self.id_ is not None or self.since is not None or self.failed


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID",
            help="Only runs of these schedules.",
            show_default=False,
            autocompletion=completion.ids,
        ),
    ] = None,
    *,
    wanted: RunFilter,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Print how runs of schedules ended, the oldest first; then those that have not ended.

    A run is an occurrence that its receiver has to confirm. Exits 3 if outcomes are not kept, or
    if no run of an ID matches.
    """

    def check(out: Output) -> bool:
        wanted.begin()
        if ids and wanted.id_ is not None:
            raise SettingsError("give either ids, or --id")
        return True

    async def work(session: Session) -> int:
        return await _Runs(session, list(dict.fromkeys(ids or ())), wanted).show()

    connected(ctx, given, work, header=not no_header, before=check)


class _Runs:
    """The runs that were asked for."""

    def __init__(self, session: Session, ids: list[str], wanted: RunFilter) -> None:
        self._session = session
        self._client = session.client
        self._ids = ids
        self._wanted = wanted
        self._outputs: dict[str, dict[str, bytes]] = {}
        self._not_kept: NotFoundError | None = None

    async def show(self) -> int:
        """Print them, and return the exit code."""
        seen: set[str | None] = set()
        await _print(
            self._session.out,
            self._all(seen),
            of_one=len(self._ids) == 1,
            with_output=self._wanted.show_output,
        )
        out = self._session.out
        if self._not_kept is not None:
            out.fail(str(self._not_kept))
            return NOT_FOUND
        matching = "matching " if self._wanted.is_narrow else ""
        missing = [id_ for id_ in self._ids if id_ not in seen]
        for id_ in missing:
            out.fail(f"no {matching}runs of schedule {id_!r}")
        if not seen and not self._ids:
            out.say(f"no {matching}runs")
        return NOT_FOUND if missing else DONE

    async def _all(self, seen: set[str | None]) -> AsyncIterator[ShownRun]:
        """Iterate over them, and add their ids to `seen`."""
        # Read before the outcomes, so that a run that ends meanwhile is not missing in both.
        current = await self._current()
        try:
            async for outcome in self._ended():
                seen.add(outcome.id)
                current.pop((outcome.id, outcome.occurrence), None)
                yield ended_run(outcome, await self._output(outcome))
        except NotFoundError as error:
            self._not_kept = error
        if self._wanted.failed:
            return
        for run in sorted(current.values(), key=lambda run: run.due):
            # Of one that failed and is kept, the outcome says more.
            if run.state != "failed" or self._not_kept is not None:
                seen.add(run.id)
                yield current_run(run, self._session.now)

    async def _ended(self) -> AsyncIterator[Outcome]:
        begin, failed = self._wanted.begin(), self._wanted.failed
        if len(self._ids) > 1:
            found = [
                one
                for id_ in self._ids
                async for one in self._client.outcomes(id_, since=begin, failed=failed)
            ]
            for one in sorted(found, key=_ended_at):
                yield one
            return
        id_ = self._ids[0] if self._ids else None
        async for one in self._client.outcomes(id_, since=begin, failed=failed):
            if self._matches(one.id):
                yield one

    async def _current(self) -> dict[tuple[str | None, str], Schedule]:
        """Return the runs in the bucket, by id and occurrence."""
        wanted: list[str | None] = [*self._ids] or [None]
        found = [run for id_ in wanted for run in await self._client.current_runs(id_)]
        return {(run.id, run.occurrence): run for run in found if self._matches(run.id)}

    def _matches(self, id_: str | None) -> bool:
        return self._wanted.id_ is None or id_matches(self._wanted.id_, id_)

    async def _output(self, outcome: Outcome) -> bytes | None:
        if not self._wanted.show_output or outcome.id is None or not outcome.occurrence:
            return None
        if outcome.id not in self._outputs:
            self._outputs[outcome.id] = await self._client.outputs(outcome.id)
        return self._outputs[outcome.id].get(outcome.occurrence)


async def _print(
    out: Output, runs: AsyncIterator[ShownRun], *, of_one: bool, with_output: bool
) -> None:
    """Print runs as they arrive."""
    if out.format == "json":
        elements = Elements()
        async for run in runs:
            elements.put(RUNS.record(run))
        elements.end()
        return
    lines = Lines(out, _sheet(out, with_output=with_output))
    first: list[ShownRun] = []
    got = 0
    async for run in runs:
        got += 1
        if out.is_for_people and not with_output and got <= TABLE:
            first.append(run)
            continue
        for one in first:
            lines.put(one)
        first.clear()
        lines.put(run)
        if out.is_for_people and run.output:
            for line in run.output.decode("utf-8", "backslashreplace").splitlines():
                out.write(f"    {line}")
    if first:
        out.all(RUNS if of_one else RUNS_OF_MANY, first)


def _sheet(out: Output, *, with_output: bool) -> TableSpec[ShownRun]:
    if out.is_for_people:
        return LINES
    return WITH_OUTPUT if with_output else RUNS


def _ended_at(outcome: Outcome) -> datetime:
    assert outcome.at is not None, "runs have ended at a time"
    return outcome.at
