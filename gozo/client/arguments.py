"""Turns the arguments of callers into entries, with the daemon's own checks. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from gozo.client.confirming import Confirmed, ConfirmOptions, read_options
from gozo.client.models import Headers
from gozo.client.spans import MICROSECOND, Span, seconds_text, span_text
from gozo.errors import Refusal, RequestError, invalid_value
from gozo.protocol.header_names import IGNORED, KNOWN, REQUEST, nearest, shown
from gozo.protocol.headers import END, FIRST_LINE, split
from gozo.protocol.ids import read_id
from gozo.protocol.subject_policy import Policy, check_size
from gozo.schedule import expression as grammar
from gozo.schedule.model import MICROSECONDS, Entry, ScheduleSpec
from gozo.schedule.model import Misfire as MisfirePolicy
from gozo.schedule.recurrence import arranged
from gozo.schedule.spec_headers import check_recurs, read_spec
from gozo.store.entry_codec import headers_size

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

When = str | datetime | timedelta
"""A moment, a delay, or an expression of `Gozo-When`."""

Past = Literal["send", "refuse"]
"""What happens to a moment that has passed."""

Misfire = Literal["once", "all", "skip"] | MisfirePolicy
"""What happens to missed occurrences."""

DEAD_LETTER = "dead-letter subject"
"""What refusals call it."""

HeadersLike = Mapping[str, str] | Sequence[tuple[str, str]]
"""Headers of a message that are passed on."""


class ScheduleOptions(ConfirmOptions, total=False):
    """How a schedule is delivered and repeated; `Client.schedule` describes these options."""

    time_zone: str | None
    start: When | None
    until: When | None
    count: int
    jitter: Span | None
    misfire: Misfire | None
    misfire_grace: Span | None


def requested(
    policy: Policy,
    max_payload: int,
    subject: str,
    payload: bytes,
    *,
    when: When,
    id_: str | None,
    headers: HeadersLike,
    options: ScheduleOptions,
    now_us: int,
    protect: bool = False,
) -> Entry:
    """Create an entry without times from the arguments of a caller; see `made`."""
    text = expression(when)
    spec = spec_of(spec_headers(options), text, now_us)
    return made(
        policy,
        max_payload,
        subject,
        payload,
        when=text,
        id_=id_,
        headers=headers,
        confirmed=read_options(options, recurs=spec is not None and spec.recurs),
        spec=spec,
        protect=protect,
    )


def made(
    policy: Policy,
    max_payload: int,
    subject: str,
    payload: bytes,
    *,
    when: str,
    id_: str | None,
    headers: HeadersLike,
    confirmed: Confirmed,
    spec: ScheduleSpec | None = None,
    managed_by: str = "",
    protect: bool = False,
) -> Entry:
    """Check everything and create an entry without times.

    Raises:
        RequestError: the daemon would refuse it.
    """
    _utf8(subject, Refusal.FORBIDDEN_SUBJECT)
    policy.check_target(subject)
    grammar.parse(when)
    check_recurs(spec, id_)
    if id_ is not None:
        _new_id(id_)
    if protect and id_ is None:
        raise RequestError(
            Refusal.INVALID_REQUEST,
            "protect needs an id: a schedule without an id cannot be changed anyway",
        )
    if confirmed.details is not None and confirmed.details.dead_letter:
        policy.check_target(confirmed.details.dead_letter, DEAD_LETTER)
    lines = header_lines(headers)
    entry = Entry(
        id_,
        subject,
        when,
        0,
        0,
        headers=lines,
        confirm=confirmed.by_stream,
        attempts=confirmed.attempts,
        managed_by=managed_by,
        spec=spec,
        protected=protect,
        confirmation=confirmed.details,
    )
    check_size(len(payload), headers_size(entry), max_payload)
    return entry


def as_of(entry: Entry, now_us: int) -> Entry:
    """Return an entry with its times, as if requested at `now_us`.

    Raises:
        RequestError: `invalid_when`, if it is never due.
    """
    entry = entry._replace(created_us=now_us, extended=True)
    return arranged(entry, grammar.parse(entry.when), now_us)


def spec_headers(options: ScheduleOptions) -> dict[str, str]:
    """Write the options of a schedule's spec as the headers of a request.

    Raises:
        RequestError: `invalid_when`, for a moment without a time zone.
    """
    return {
        f"Gozo-{name.replace('_', '-').title()}": write(value)
        for name, write in _SPEC.items()
        if (value := options.get(name)) is not None and value != 0
    }


def spec_of(headers: Mapping[str, str], when: str, now_us: int) -> ScheduleSpec | None:
    """Read the headers of a spec as the daemon does; relative times count from `now_us`.

    Raises:
        RequestError: as for `gozo.schedule.spec_headers.read_spec`.
    """
    given = {
        name.lower().encode(): _utf8(value, Refusal.INVALID_REQUEST)
        for name, value in headers.items()
    }
    return read_spec(given, grammar.parse(when), now_us)


def canonical_id(id_: str) -> str:
    """Return a valid id.

    Raises:
        RequestError: `invalid_id`.
    """
    return read_id(id_.encode("utf-8", "surrogatepass"), "the id")


def _new_id(id_: str) -> None:
    """Refuse an id that a header cannot transport: readers strip the blanks around a value."""
    if canonical_id(id_) != id_.strip(" \t"):
        raise RequestError(
            Refusal.INVALID_ID, f"the id {id_!r} begins or ends with white space: remove it"
        )


def expression(when: When) -> str:
    """Write a moment or a delay as in `Gozo-When`; the past means now.

    Raises:
        RequestError: `invalid_when`, for a moment without a time zone.
    """
    if isinstance(when, timedelta):
        return f"+{seconds_text(when)}"
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise RequestError(
                Refusal.INVALID_WHEN,
                invalid_value(
                    "moment", when, "expected one with a time zone, such as datetime.now(UTC)"
                ),
            )
        return seconds_text(when - EPOCH)
    return when


def check_choice(past: Past) -> None:
    """Make sure that `past` is valid.

    Raises:
        RequestError: `invalid_request`.
    """
    if past not in get_args(Past):
        raise RequestError(
            Refusal.INVALID_REQUEST, invalid_value("past", past, "expected 'send' or 'refuse'")
        )


def check_past(when: When, past: Past, now_us: int) -> None:
    """With `past="refuse"`, make sure that a moment has not passed.

    Raises:
        RequestError: `invalid_when`, or `invalid_request` for another `past`.
    """
    check_choice(past)
    if past == "send":
        return
    if isinstance(when, timedelta):
        passed_us = max(-(when // MICROSECOND) - grammar.RECENT_US, 0)
    else:
        passed_us = grammar.passed_us(grammar.parse(expression(when)), now_us)
    if passed_us:
        raise RequestError(
            Refusal.INVALID_WHEN,
            f"when is {when!r}, which has passed: give a later time, or past='send' to send it "
            "at once",
        )


_SPEC: dict[str, Callable[[Any], str]] = {
    "time_zone": str,
    "start": expression,
    "until": expression,
    "count": str,
    "jitter": span_text,
    "misfire": str,
    "misfire_grace": span_text,
}
"""The options that become headers of a request, and how their values are written."""


def header_lines(headers: HeadersLike) -> bytes:
    """Turn headers into lines that are passed on.

    Raises:
        RequestError: `invalid_header`, if one would not be passed on unchanged.
    """
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    lines = b""
    for name, value in pairs:
        line = _utf8(f"{name}: {value}", Refusal.INVALID_HEADER)
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise RequestError(
                Refusal.INVALID_HEADER,
                f"the header {name!r} contains a line end or a zero byte: remove it",
            )
        own, passed = split(FIRST_LINE + line + END)
        if own:
            raise _own_header(*own)
        if not passed:
            raise RequestError(
                Refusal.INVALID_HEADER,
                f"the header {name!r} is not passed on: use a name that does not begin with Nats- "
                "(except Nats-Msg-Id)",
            )
        lines += passed
    return lines


def _own_header(lower: bytes) -> RequestError:
    """Return the refusal of a header that begins with `Gozo-`."""
    name = shown(lower)
    if lower in KNOWN:
        words = f"the header {name!r} is not passed on: {_instead(name)}"
        return RequestError(Refusal.INVALID_HEADER, words)
    near = nearest(name, REQUEST)
    advice = "use a name that does not begin with Gozo-"
    if near is not None:
        advice = f"did you mean {near}? If so, {_instead(near)}"
    return RequestError(Refusal.UNKNOWN_HEADER, f"the header {name!r} is unknown: {advice}")


def _instead(name: str) -> str:
    """Say what to give in place of one of gozo's own headers."""
    if name == "Gozo-Del-Id":
        return "cancel the schedule with that id"
    if name in IGNORED:
        return "omit it, since only gozo writes it"
    return f"use the option {name.removeprefix('Gozo-').lower()}"


def _utf8(text: str, code: Refusal) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(code, f"{text!r} cannot be encoded as UTF-8: {error.reason}") from error


def header_pairs(lines: bytes) -> Headers:
    """Turn header lines into names and values; replaces invalid UTF-8."""
    pairs = []
    for line in lines.split(END):
        name, colon, value = line.partition(b":")
        if colon:
            pairs.append((_text(name), _text(value)))
    return tuple(pairs)


def _text(value: bytes) -> str:
    return value.strip(b" \t").decode("utf-8", "replace")


def moment(us: int) -> datetime:
    """Turn microseconds since 1970 into a moment."""
    return EPOCH + timedelta(microseconds=us)


def moment_of_epoch(seconds: float) -> datetime:
    """Turn seconds since 1970, as in answers, into a moment.

    A float is too coarse for the last microseconds of the year 9999: the result stays in it.
    """
    return moment(min(round(seconds * MICROSECONDS), grammar.LAST_US))


def microseconds(moment: datetime) -> int:
    """Turn a moment into microseconds since 1970."""
    return (moment - EPOCH) // MICROSECOND
