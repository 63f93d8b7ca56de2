"""Refuses wrong arguments with a `TypeError` or a `ValueError` that names them. Pure.

Otherwise the error would come from deep inside, such as `object of type 'int' has no len()`, or a
timeout of 0 would look like a missing server. The type of a parameter is read from its
annotation, the range of a number from its name, so that none can be forgotten: an unknown one
fails when the module is imported.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, NamedTuple, ParamSpec, Self, TypeVar, cast

from gozo.client.arguments import ScheduleOptions
from gozo.client.models import Message, Schedule, Wanted
from gozo.schedule.model import ScheduleSpec

P = ParamSpec("P")
R = TypeVar("R")

LONGEST = 60  # characters of a value shown in messages
OPTIONAL = " | None"


class _Kind(NamedTuple):
    """The type of a parameter."""

    is_one: Callable[[Any], bool]
    wanted: str
    is_shown: bool = True


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_pairs(value: Any) -> bool:
    pairs = value.items() if isinstance(value, Mapping) else value
    if isinstance(pairs, str | bytes) or not isinstance(pairs, Collection):
        return False
    return all(
        isinstance(pair, tuple | list) and [isinstance(part, str) for part in pair] == [True, True]
        for pair in pairs
    )


def _are_texts(value: Any) -> bool:
    is_many = isinstance(value, Collection) and not isinstance(value, str | bytes)
    return is_many and all(isinstance(one, str) for one in value)


def _kind(types: Any, wanted: str) -> _Kind:
    return _Kind(lambda value: isinstance(value, types), wanted)


_HEADERS = _Kind(
    _are_pairs, "a dict of str to str, or a list of pairs such as ('Kind', 'green')", is_shown=False
)
_KINDS = {
    "str": _kind(str, "a str"),
    "bool": _kind(bool, "True or False"),
    "int": _Kind(_is_whole, "a whole number"),
    "float": _Kind(lambda value: _is_whole(value) or isinstance(value, float), "a number"),
    "bytes": _Kind(
        lambda value: isinstance(value, bytes | bytearray),
        "bytes, such as b'text' or text.encode()",
        is_shown=False,
    ),
    "When": _kind(
        (str, datetime, timedelta),
        "a datetime, a timedelta, or an expression of Gozo-When such as '+1h30m'",
    ),
    "Span": _kind((str, timedelta), "a timedelta, or a duration such as '1h30m'"),
    "Spans": _Kind(
        lambda value: all(
            isinstance(one, str | timedelta)
            for one in (value if isinstance(value, list | tuple) else (value,))
        ),
        "durations such as '1s,10s', or a list of them",
    ),
    "ConfirmedBy": _kind((bool, str), "True, False, 'stream', 'reply' or 'claim'"),
    "Overlap": _kind(str, "'allow', 'skip' or 'queue'"),
    "Misfire": _kind(str, "'once', 'all' or 'skip'"),
    "Past": _kind(str, "'send' or 'refuse'"),
    "HeadersLike": _HEADERS,
    "Headers": _Kind(
        lambda value: isinstance(value, tuple) and _are_pairs(value),
        "a tuple of pairs, such as (('Kind', 'green'),)",
        is_shown=False,
    ),
    "datetime": _Kind(
        lambda value: isinstance(value, datetime) and value.tzinfo is not None,
        "a datetime with a time zone, such as datetime.now(UTC)",
    ),
    "Collection[str]": _Kind(_are_texts, "a list or a set of str"),
    "Wanted": _kind(Wanted, "a gozo.client.Wanted"),
    "Sequence[Wanted]": _Kind(
        lambda value: isinstance(value, Sequence) and all(isinstance(one, Wanted) for one in value),
        "a list of gozo.client.Wanted",
        is_shown=False,
    ),
    "Message": _kind(Message, "a gozo.client.Message"),
    "OnMessage": _Kind(callable, "a function that takes a message"),
    "Describe": _Kind(callable, "a function without arguments"),
    "Schedule": _kind(Schedule, "a gozo.client.Schedule"),
    "ScheduleSpec": _kind(ScheduleSpec, "a gozo.schedule.model.ScheduleSpec"),
    # Checked by an attribute: their module reads files, and this one is pure.
    "ConnectionSettings | str": _Kind(
        lambda value: isinstance(value, str) or hasattr(value, "addresses"),
        "an address such as 'nats://localhost:4222', or settings",
    ),
}
"""The kinds of parameters, by annotation."""


class _Range(NamedTuple):
    """The range of a number."""

    is_in: Callable[[Any], bool]
    wanted: str


_SECONDS = _Range(lambda value: 0 < value < math.inf, "a number of seconds above 0")
_COUNT = _Range(lambda value: value >= 0, "0 or more")
_RANGES = {
    "timeout": _SECONDS,
    "wait": _SECONDS,
    "count": _COUNT,
    "max_backlog": _COUNT,
    "attempts": _Range(lambda value: True, ""),  # checked later, with a `RequestError`
}
"""The ranges of numbers, by parameter name."""


class _Parameter(NamedTuple):
    name: str
    kind: _Kind
    range: _Range | None
    may_be_none: bool

    @classmethod
    def of(cls, name: str, annotation: str) -> Self:
        """Read type and range from an annotation."""
        kind = annotation.removesuffix(OPTIONAL)
        range_ = _RANGES[name] if kind in ("int", "float") else None
        return cls(name, _KINDS[kind], range_, may_be_none=kind != annotation)

    def check(self, where: str, value: Any) -> None:
        """Refuse a value of another type, or a number out of range.

        Raises:
            TypeError: names the argument, its type and the expected type.
            ValueError: names the argument, its value and the range.
        """
        if value is None and self.may_be_none:
            return
        if self.kind.is_one(value):
            if self.range is not None and not self.range.is_in(value):
                raise ValueError(f"{where}: {self.name} is {value}: give {self.range.wanted}")
            return
        type_ = type(value).__name__
        shown = repr(value)[:LONGEST] if self.kind.is_shown else ""
        what = f"{shown} ({type_})" if shown else f"of the type {type_}"
        none = ", or None" * self.may_be_none
        raise TypeError(f"{where}: {self.name} is {what}: give {self.kind.wanted}{none}")


_WANTED = tuple(_Parameter.of(one.name, str(one.type)) for one in fields(Wanted))


_OPTIONS = [
    inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=..., annotation=annotation.__forward_arg__
    )
    for name, annotation in ScheduleOptions.__annotations__.items()
]
"""The parameters in `**options: Unpack[ScheduleOptions]`."""


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a function, with each option as a parameter."""
    found = inspect.signature(function)
    listed: list[inspect.Parameter] = []
    for one in found.parameters.values():
        listed += _OPTIONS if one.kind is one.VAR_KEYWORD else [one]
    return found.replace(parameters=listed)


class _Signature:
    """Checks the arguments of a function."""

    def __init__(self, function: Callable[..., Any], signature: inspect.Signature) -> None:
        self._where = f"{function.__name__}()"
        self._called = function.__qualname__
        self._named: dict[str, _Parameter] = {}
        self._in_order: list[_Parameter | None] = []
        """Positional parameters; None: not checked."""
        self._rest: _Parameter | None = None
        for one in signature.parameters.values():
            if one.name in ("self", "cls"):
                self._in_order.append(None)
                continue
            found = _Parameter.of(one.name, str(one.annotation))
            if one.kind is one.VAR_POSITIONAL:
                self._rest = found._replace(name=f"one of the {one.name}")
                continue
            self._named[one.name] = found
            if one.kind is not one.KEYWORD_ONLY:
                self._in_order.append(found)

    def check(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """Refuse values of a wrong type or out of range, and unknown keyword arguments.

        Surplus positional arguments are left to Python.

        Raises:
            TypeError, ValueError: as for `_Parameter.check`.
        """
        for parameter, value in zip(self._in_order, arguments, strict=False):
            self._check(parameter, value)
        for value in arguments[len(self._in_order) :]:
            self._check(self._rest, value)
        for name, value in named.items():
            if name not in self._named and name not in ("self", "cls"):
                raise TypeError(f"{self._called}() got an unexpected keyword argument {name!r}")
            self._check(self._named.get(name), value)

    def _check(self, parameter: _Parameter | None, value: Any) -> None:
        if parameter is None:
            return
        parameter.check(self._where, value)
        if parameter.name == "wanted":
            for one in (value,) if isinstance(value, Wanted) else value:
                for field in _WANTED:
                    field.check(f"{self._where}, Wanted", getattr(one, field.name))


def typed(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function or a method to check its arguments."""
    signature = _signature(function)
    check = _Signature(function, signature).check
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*arguments: Any, **named: Any) -> Any:
            check(arguments, named)
            return await cast(Any, function)(*arguments, **named)

        cast(Any, awaited).__signature__ = signature
        return cast(Callable[P, R], awaited)

    @functools.wraps(function)
    def called(*arguments: P.args, **named: P.kwargs) -> R:
        check(arguments, named)
        return function(*arguments, **named)

    cast(Any, called).__signature__ = signature
    return called
