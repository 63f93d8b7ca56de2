"""The options that say when a schedule is due, how often, and what if it is late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Annotated, Any

import typer

from gozo.errors import RequestError, SettingsError
from gozo.schedule import expression as grammar
from gozo.schedule.cron import Cron as CronExpression
from gozo.schedule.cron import read_zone
from gozo.schedule.model import Misfire
from gozoctl.options import moments
from gozoctl.options.time_zones import local_zone, offered

In = Annotated[
    str | None,
    typer.Option(
        "--in", metavar="DELAY", help="Due after this time: seconds, 1h30m, or '2 hours'."
    ),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="TIME",
        help="Due at this time: 17:30, 'tomorrow 9am', '2026-12-24 18:00' (local), or RFC 3339.",
    ),
]
When = Annotated[
    str | None,
    typer.Option(
        "--when", metavar="EXPR", help="Due when the expression says: see gozo-protocol(7)."
    ),
]
Cron = Annotated[
    str | None,
    typer.Option(
        "--cron", metavar="EXPR", help="Due again and again, such as '0 2 * * mon-fri' or @daily."
    ),
]
Every = Annotated[
    str | None,
    typer.Option(
        "--every", metavar="SPAN", help="Due so long after each other: such as 15m, or seconds."
    ),
]
TimeZone = Annotated[
    str | None,
    typer.Option(
        "--time-zone",
        "--tz",
        metavar="ZONE",
        help="Whose clocks --cron and --at mean, such as Europe/Malta; default: this machine's.",
        autocompletion=offered,
        show_default=False,
    ),
]
ZoneOfExpression = Annotated[
    str | None,
    typer.Option(
        "--time-zone",
        "--tz",
        metavar="ZONE",
        help="Whose clocks a cron expression means, such as Europe/Malta; default: this machine's.",
        autocompletion=offered,
        show_default=False,
    ),
]
Start = Annotated[
    str | None,
    typer.Option("--start", metavar="TIME", help="Not due before; as --at, or a delay: +1d."),
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="Not due after; as --at, or a delay: +30d."),
]
Count = Annotated[
    int | None, typer.Option("--count", min=1, metavar="N", help="Due so often, and then no more.")
]
Jitter = Annotated[
    str | None,
    typer.Option(
        "--jitter", metavar="SPAN", help="Deliver later by a random time of up to so much."
    ),
]
MisfireOption = Annotated[
    Misfire | None,
    typer.Option(
        "--misfire",
        help="What becomes of what was missed: it is sent once for all, or all, or skipped.",
        show_default=False,
    ),
]
MisfireGrace = Annotated[
    str | None,
    typer.Option(
        "--misfire-grace", metavar="SPAN", help="It counts as missed once it is later than this."
    ),
]


@contextmanager
def naming(when: str) -> Iterator[None]:
    """Have refusals name options, where they would name headers; `when` is that of the time.

    Raises:
        RequestError: the same, in other words.
    """
    try:
        yield
    except RequestError as error:
        raise RequestError(error.code, moments.in_options(str(error), when)) from error


@dataclass(frozen=True, slots=True)
class Timing:
    """What was given of these options."""

    now: datetime
    in_: str | None
    at: str | None
    when: str | None
    cron: str | None = None
    every: str | None = None
    time_zone: str | None = None
    start: str | None = None
    until: str | None = None
    count: int | None = None
    jitter: str | None = None
    misfire: Misfire | None = None
    misfire_grace: str | None = None
    ways: tuple[str, ...] = moments.WAYS
    """The options of the command that say when."""

    @property
    def given(self) -> tuple[str, str]:
        """The option that says when, and its text; to be asked once `expression` was.

        A time is given exactly once.
        """
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
            SettingsError: none was given, or more than one, or it cannot be read.
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
        """The name of the zone that is sent with it: this machine's for a cron expression.

        Raises:
            SettingsError: it is none, or this machine's is not known.
        """
        if self.at is not None:
            return None  # it has become a moment
        return self.time_zone or default_zone(self.expression)

    def arguments(self) -> dict[str, Any]:
        """Return what `Client.schedule` and `Client.request` are given.

        Raises:
            SettingsError: a value cannot be used.
        """
        return {
            "when": self.expression,
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
        """What --start says."""
        return self._moment(self.start, "--start")

    @property
    def clocks(self) -> tzinfo:
        """Whose clocks a cron expression means."""
        return zone_of(self.zone or self.time_zone or "UTC")

    @property
    def _zone(self) -> tzinfo | None:
        return None if self.time_zone is None else zone_of(self.time_zone)

    def _moment(self, text: str | None, option: str) -> datetime | None:
        return None if text is None else moments.moment(text, self.now, option, self._zone)


def default_zone(expression: str) -> str | None:
    """Return the name of this machine's zone where an expression needs one.

    Raises:
        SettingsError: it is not known.
        RequestError: the expression cannot be read.
    """
    return local_zone() if isinstance(grammar.parse(expression), CronExpression) else None


def zone_of(name: str) -> tzinfo:
    """Return the zone that `--time-zone` names.

    Raises:
        SettingsError: there is none.
    """
    try:
        return read_zone(name)
    except RequestError as error:
        raise SettingsError(
            f"--time-zone {name!r} is not a time zone: give a name of the IANA database, such as "
            "Europe/Malta, with its capitals, or UTC"
        ) from error


def _span(text: str | None, option: str) -> str | None:
    if text is None:
        return None
    try:
        grammar.parse_span(text, option)
    except RequestError as error:
        raise SettingsError(str(error)) from error
    return text
