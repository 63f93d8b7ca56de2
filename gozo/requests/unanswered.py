"""Requests that wait for a receipt: each is answered in time. Pure.

A write without an answer may have been applied, or may still be: it is retried until reading the
key shows which. Until then, the receipt can only say that the result is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

RECEIPT_TIME = 4.5
"""Seconds after which a request is answered even if its result is not known: five are promised,
and this is checked periodically."""
LEAST_TIME = 1.0  # minimum seconds, also for a request that had to wait before it was processed


class Unanswered(NamedTuple):
    """A request without its receipt."""

    until: float
    receipt: str
    """The subject of the receipt."""
    id: str | None
    verb: str
    """What may have happened, as in `it is not known whether it was stored`."""


class Waiting:
    """The unanswered requests, in the order in which they are processed."""

    def __init__(self) -> None:
        self._waiting: dict[int, Unanswered] = {}
        self._count = 0

    def add(self, receipt: str, id_: str | None, verb: str, *, age: float, now: float) -> int:
        """Note a request received `age` seconds before `now`; return its number."""
        self._count += 1
        until = now + max(RECEIPT_TIME - age, LEAST_TIME)
        self._waiting[self._count] = Unanswered(until, receipt, id_, verb)
        return self._count

    def until(self, number: int) -> float:
        """Return by when a request is answered."""
        return self._waiting[number].until

    def settle(self, number: int) -> bool:
        """Note that the result is known; False if the request was already answered."""
        return self._waiting.pop(number, None) is not None

    def late(self, now: float) -> Iterator[Unanswered]:
        """Remove and return the requests that must be answered by `now`."""
        while self._waiting:
            number, first = next(iter(self._waiting.items()))
            if first.until > now:
                break
            del self._waiting[number]
            yield first
