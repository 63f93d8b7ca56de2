"""Which schedules a command changes: some ids, or all that match options."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.errors import SettingsError
from gozoctl.exit_codes import DONE, FAILED, NOT_FOUND
from gozoctl.options import completion
from gozoctl.options.files import STDIN, read_text
from gozoctl.options.selection import explain_nothing, select
from gozoctl.output.printer import TableSpec, ask, can_ask
from gozoctl.output.schedules import Filter, sheet_for
from gozoctl.session import Session

if TYPE_CHECKING:
    from gozo.client import Answer, Cancelled, Schedule

Ids = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ID",
        help="Ids of schedules; - reads them from standard input, one per line.",
        autocompletion=completion.ids,
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """The options that select schedules instead of ids."""

    subject: Annotated[
        str | None,
        typer.Option(
            "--subject",
            metavar="PATTERN",
            help="All schedules for this subject; * and > are wildcards, as in NATS.",
            autocompletion=completion.subjects,
        ),
    ] = None
    id_: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="GLOB", help="All schedules whose id matches; * and ? are wildcards."
        ),
    ] = None
    all_: Annotated[bool, typer.Option("--all", help="All schedules.")] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the schedules, and change nothing.")
    ] = False
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False

    @property
    def select_any(self) -> bool:
        """Whether one of them that selects schedules was given."""
        return self.all_ or self.subject is not None or self.id_ is not None


def _always(schedule: Schedule) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class BulkSelection:
    """The schedules that a command changes, and its verb in two forms."""

    verb: str
    done: str
    """The status of a schedule that was changed."""
    ids: list[str] | None
    options: BulkOptions = BulkOptions()
    in_bulk: Callable[[Schedule], bool] = _always
    """Narrows the schedules that match the options."""

    async def find(self, session: Session) -> list[str] | None:
        """Return the ids; None if a person refuses.

        Raises:
            SettingsError: neither ids nor options were given, or both.
        """
        if bool(self.ids) == self.options.select_any:
            raise SettingsError("give either ids, or --subject, --id or --all")
        if self.ids:
            wanted = _read_ids(self.ids)
            if not self.options.dry_run:
                return wanted
            got = [await _read(session, one) for one in wanted]
            self._show(session, [one for one in got if one is not None])
            return []
        found = await select(session.client, self.options.subject, Filter(self.options.id_))
        found = _each_id_once(one for one in found if self.in_bulk(one))
        if not self._may(session, found):
            return None
        if not found:
            await explain_nothing(session)
        return [] if self.options.dry_run else [one.id for one in found if one.id is not None]

    def finish(self, session: Session, answers: list[Cancelled] | list[Answer]) -> int:
        """Print the result for each, and return the exit code."""
        if not self.options.dry_run:
            session.out.all(ANSWERS, answers)
            for one in answers:
                if one.running:
                    session.out.say(self._still_running(one))
        others = [one for one in answers if one.status != self.done]
        for one in others:
            if one.status == "failed":
                session.out.fail(f"{one.id!r} was not delivered: {getattr(one, 'reason', '')}")
        if any(one.status == "failed" for one in others):
            return FAILED
        # In bulk, a schedule delivered in the meantime is not a failure.
        return NOT_FOUND if others and self.ids else DONE

    def _still_running(self, one: Cancelled | Answer) -> str:
        reason = getattr(one, "reason", "")
        if reason:
            return f"{one.id!r} was not {self.done}: {reason}"
        return f"{one.id!r} is still running; it is not tried again"

    def _may(self, session: Session, found: list[Schedule]) -> bool:
        """Show the schedules, or ask; False if a person refuses."""
        without = sum(one.id is None for one in found)
        if without:
            session.out.say(f"ignoring {without} without an id, which cannot be {self.done}")
        if self.options.dry_run:
            self._show(session, [one for one in found if one.id is not None])
            return True
        count = len(found) - without
        if self.options.yes or not count:
            return True
        if not can_ask():
            raise SettingsError(f"this would {self.verb} {_schedules(count)}: use --yes to confirm")
        return ask(f"{self.verb.capitalize()} {_schedules(count)}?")

    def _show(self, session: Session, found: list[Schedule]) -> None:
        session.out.all(sheet_for(found), found)


def _schedules(count: int) -> str:
    return f"{count} schedule{'s' * (count != 1)}"


async def _read(session: Session, id_: str) -> Schedule | None:
    """Read a schedule; if it is gone, its latest run."""
    schedule = await session.client.get(id_)
    return schedule or next(reversed(await session.client.current_runs(id_)), None)


def _each_id_once(found: Iterable[Schedule]) -> list[Schedule]:
    """Omit runs whose schedule, or another run of it, is there too."""
    items = list(found)
    seen = {one.id for one in items if not one.is_run}
    kept = []
    for one in items:
        if one.id is None or not one.is_run:
            kept.append(one)
        elif one.id not in seen:
            seen.add(one.id)
            kept.append(one)
    return kept


def _read_ids(ids: list[str]) -> list[str]:
    if ids != [STDIN]:
        return ids
    return [id_ for line in read_text(STDIN).split("\n") if (id_ := line.rstrip("\r"))]


def _fields(one: Cancelled | Answer) -> tuple[str, ...]:
    return one.id, one.status


def _record(one: Cancelled | Answer) -> dict[str, Any]:
    found: dict[str, Any] = {"id": one.id, "status": one.status}
    if reason := getattr(one, "reason", ""):
        found["reason"] = reason
    if getattr(one, "running", False):
        found["running"] = True
    return found


def _name(one: Cancelled | Answer) -> str | None:
    missing = ("not_found", "already_delivered", "failed")
    return None if one.status in missing else one.id


ANSWERS: TableSpec[Cancelled | Answer] = TableSpec(
    ("ID", "STATUS"), _fields, _fields, _record, _name
)
