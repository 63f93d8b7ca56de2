"""Offers to receivers that claim: repeated on the steady clock until one of them asks.

The timetable goes by the wall clock. So when that is set, all offers are looked at again: none is
repeated early or kept back by as much as the clock was moved.
"""

from __future__ import annotations

from gozo.runtime.clock import steady
from gozo.schedule.model import MICROSECONDS
from gozo.schedule.retry import spread_us
from gozo.schedule.timetable import Item, Timetable

OFFER_AGAIN_US = 2 * MICROSECONDS
"""Microseconds after which an offer that nobody has claimed is repeated, at least."""


class RunOffers:
    """The offers of this leader that nobody has claimed."""

    def __init__(self, timetable: Timetable) -> None:
        self._timetable = timetable
        self._made: dict[str, tuple[str, float]] = {}
        """The token of the offer of each run, and when it is repeated, on the steady clock."""

    def clear(self) -> None:
        """Forget all offers."""
        self._made.clear()

    def note(self, key: str, token: str) -> None:
        """Note that the offer of a run was made, or repeated."""
        wait_us = spread_us(key, OFFER_AGAIN_US)
        self._made[key] = token, steady() + wait_us / MICROSECONDS

    def end(self, key: str) -> None:
        """Stop repeating an offer."""
        self._made.pop(key, None)

    def token(self, key: str) -> str | None:
        """Return the token of the offer of a run, if one was made."""
        made = self._made.get(key)
        return None if made is None else made[0]

    def wait_us(self, key: str) -> int:
        """Return in how many microseconds an offer is to be repeated, which may have passed."""
        made = self._made.get(key)
        return OFFER_AGAIN_US if made is None else round((made[1] - steady()) * MICROSECONDS)

    def look_again(self, now_us: int) -> None:
        """Let all offers be due now, as the wall clock was set."""
        for key in self._made:
            item = Item(now_us, self._timetable.revision(key), key)
            self._timetable.take(item)
            self._timetable.give_back(item)
