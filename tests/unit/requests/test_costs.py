"""What hostile requests and entries cost: no more than a few hundred plain requests each.

The tests measure the CPU time of each step that the daemon takes without yielding, with empty
caches, relative to that of a plain request on the same machine. The bound is three times what was
measured on an idle machine: it is for steps that grow out of proportion.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gozo.errors import RequestError
from gozo.protocol.deliveries import delivery
from gozo.protocol.receipts import asks_receipt
from gozo.protocol.requests import dated, parse_request
from gozo.schedule.model import MICROSECONDS, Entry, ScheduleRequest
from gozo.schedule.recurrence import (
    is_left_out,
    is_missed,
    not_before,
    onward,
    reckoned_anew,
    rescheduled,
)
from gozo.store.entry_codec import (
    EntryError,
    parse_entry,
)
from gozo.store.legacy_codec import parse_whole
from tests.support.raw import header_block

MOST = 1_000
"""A step may take as long as this many plain requests: 7 ms, if each takes 7 us."""

NOW_US = 1_795_000_000 * MICROSECONDS

ZONES = [
    *("UTC", "Europe/Malta", "Africa/Casablanca", "Africa/El_Aaiun", "Antarctica/Troll"),
    *("Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia", "America/Nuuk", "Asia/Gaza"),
]
EXPRESSIONS = [
    *("0 0 29 2 */7", "* * 29 2 mon#5", "* * * * * *", "*/10 * * * * *", "* * * 1 1 *"),
    *("0 0 */30 * mon#3", "0 0 LW */1 sat", "*/5 2 * 3 sunL", "*/5 1 */31 * */7", "* * 29 2 *"),
    *(
        "0-59 0-3 * * *",
        "30 2 * * *",
        "30 2 * * */7",
        "0 0 1 1 *",
        "0 0 31 12 */7",
        "59 59 * * * *",
    ),
    *("@every 10ms", "@every 11ms", "@every 1s", "@every 100000h", "@every 9999999999s"),
    ",".join(f"{first}-59" for first in range(40)) + " * * * *",
    ",".join(["*"] * 120) + " * * * *",
    "0 0 * * " + ",".join(f"{day}#{number}" for day in range(7) for number in range(1, 6)),
]
MOMENTS = ["0", "1", "100000000", "1000000000", "1794900000", "1794999990", "1795000100"]
SPANS = ["0", "10ms", "1s", "20s", "70s", "1h", "1d", "52w", "100000w"]
fields = st.sampled_from(["*", "?", "*/2", "*/7", "*/30", "0", "1", "2", "29", "30", "0-3", "1,2"])
expressions = st.sampled_from(EXPRESSIONS) | st.lists(fields, min_size=5, max_size=6).map(" ".join)


CACHES = [
    thing
    for name, module in list(sys.modules.items())
    if name.startswith("gozo.")
    for thing in vars(module).values()
    if hasattr(thing, "cache_clear")
]
KEPT = [ZoneInfo(name) for name in ZONES]
"""So that no zone is read twice."""


@pytest.fixture(scope="module")
def plain() -> float:
    """Seconds of CPU that a request with an id and a receipt takes."""
    block, rounds = header_block(Gozo_When="+10", Gozo_Id="a", Gozo_Receipt="a.c"), 500

    def run() -> float:
        start = time.process_time()
        for _ in range(rounds):
            parse_request(b"a.b", block, b"x", NOW_US)
        return (time.process_time() - start) / rounds

    return min(run() for _ in range(5))


def check(plain: float, name: str, step: Callable[[], Any]) -> Any:
    """Hold that a step takes no longer than it may, at least once; return what it returned."""
    took = []
    for _ in range(8):
        for cached in CACHES:
            cached.cache_clear()
        start = time.process_time()
        try:
            result = step()
        except (RequestError, EntryError):
            result = None
        took.append((time.process_time() - start) / plain)
        if took[-1] <= MOST:
            return result
    pytest.fail(f"{name} takes as long as {min(took):,.0f} plain requests")


def take(block: bytes) -> object:
    """Read a request as the intake does."""
    request = parse_request(b"a.b", block, b"x", NOW_US)
    return dated(request) if isinstance(request, ScheduleRequest) else request


STEPS: dict[str, Callable[[Entry], object]] = {
    "sending": lambda entry: delivery(entry, b"x"),
    "a look": lambda entry: (is_missed(entry, NOW_US), is_left_out(entry, NOW_US)),
    "the next after a delivery": lambda entry: onward(entry, NOW_US, sent=True),
    "the next after a miss": lambda entry: onward(entry, NOW_US, sent=False),
    "another clock": lambda entry: reckoned_anew(entry, NOW_US - 86_400 * MICROSECONDS),
    "another time": lambda entry: rescheduled(entry, entry.when, NOW_US),
    "a later time": lambda entry: not_before(entry, NOW_US),
}


def check_schedule(plain: float, when: str, zone: str, due: str | None, **spec: str) -> None:
    """Hold that a schedule costs little, as a request and as an entry, from first to last."""
    spec = {name: value for name, value in spec.items() if value}
    if zone != "UTC" and not when.startswith("@"):
        spec["Gozo_Time_Zone"] = zone
    said = {"Gozo_When": when, "Gozo_Id": "a", **spec}
    check(plain, f"the request {said}", partial(take, header_block(**said)))
    if due is not None:
        said |= {"Gozo_Due": f"{due}.000000", "Gozo_Created": f"{due}.000000"}
    block = header_block(**said, Gozo_Subject="a.b")
    entry = check(plain, f"the entry {said}", partial(parse_entry, "a", block, NOW_US, 0))
    if isinstance(entry, Entry):
        for name, step in STEPS.items():
            check(plain, f"{name} of {said}", partial(step, entry))


@settings(suppress_health_check=list(HealthCheck))
@given(
    when=expressions,
    zone=st.sampled_from(ZONES),
    due=st.none() | st.sampled_from(MOMENTS),
    misfire=st.sampled_from(["once", "all", "skip"]),
    jitter=st.sampled_from(["", *SPANS]),
    grace=st.sampled_from(["", *SPANS]),
    start=st.sampled_from(["", *MOMENTS, "250000000000", "+100000w"]),
    until=st.sampled_from(["", "253402300799", "1795000001"]),
    count=st.sampled_from(["", "999999999"]),
)
@example("0 0 29 2 */7", "Africa/Casablanca", None, "once", "", "", "", "", "")
@example("* * * 1 1 *", "UTC", "0", "all", "", "", "", "", "")
@example("*/5 2 * 3 sunL", "Europe/Malta", None, "once", "", "", "", "", "")
@example("@every 10ms", "UTC", "0", "once", "52w", "", "", "", "")
@example("* * * * * *", "Africa/Casablanca", "1", "skip", "100000w", "0", "", "", "")
def test_schedules(
    plain: float,
    when: str,
    zone: str,
    due: str | None,
    misfire: str,
    jitter: str,
    grace: str,
    start: str,
    until: str,
    count: str,
) -> None:
    """No expression, zone, delay or time that was missed makes any step long."""
    check_schedule(
        plain,
        when,
        zone,
        due,
        Gozo_Misfire=misfire,
        Gozo_Jitter=jitter,
        Gozo_Misfire_Grace=grace,
        Gozo_Start=start,
        Gozo_Until=until,
        Gozo_Count=count,
    )


BLOCKS = {
    "short lines": [b"a:b"] * 16_000,
    "no lines": [b""] * 32_000,
    "folded lines": [b"a: b", *[b" c"] * 16_000],
    "own lines": [b"gozo-%x:" % number for number in range(5_000)],
    "unknown lines": [b"gozo-time-zone-misfire-grace-%x:" % number for number in range(480)],
    "an unknown name": [b"gozo-" + b"count" * 13_000 + b":"],
    "message ids": [b"nats-msg-id:a"] * 4_000,
    "many short lines": [b"a:b"] * 480,
    "a long value": [b"a: " + b"%" * 64_000],
    "a long id": [b"Gozo-Id: " + b"a" * 64_000],
    "a long zone": [b"Gozo-Time-Zone: " + b"a/" * 32_000],
    "a megabyte": [b"a:b"] * 200_000,
    "a megabyte of one": [b"a: " + b"b" * 1_000_000],
    "a megabyte of receipts": [b"gozo-receip:b"] * 66_000,
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("when", ["+10", "* * * * *"])
def test_headers(plain: float, name: str, when: str) -> None:
    """Nor do headers, of which there are many, or large ones."""
    lines = [b"Gozo-When: " + when.encode(), *BLOCKS[name]]
    block = b"".join(line + b"\r\n" for line in [b"NATS/1.0", *lines, b""])
    check(plain, "the request", partial(take, block))
    check(plain, "its refusal", partial(asks_receipt, block))
    entry = block.replace(b"\r\n", b"\r\nGozo-Subject: a.b\r\n", 1)
    check(plain, "the entry", partial(parse_entry, "a", entry, NOW_US, 0))


@pytest.mark.parametrize(
    "value",
    [
        b"\xdd\x00\x0f\x00\x00" + b"\xc0" * 0xF0000,
        b"\xdf\x00\x07\x00\x00" + b"\x01\xc0" * 0x70000,
        b"\x81\x01\xdd\x00\x0f\x00\x00" + b"\xc0" * 0xF0000,
        b"\x91" * 1_000_000,
    ],
    ids=["an array", "a map", "an array in a map", "arrays in arrays"],
)
def test_values(plain: float, value: bytes) -> None:
    """Nor do values without headers, of which the original gozo's are read."""
    check(plain, "the value", partial(parse_whole, "a", None, value, NOW_US))
