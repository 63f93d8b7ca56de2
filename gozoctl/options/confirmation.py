"""Checks before a schedule is stored that its time is not a typing error.

The protocol accepts any time: one in the past is due at once. A person who types such a time, or
one that is decades away, has usually mistyped it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from gozo.errors import RequestError, SettingsError
from gozo.schedule import expression as grammar
from gozoctl.options import moments
from gozoctl.options.message import Message
from gozoctl.options.timing import Timing, naming
from gozoctl.output import times
from gozoctl.output.printer import Output, ask, can_ask

FAR = timedelta(days=3_652)  # ten years
LAST_LENGTH = 100_000_000
"""Epoch seconds below this, in 1973, are a length of time that lacks its `+`."""

PastOk = Annotated[
    bool,
    typer.Option("--past-ok", help="Deliver at once if the time has passed, instead of failing."),
]


@dataclass(frozen=True, slots=True)
class TimeCheck:
    """What a command may do about a time that looks mistyped."""

    past_ok: PastOk = False
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Do not ask if it is due in more than ten years."),
    ] = False

    def agree(
        self,
        out: Output,
        timing: Timing,
        word: str | None = None,
        message: Message | None = None,
    ) -> bool:
        """Check a time; False if a person answers no.

        Shows the time that a phrase stands for, and a local time that the clocks skip or repeat.
        `word` follows the options on the command line, and may be the rest of a phrase. Options of
        `message` are checked too.

        Raises:
            SettingsError: it has passed, or is far away and there is nobody to ask.
            RequestError: an option is invalid.
        """
        with naming("the time"):
            expression = timing.expression
            timing.options()  # report invalid options before the rest
            if message is not None:
                message.check(recurs=isinstance(grammar.parse(expression), grammar.Recurring))
        option, text = timing.given
        if word is not None and option in ("--at", "--in") and moments.goes_on(text, word):
            raise SettingsError(f"quote a time that has several words: {option} '{text} {word}'")
        when = grammar.parse(expression)
        if not self.past_ok:
            _refuse_past(timing, when)
        due = _first_due(timing, when)
        if moments.is_phrase(text, option) or _is_doubtful(timing, when):
            out.say(f"{text} is {_written(timing, due)}")
        if due - timing.now <= FAR or self.yes:
            return True
        if not can_ask():
            raise SettingsError(
                f"{option} {text!r} is due {_written(timing, due)}: use --yes to confirm"
            )
        return ask(f"Due {_written(timing, due)}. Continue?")


def _is_doubtful(timing: Timing, when: grammar.When) -> bool:
    """Return whether a local time was given that the clocks skip or repeat."""
    zone = timing.clocks if timing.time_zone else None
    return (
        timing.at is not None
        and isinstance(when, grammar.At)
        and moments.is_doubtful(timing.at, _moment(when.us), zone)
    )


def _refuse_past(timing: Timing, when: grammar.When) -> None:
    us = grammar.passed_us(when, _microseconds(timing.now))
    if not us:
        return
    option, text = timing.given
    assert isinstance(when, grammar.At)
    cure = "use --past-ok to deliver it at once"
    if text.isdecimal() and int(text) < LAST_LENGTH:
        cure = f"for {text} seconds from now, use --in {text}; or {cure}"
    passed = _written(timing, timing.now - timedelta(microseconds=us))
    raise SettingsError(f"{option} {text!r} has passed ({passed}): {cure}")


def _first_due(timing: Timing, when: grammar.When) -> datetime:
    """Return when it is first due; now, if no time is left (the client reports that)."""
    now_us = _microseconds(timing.now)
    if isinstance(when, grammar.Moment):
        try:
            return _moment(grammar.first_due(when, now_us))
        except RequestError as error:
            raise SettingsError(moments.in_options(str(error), timing.given[0])) from error
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
