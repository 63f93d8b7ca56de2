"""Each wrong argument of the client is named, with what to give."""

from __future__ import annotations

import asyncio
import inspect
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gozo.client import Client, ScheduleOptions, Wanted, next_times, times_of
from gozo.client.arguments import check_past
from gozo.errors import RequestError
from tests.support.readme import ROOT

NOBODY: Any = object.__new__(Client)  # arguments are checked before anything else is done
NEVER = object()
UNCHECKED = {"close", "server", "has_leader", "bucket", "watch", "count"}
"""Methods that take nothing."""


def functions() -> Iterator[Callable[..., Any]]:
    """Return all that a program can call."""
    for name, one in inspect.getmembers(Client):
        if not name.startswith("_") and name not in UNCHECKED:
            yield one
    yield from (times_of, next_times)


CASES = [
    (one, parameter)
    for one in functions()
    for parameter in inspect.signature(one).parameters.values()
    if parameter.name != "self"
]


def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call a method of a client that is connected to nothing, and await what it returns."""
    is_bound = "self" not in inspect.signature(function).parameters
    result = function(*(() if is_bound else (NOBODY,)), *arguments, **named)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


@pytest.mark.parametrize(
    ("function", "parameter"), CASES, ids=[f"{one.__name__}-{named.name}" for one, named in CASES]
)
def test_each_argument(function: Callable[..., Any], parameter: inspect.Parameter) -> None:
    """Given by name, or by its place among the ids."""
    arguments: list[object]
    named: dict[str, object]
    if parameter.kind is parameter.VAR_POSITIONAL:
        arguments, named = [["a", "b"]], {}
    else:
        arguments, named = [], {parameter.name: NEVER}
    with pytest.raises(TypeError, match=rf"^{function.__name__}\(\): .*{parameter.name}.*: give "):
        call(function, *arguments, **named)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"when": 5}, "when is 5 (int): give a datetime, a timedelta, or an expression"),
        ({"when": date(2030, 1, 1)}, "when is datetime.date(2030, 1, 1) (date): give a datetime"),
        ({"payload": "tea"}, "payload is of the type str: give bytes, such as b'text'"),
        ({"count": True}, "count is True (bool): give a whole number"),
        ({"timeout": "5"}, "timeout is '5' (str): give a number"),
        ({"headers": "Kind: green"}, "headers is of the type str: give a dict of str to str"),
        ({"headers": {"Kind": 1}}, "headers is of the type dict: give a dict of str to str"),
        ({"headers": [("a", "b", "c")]}, "headers is of the type list"),
        ({"jitter": 3}, "jitter is 3 (int): give a timedelta, or a duration"),
        ({"confirm": 1}, "confirm is 1 (int): give True, False, 'stream', 'reply' or 'claim'"),
        ({"backoff": 5}, "backoff is 5 (int): give durations such as '1s,10s', or a list of them"),
        ({"backoff": ["1s", 5]}, "backoff is ['1s', 5] (list): give durations such as '1s,10s'"),
        ({"overlap": 1}, "overlap is 1 (int): give 'allow', 'skip' or 'queue', or None"),
        ({"misfire": 1}, "misfire is 1 (int): give 'once', 'all' or 'skip', or None"),
        ({"id": b"tea"}, "id is b'tea' (bytes): give a str, or None"),
    ],
)
def test_sentences(named: dict[str, Any], said: str) -> None:
    """What was given, its type, and what to give; of a payload or headers only the type."""
    with pytest.raises(TypeError) as caught:
        call(Client.schedule, **({"subject": "kitchen", "when": "+1h"} | named))
    assert said in str(caught.value)


NUMBERS = [
    (one, parameter.name)
    for one, parameter in CASES
    if str(parameter.annotation).removesuffix(" | None") in ("int", "float")
    and parameter.name != "attempts"  # what is wrong with it is a `RequestError`
]


@pytest.mark.parametrize(
    ("function", "name"), NUMBERS, ids=[f"{one.__name__}-{name}" for one, name in NUMBERS]
)
def test_numbers(function: Callable[..., Any], name: str) -> None:
    """A length of time is above nothing and has an end; a count is not below nothing."""
    is_time = name in ("timeout", "wait")
    wanted = "a number of seconds above 0" if is_time else "0 or more"
    for value in (-1, *((0, 0.0, -0.5, math.nan, math.inf) if is_time else ())):
        with pytest.raises(
            ValueError, match=rf"^{function.__name__}\(\): {name} is .*: give {wanted}"
        ):
            call(function, **{name: value})


def test_numbers_that_are_meant() -> None:
    """None stands for no bound where that is the default, and nothing for no end."""
    with pytest.raises(AttributeError):  # it is connected to nothing
        call(Client.listen, "a", count=0, max_backlog=None)


def test_by_position() -> None:
    """As well as by name; what is too much is left to Python."""
    with pytest.raises(TypeError, match=r"schedule\(\): payload is of the type str"):
        call(Client.schedule, "kitchen", "tea", when="+1h")
    with pytest.raises(TypeError, match="positional argument"):
        call(Client.schedule, "kitchen", b"tea", "+1h", when="+1h")


def test_unknown_arguments() -> None:
    """A misspelt option is refused, as Python does."""
    for name in ("schedule", "request", "cancel"):
        with pytest.raises(TypeError, match=rf"^Client\.{name}\(\) got an unexpected .*'coumt'"):
            call(getattr(Client, name), coumt=3)


def test_options() -> None:
    """`schedule` and `request` take the same options, each by its name."""
    for method in (Client.schedule, Client.request):
        parameters = inspect.signature(method).parameters
        assert ScheduleOptions.__annotations__.keys() <= parameters.keys()
        assert not any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def test_what_is_wanted() -> None:
    """The fields of what is to be applied are arguments too."""
    wrong: Any = 5
    with pytest.raises(TypeError, match=r"apply\(\), Wanted: when is 5 \(int\): give a str"):
        call(Client.apply, [Wanted("tea", "kitchen", wrong)])
    as_dict: Any = {"Kind": "green"}
    as_list: Any = [("Kind", "green")]
    for headers in (as_dict, as_list):  # which no stored ones are equal to
        with pytest.raises(TypeError, match=r"Wanted: headers is of the type .*give a tuple of"):
            call(Client.apply, [Wanted("tea", "kitchen", "+1h", headers=headers)])
    with pytest.raises(TypeError, match=r"apply\(\): prune is 'cron' \(str\): give a list"):
        call(Client.apply, [], prune="cron")


def test_they_stay_what_they_are() -> None:
    """Coroutine functions are still known as such, by mocks for example; signatures too."""
    assert inspect.iscoroutinefunction(Client.schedule)
    assert not inspect.iscoroutinefunction(Client.list)
    assert "misfire" in inspect.signature(Client.schedule).parameters


NOW = datetime(2026, 12, 9, 15, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000


@pytest.mark.parametrize("when", ["60", "2020-01-01T00:00:00Z", NOW - timedelta(seconds=11)])
def test_past(when: str | datetime) -> None:
    """A moment that has passed is refused where that is asked for."""
    check_past(when, "send", NOW_US)
    with pytest.raises(RequestError, match="has passed: give a later time, or past='send'"):
        check_past(when, "refuse", NOW_US)


def test_past_delay() -> None:
    """A delay below nothing is a moment that has passed."""
    with pytest.raises(RequestError, match="has passed"):
        check_past(timedelta(hours=-1), "refuse", NOW_US)


@pytest.mark.parametrize("when", ["+0", "@daily", "@every 5m", NOW - timedelta(seconds=9), NOW])
def test_not_past(when: str | datetime) -> None:
    """What recurs or is to come is not, nor what a program has just read from the clock."""
    check_past(when, "refuse", NOW_US)


def test_past_mistyped() -> None:
    """Another word is refused, and not taken for one of the two."""
    other: Any = "refuze"
    with pytest.raises(RequestError, match="invalid past 'refuze': expected 'send' or 'refuse'"):
        call(Client.apply, [], past=other)
    with pytest.raises(RequestError, match="invalid past 'refuze': expected 'send' or 'refuse'"):
        check_past("60", other, NOW_US)


TYPOS = """
from gozo.client import Client

async def typos(client: Client) -> None:
    await client.schedule("a", b"", when="+1h", id="a", misfire="skip", past="refuse")
    await client.schedule("a", b"", when="+1h", id="a", misfire="skpi")
    await client.schedule("a", b"", when="+1h", id="a", past="refuze")
    await client.request("a", b"", when="+1h", id="a", misfire="al")
    await client.reschedule("a", "+1h", past="never")
    await client.schedule("a", "text", when=5)
"""


def test_mypy_sees_a_typo(tmp_path: Path) -> None:
    """Words of which there are few are literals, and the methods keep their types."""
    (tmp_path / "typos.py").write_text(TYPOS)
    done = subprocess.run(
        [Path(sys.executable).with_name("mypy"), "--strict", tmp_path / "typos.py"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    lines = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}
    assert lines == {6, 7, 8, 9, 10}, done.stdout
