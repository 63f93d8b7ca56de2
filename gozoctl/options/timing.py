"""The options that say when a schedule is due, and how often."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Annotated

import typer

from gozo.errors import Refusal, RequestError, SettingsError, invalid_value
from gozo.schedule import expression as grammar
from gozo.schedule.cron import ZONE_NAME, Cron, read_zone
from gozo.schedule.model import Misfire
from gozoctl.options import moments
from gozoctl.options.time_zones import local_zone, offered

if TYPE_CHECKING:
    from gozo.client import ScheduleOptions

In = Annotated[
    str | None,
    typer.Option(
        "--in", metavar="DELAY", help="Deliver after this delay: seconds, 1h30m or '2 hours'."
    ),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="TIME",
        help="Deliver at this time: 17:30, 'tomorrow 9am', '2026-12-24 18:00' (local) or RFC 3339.",
    ),
]
When = Annotated[
    str | None,
    typer.Option(
        "--when", metavar="EXPR", help="Deliver when this expression says; see gozo-protocol(7)."
    ),
]


@contextmanager
def naming(when: str) -> Iterator[None]:
    """Make refusals name options instead of headers; `when` is the option that gave the time.

    A refusal of `--header` is about the header itself.

    Raises:
        RequestError: the same, reworded.
    """
    try:
        yield
    except RequestError as error:
        if error.code in (Refusal.INVALID_HEADER, Refusal.UNKNOWN_HEADER):
            raise
        raise RequestError(error.code, moments.in_options(str(error), when)) from error


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule is due: the options as they were given."""

    in_: In = None
    at: At = None
    when: When = None
    cron: Annotated[
        str | None,
        typer.Option(
            "--cron",
            metavar="EXPR",
            help="Deliver at these times, such as '0 2 * * mon-fri' or @daily.",
        ),
    ] = None
    every: Annotated[
        str | None,
        typer.Option("--every", metavar="SPAN", help="Deliver at this interval: 15m, or seconds."),
    ] = None
    time_zone: Annotated[
        str | None,
        typer.Option(
            "--time-zone",
            "--tz",
            metavar="ZONE",
            help="Time zone of --cron and --at, such as Europe/Malta; default: this machine's.",
            autocompletion=offered,
            show_default=False,
        ),
    ] = None
    start: Annotated[
        str | None,
        typer.Option(
            "--start", metavar="TIME", help="First time to deliver: as --at, or a delay (+1d)."
        ),
    ] = None
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="TIME", help="Last time to deliver: as --at, or a delay (+30d)."
        ),
    ] = None
    count: Annotated[
        int | None, typer.Option("--count", min=1, metavar="N", help="Deliver N times, then end.")
    ] = None
    jitter: Annotated[
        str | None,
        typer.Option(
            "--jitter", metavar="SPAN", help="Delay each delivery by a random time up to this."
        ),
    ] = None
    misfire: Annotated[
        Misfire | None,
        typer.Option(
            "--misfire",
            help="Missed occurrences: send one (once), every one (all) or none (skip).",
            show_default=False,
        ),
    ] = None
    misfire_grace: Annotated[
        str | None,
        typer.Option(
            "--misfire-grace",
            metavar="SPAN",
            help="Treat an occurrence as missed once it is later than this.",
        ),
    ] = None
    ways: tuple[str, ...] = moments.WAYS
    """The options of the command that give the time."""
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def given(self) -> tuple[str, str]:
        """The option that gives the time, and its text; valid once `expression` has been read."""
        options = {
            "--in": self.in_,
            "--at": self.at,
            "--when": self.when,
            "--cron": self.cron,
            "--every": self.every,
        }
        return next((name, text) for name, text in options.items() if text is not None)

    @property
    def expression(self) -> str:
        """The expression of `Gozo-When`.

        Raises:
            SettingsError: none or several were given, or the one is invalid.
        """
        return moments.expression(
            in_=self.in_,
            at=self.at,
            when=self.when,
            cron=self.cron,
            every=self.every,
            now=self.now,
            zone=self._zone,
            ways=self.ways,
        )

    @property
    def zone(self) -> str | None:
        """The name of the time zone to store: by default this machine's for a cron expression.

        Raises:
            SettingsError: it is invalid, or this machine's is unknown.
        """
        if self.at is not None:
            return None  # --at has become a moment
        return self.time_zone or default_zone(self.expression)

    def options(self) -> ScheduleOptions:
        """Return these options, except the time itself, as the client takes them.

        Raises:
            SettingsError: a value is invalid.
        """
        return {
            "time_zone": self.zone,
            "start": self.first,
            "until": self._moment(self.until, "--until"),
            "count": self.count or 0,
            "jitter": _span(self.jitter, "--jitter"),
            "misfire": self.misfire,
            "misfire_grace": _span(self.misfire_grace, "--misfire-grace"),
        }

    @property
    def first(self) -> datetime | None:
        """The time that --start gives."""
        return self._moment(self.start, "--start")

    @property
    def clocks(self) -> tzinfo:
        """The time zone of a cron expression."""
        return zone_of(self.zone or self.time_zone or "UTC")

    @property
    def _zone(self) -> tzinfo | None:
        return None if self.time_zone is None else zone_of(self.time_zone)

    def _moment(self, text: str | None, option: str) -> datetime | None:
        return None if text is None else moments.moment(text, self.now, option, self._zone)


def default_zone(expression: str) -> str | None:
    """Return the name of this machine's time zone if the expression needs one.

    Raises:
        SettingsError: it is unknown.
        RequestError: the expression is invalid.
    """
    return local_zone() if isinstance(grammar.parse(expression), Cron) else None


def zone_of(name: str) -> tzinfo:
    """Return the time zone that `--time-zone` names.

    Raises:
        SettingsError: there is no such zone.
    """
    try:
        return read_zone(name)
    except RequestError as error:
        raise SettingsError(invalid_value("--time-zone", name, ZONE_NAME)) from error


def _span(text: str | None, option: str) -> str | None:
    if text is not None:
        moments.length(text, option, zero_ok=True)
    return text
