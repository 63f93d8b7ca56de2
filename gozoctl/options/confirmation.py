"""What is made sure of before a schedule is sent: that its time is the one that was meant.

The protocol takes any time: what lies in the past is sent at once. A person who types such a
time, or one that is decades away, has most often mistyped it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from gozo.errors import RequestError, SettingsError
from gozo.schedule import expression as grammar
from gozoctl.options import moments
from gozoctl.options.timing import Timing, naming
from gozoctl.output import times
from gozoctl.output.printer import Output, ask, can_ask

FAR = timedelta(days=3_652)  # ten years
LAST_LENGTH = 100_000_000
"""Epoch seconds below this, in 1973, are a length of time that lacks its `+`."""

PastOk = Annotated[
    bool,
    typer.Option("--past-ok", help="Send at once if the time has passed, instead of refusing."),
]
FarOk = Annotated[
    bool,
    typer.Option(
        "--yes", "-y", help="Do not ask for confirmation if it is due in more than ten years."
    ),
]


def agree(
    out: Output, timing: Timing, *, past_ok: bool, yes: bool, word: str | None = None
) -> bool:
    """Make sure that a time is meant; False where a person says no.

    Shows what a phrase stands for, and a time that clocks leave out or show twice. `word`
    follows the options on the command line, and may be the rest of one.

    Raises:
        SettingsError: it has passed, or is far away and there is nobody to ask.
    """
    with naming("the time"):
        timing.arguments()  # whatever is wrong with these is said first
    option, text = timing.given
    if word is not None and option in ("--at", "--in") and moments.goes_on(text, word):
        raise SettingsError(f"put quotes around a time of several words: {option} '{text} {word}'")
    when = grammar.parse(timing.expression)
    _refuse_past(timing, when, past_ok=past_ok)
    due = _first_due(timing, when)
    if moments.is_phrase(text, option) or _is_doubtful(timing, when):
        out.say(f"{text} is {_written(timing, due)}")
    if due - timing.now <= FAR or yes:
        return True
    if not can_ask():
        raise SettingsError(
            f"{option} {text!r} is due {_written(timing, due)}: give --yes if that is meant"
        )
    return ask(f"It is due {_written(timing, due)}. Go on?")


def _is_doubtful(timing: Timing, when: grammar.When) -> bool:
    """Tell whether a local time was given that clocks leave out, or show twice."""
    zone = timing.clocks if timing.time_zone else None
    return (
        timing.at is not None
        and isinstance(when, grammar.At)
        and moments.is_doubtful(timing.at, _moment(when.us), zone)
    )


def _refuse_past(timing: Timing, when: grammar.When, *, past_ok: bool) -> None:
    us = grammar.passed_us(when, _microseconds(timing.now))
    if past_ok or not us:
        return
    option, text = timing.given
    assert isinstance(when, grammar.At)
    cure = "give --past-ok to have it sent at once"
    if text.isdecimal() and int(text) < LAST_LENGTH:
        cure = f"for {text} seconds from now, give --in {text}; or {cure}"
    passed = _written(timing, timing.now - timedelta(microseconds=us))
    raise SettingsError(f"{option} {text!r} has passed ({passed}): {cure}")


def _first_due(timing: Timing, when: grammar.When) -> datetime:
    """Return when it is due for the first time; now, where that is left to be found out."""
    now_us = _microseconds(timing.now)
    if isinstance(when, grammar.Moment):
        try:
            return _moment(grammar.first_due(when, now_us))
        except RequestError as error:
            option, text = timing.given
            raise SettingsError(moments.told(error, option, text)) from error
    start_us = now_us if timing.first is None else max(now_us, _microseconds(timing.first) - 1)
    if timing.first is not None and isinstance(when, grammar.Every):
        return max(timing.first, timing.now)
    due_us = grammar.next_due(when, start_us, start_us, timing.clocks)
    return timing.now if due_us is None else _moment(due_us)


def _written(timing: Timing, moment: datetime) -> str:
    shown = times.local(moment, with_zone=True, zone=timing.clocks if timing.time_zone else None)
    return f"{shown}, {times.left(moment, timing.now)}"


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _moment(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
