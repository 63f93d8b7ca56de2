"""Which schedules a command that changes many is for: ids, or whatever options match."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.errors import SettingsError
from gozoctl.exit_codes import DONE, FAILED, NOT_FOUND
from gozoctl.options import completion as completing
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
        help="Which; - reads ids from standard input, one a line.",
        autocompletion=completing.ids,
        show_default=False,
    ),
]
Subject = Annotated[
    str | None,
    typer.Option(
        "--subject",
        metavar="PATTERN",
        help="All that is sent there; * and > are wildcards, as in NATS.",
        autocompletion=completing.subjects,
    ),
]
Glob = Annotated[str | None, typer.Option("--id", metavar="GLOB", help="All ids like this.")]
All = Annotated[bool, typer.Option("--all", help="All schedules.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print which these are, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True, slots=True)
class BulkSelection:
    """What was given of these options, and the verb in two forms."""

    verb: str
    done: str
    """The status of those that it was done to."""
    ids: list[str] | None
    subject: str | None = None
    glob: str | None = None
    all: bool = False
    dry_run: bool = False
    yes: bool = False
    in_bulk: Callable[[Schedule], bool] = lambda schedule: True
    """Of those that options match, which are meant."""

    async def find(self, session: Session) -> list[str] | None:
        """Return the ids; None where nothing is to be done, since a person said no.

        Raises:
            SettingsError: neither ids nor options were given, or both.
        """
        if bool(self.ids) == (self.all or self.subject is not None or self.glob is not None):
            raise SettingsError("give ids, or one of --subject, --id and --all, and not both")
        if self.ids:
            wanted = _read_ids(self.ids)
            if not self.dry_run:
                return wanted
            got = [await session.client.get(one) for one in wanted]
            self._show(session, [one for one in got if one is not None])
            return []
        found = await select(session.client, self.subject, Filter(self.glob))
        found = [one for one in found if self.in_bulk(one)]
        if not self._may(session, found):
            return None
        if not found:
            await explain_nothing(session)
        return [] if self.dry_run else [one.id for one in found if one.id is not None]

    def finish(self, session: Session, answers: list[Cancelled] | list[Answer]) -> int:
        """Print what became of each, and return the exit code."""
        if not self.dry_run:
            session.out.all(ANSWERS, answers)
        others = [one for one in answers if one.status != self.done]
        for one in others:
            if one.status == "failed":
                session.out.fail(f"{one.id!r} was not delivered: {getattr(one, 'reason', '')}")
        if any(one.status == "failed" for one in others):
            return FAILED
        # In bulk, what was delivered in the meantime is no failure.
        return NOT_FOUND if others and self.ids else DONE

    def _may(self, session: Session, found: list[Schedule]) -> bool:
        """Show which are meant, or ask; False for a no."""
        without = sum(one.id is None for one in found)
        if without:
            session.out.say(f"left out: {without} without an id, which cannot be {self.done}")
        if self.dry_run:
            self._show(session, [one for one in found if one.id is not None])
            return True
        count = len(found) - without
        if self.yes or not count:
            return True
        if not can_ask():
            raise SettingsError(
                f"this would {self.verb} {count}: give --yes to do it without a question"
            )
        return ask(f"{self.verb.capitalize()} {count} schedule{'s' * (count != 1)}?")

    def _show(self, session: Session, found: list[Schedule]) -> None:
        session.out.all(sheet_for(found), found)


def _read_ids(ids: list[str]) -> list[str]:
    if ids != [STDIN]:
        return ids
    return [id_ for line in read_text(STDIN).split("\n") if (id_ := line.rstrip("\r"))]


def _fields(one: Cancelled | Answer) -> tuple[str, ...]:
    return one.id, one.status


def _record(one: Cancelled | Answer) -> dict[str, Any]:
    reason = getattr(one, "reason", "")
    return {"id": one.id, "status": one.status} | ({"reason": reason} if reason else {})


def _name(one: Cancelled | Answer) -> str | None:
    missing = ("not_found", "already_delivered", "failed")
    return None if one.status in missing else one.id


ANSWERS: TableSpec[Cancelled | Answer] = TableSpec(
    ("ID", "STATUS"), _fields, _fields, _record, _name
)
