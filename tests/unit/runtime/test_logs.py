"""Logs: one event is one line, nothing in it forges another, and floods are held back."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.runtime import logs

LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|error) "
    r'[a-z_.]+( [a-z_]+=("([^"\\]|\\.)*"|[^\s"=\\]+))*'
)


class Colour(StrEnum):
    """Something with names of its own."""

    GREEN = "green"


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """Let logs go into a buffer, at level info; all is as before afterwards."""
    root, gozo = logging.getLogger(), logging.getLogger("gozo")
    before = (root.level, gozo.level, list(root.handlers))
    buffer = io.StringIO()
    logs.configure("info", buffer)
    yield buffer
    root.setLevel(before[0])
    gozo.setLevel(before[1])
    root.handlers[:] = before[2]


def test_an_event_is_a_line_with_time_level_name_and_fields(output: io.StringIO) -> None:
    """The form that the documentation shows and other programs read."""
    logs.get_logger("gozo.delivery").info("schedule.delivered", id="tea", late_ms=0.4)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info schedule\.delivered id=tea late_ms=0\.4\n",
        output.getvalue(),
    )


def test_the_time_is_that_of_the_event_in_utc() -> None:
    """Whatever the zone of the host."""
    record = logging.LogRecord("gozo.x", logging.INFO, "", 0, "x.y", None, None)
    record.created = 1_763_890_293.1234
    assert logs.EventFormatter().format(record).startswith("2025-11-23T09:31:33.123Z info ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain-1.2:3/x", "plain-1.2:3/x"),
        ("zürich", "zürich"),
        ("", '""'),
        ("two words", '"two words"'),
        ('say "x"', r'"say \"x\""'),
        ("a=b", '"a=b"'),
        ("back\\slash", r'"back\\slash"'),
        ("line\nbreak\x1b[31m", r'"line\nbreak\u001b[31m"'),
        ("\x7f\x9b\u202e\ud800", r'"\u007f\u009b\u202e\ud800"'),
        (b"caf\xc3\xa9\xff", r'"café\\xff"'),
        (0.4, "0.4"),
        (0.1234567, "0.123"),
        (-0.0001, "0"),
        (3.0, "3"),
        (1763871234.5, "1763871234.5"),
        (1e300, "1e+300"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (10**20, "100000000000000000000"),
        (True, "yes"),
        (False, "no"),
        (None, "none"),
        (Colour.GREEN, "green"),
        (Path("/a/b"), "/a/b"),
        (["a", 1], "a,1"),
        ((), '""'),
        (ValueError("bad thing"), '"bad thing"'),
        (ValueError(), "ValueError"),
    ],
)
def test_values_are_written_short_and_safely(value: object, text: str) -> None:
    """Quoted and escaped as in JSON where they would not be one printable word."""
    assert logs.rendered(value) == text


@given(st.text(st.characters()))
def test_any_text_comes_back_from_its_line(text: str) -> None:
    """A value is one printable piece of a line, and a program can read it back."""
    value = logs.rendered(text)
    assert value.isprintable()
    if value.startswith('"'):
        assert json.loads(value) == text
    else:
        assert value == text
        assert not re.search(r'[\s"=]', value)


@given(st.lists(st.text()))
def test_no_value_makes_a_second_line(values: list[str]) -> None:
    """What strangers write cannot forge an event, nor reach a terminal as it is."""
    record = logging.LogRecord("gozo.x", logging.INFO, "", 0, "x.y", None, None)
    fields = dict(zip("abcdefgh", values, strict=False))
    record.__dict__["gozo_fields"] = fields
    line = logs.EventFormatter().format(record)
    assert line.isprintable()
    assert LINE.fullmatch(line)


def test_a_traceback_follows_its_event_and_cannot_be_taken_for_one(output: io.StringIO) -> None:
    """Each of its lines begins with two spaces and a bar."""
    forged = "x\n2026-11-23T09:31:33.123Z error forged \x1b[31m"
    try:
        int(forged)
    except ValueError as error:
        logs.get_logger("gozo.x").exception("process.failed", error=error)
    first, *rest = output.getvalue().splitlines()
    assert LINE.fullmatch(first)
    assert "Traceback" in rest[0]
    assert all(line.startswith("  | ") and line.isprintable() for line in rest)


def test_libraries_are_heard_from_warnings_on(output: io.StringIO) -> None:
    """Their lines have the same form; their debugging output, which has payloads, is left out."""
    logs.configure("debug", output)
    logging.getLogger("nats.aio").info("payload %s", "x")
    logging.getLogger("asyncio").warning("slow %s\n", "callback")
    [line] = output.getvalue().splitlines()
    assert line.endswith(r' warning asyncio message="slow callback\n"')


def test_the_level_holds_and_can_be_set_again(output: io.StringIO) -> None:
    """What is below it is not written; a second call does not write each line twice."""
    log = logs.get_logger("gozo.x")
    log.debug("a.b")
    logs.configure("error", output)
    log.warning("a.c")
    log.error("a.d")
    logs.configure("debug", output)
    log.debug("a.e")
    events = [line.split()[2] for line in output.getvalue().splitlines()]
    assert events == ["a.d", "a.e"]


def test_fields_may_be_called_anything(output: io.StringIO) -> None:
    """Also like the parameters of the logger's own functions."""
    log = logs.get_logger("gozo.x")
    log.info("a.b", event="e", level="l", name="n", self="s", args="r", message="m")
    log.limited("info", "a.b", event="e", level="l", self="s")
    assert "event=e level=l name=n self=s args=r message=m" in output.getvalue()


class TestRateLimit:
    """`RateLimitedLog`."""

    def test_the_first_few_of_an_interval_pass_and_the_rest_is_counted(
        self, output: io.StringIO
    ) -> None:
        """The count comes with the next event that passes, once."""
        now = 0.0
        limited = logs.RateLimitedLog(
            logs.get_logger("gozo.x"), per_interval=2, interval=1.0, clock=lambda: now
        )
        for now in (0.0, 0.1, 0.2, 0.9, 1.0, 1.1):
            limited.log(logging.WARNING, "a.b", at=now)
        fields = [line.partition("a.b ")[2] for line in output.getvalue().splitlines()]
        assert fields == ["at=0", "at=0.1", "at=1 suppressed=2", "at=1.1"]

    def test_the_last_count_is_told_at_the_end(self, output: io.StringIO) -> None:
        """`flush` tells what no later event could."""
        limited = logs.RateLimitedLog(logs.get_logger("gozo.x"), per_interval=1, clock=lambda: 0.0)
        for _ in range(4):
            limited.log(logging.WARNING, "a.b")
        limited.flush("a.b")
        limited.flush("a.b")
        assert [line.split()[3:] for line in output.getvalue().splitlines()] == [
            [],
            ["suppressed=3"],
        ]

    def test_what_is_below_the_level_is_not_counted(self, output: io.StringIO) -> None:
        """Nobody wanted to see it."""
        limited = logs.RateLimitedLog(logs.get_logger("gozo.x"), per_interval=1, clock=lambda: 0.0)
        for _ in range(3):
            limited.log(logging.DEBUG, "a.b")
        limited.log(logging.INFO, "a.c")
        limited.flush("a.b")
        [line] = output.getvalue().splitlines()
        assert line.endswith("a.c")

    def test_each_event_of_a_logger_has_a_rate_of_its_own(self, output: io.StringIO) -> None:
        """A flood of one kind does not hide another."""
        log = logs.get_logger("gozo.x")
        for _ in range(1000):
            log.limited("warning", "a.b")
        log.limited("error", "a.c")
        *flood, last = [line.split()[1:3] for line in output.getvalue().splitlines()]
        assert last == ["error", "a.c"]
        assert 5 <= len(flood) < 1000


class TestRepeated:
    """`RepeatedLog`."""

    def test_what_lasts_is_told_once_and_again_each_minute(self, output: io.StringIO) -> None:
        """A reader sees that it began, and that it still lasts."""
        now = 0.0
        repeated = logs.RepeatedLog(logs.get_logger("gozo.x"), clock=lambda: now)
        for second in range(130):
            now = float(second)
            repeated.log(logging.WARNING, "a.b", at=second)
        fields = [line.partition("a.b ")[2] for line in output.getvalue().splitlines()]
        assert fields == ["at=0", "at=60 suppressed=59", "at=120 suppressed=59"]

    def test_what_ended_and_came_again_is_new(self, output: io.StringIO) -> None:
        """After a silence it is told at once."""
        now = 0.0
        repeated = logs.RepeatedLog(logs.get_logger("gozo.x"), clock=lambda: now)
        for now in (0.0, 5.0, 20.0, 21.0):
            repeated.log(logging.WARNING, "a.b", at=now)
        fields = [line.partition("a.b ")[2] for line in output.getvalue().splitlines()]
        assert fields == ["at=0", "at=20 suppressed=1"]

    def test_each_reason_is_told(self, output: io.StringIO) -> None:
        """Another reason is news, whatever the other fields; the first one does not come again."""
        log = logs.get_logger("gozo.x")
        for number in range(10):
            log.repeated("warning", "a.b", reason="one", number=number)
            log.repeated("warning", "a.b", reason="two")
        fields = [line.partition("a.b ")[2] for line in output.getvalue().splitlines()]
        assert fields == ["reason=one number=0", "reason=two"]


def test_json() -> None:
    """Kinds stay what they are, what JSON has no word for is null, and nothing forges a line."""
    record = logging.LogRecord("gozo.x", logging.ERROR, "", 0, "x.y", None, None)
    record.created = 1_763_890_293.1234
    odd = {"id": 'a"\n\x1b', "n": 3, "late": 0.5, "nan": float("nan"), "no": None, "yes": True}
    setattr(record, logs._FIELDS, odd | {"raw": b"\xff", "reason": ValueError("why")})
    line = logs.EventFormatter("json").format(record)
    assert line.isprintable()
    assert json.loads(line) == {
        "time": "2025-11-23T09:31:33.123Z",
        "level": "error",
        "event": "x.y",
        **(odd | {"nan": None}),
        "raw": "\\xff",
        "reason": "why",
    }


def test_a_traceback_in_the_journal_and_in_json() -> None:
    """Each of its lines has the priority; in JSON it is a field."""
    with pytest.raises(ValueError, match="why") as caught:
        int("why")
    error = (caught.type, caught.value, caught.tb)
    record = logging.LogRecord("gozo.x", logging.ERROR, "", 0, "x", None, error)
    lines = logs.EventFormatter(to_journal=True).format(record).splitlines()
    assert len(lines) > 2
    assert all(line.startswith("<3>") for line in lines)
    trace = json.loads(logs.EventFormatter("json").format(record))["trace"]
    assert trace.endswith("invalid literal for int() with base 10: 'why'")


@pytest.mark.parametrize("form", logs.FORMATS)
@pytest.mark.parametrize("journal", [False, True])
def test_several_at_once(output: io.StringIO, form: str, journal: bool) -> None:
    """Each value has the line that it would have by itself."""
    handler = next(
        one
        for one in logging.getLogger().handlers
        if isinstance(one.formatter, logs.EventFormatter)
    )
    handler.setFormatter(logs.EventFormatter(form, to_journal=journal))
    log = logs.get_logger("gozo.exec")
    values = [b"plain", b"", b'two "words"', b"\x1b[1m\xff", "\u2028"]
    log.each("info", "command.output", "line", values, id="a b")
    at_once = output.getvalue()
    output.truncate(0)
    output.seek(0)
    for value in values:
        log.info("command.output", id="a b", line=value)
    one_by_one = output.getvalue()
    time = re.compile(r"\d{4}-\S+Z")
    assert time.sub("TIME", at_once) == time.sub("TIME", one_by_one)
    assert at_once.count("\n") == len(values)


def test_none_at_once(output: io.StringIO) -> None:
    """Nothing is written for no values, nor below the level."""
    logs.get_logger("gozo.exec").each("info", "command.output", "line", [])
    logs.get_logger("gozo.exec").each("debug", "command.output", "line", ["a"])
    assert output.getvalue() == ""
