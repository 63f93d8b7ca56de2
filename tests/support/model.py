"""What gozo promises of schedules, as a model: what may arrive, what must, what stays stored.

Times are of the machine's wall clock, Unix epoch, seconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.support.client import Arrival


@dataclass(slots=True)
class Version:
    """What was stored under an id at one time."""

    payload: bytes
    due: float
    ended: float = math.inf
    """When another version or a cancel was acknowledged."""
    slack: float = 0.0
    """Seconds after that in which it may still fall due: who ended it did not ask the leader."""
    is_cancelled: bool = False

    def allows(self, at: float) -> bool:
        """Tell whether it may arrive at this time."""
        in_time = self.due <= at and self.due <= self.ended + self.slack
        return in_time and not (self.is_cancelled and at > self.ended)


@dataclass(slots=True)
class Model:
    """The schedules of one run, told in the order in which they were acknowledged."""

    versions: dict[str, list[Version]] = field(default_factory=dict)
    owed: set[bytes] = field(default_factory=set)
    """Payloads that gozo said were delivered, or that were due and stayed."""
    sent: Counter[bytes] = field(default_factory=Counter)
    """How often each was handed in: more than once where the first was not answered."""
    problems: list[str] = field(default_factory=list)

    def current(self, id_: str) -> Version | None:
        """Return what is stored under an id, delivered by now or not."""
        last = self.versions.get(id_, [None])[-1]
        return None if last is None or last.ended < math.inf else last

    def stored(
        self, id_: str, new: Version, at: float, *, replaced: bool | None, slack: float = 0.0
    ) -> None:
        """A version is stored; `replaced` says whether there was another, None if nobody does."""
        last = self.current(id_)
        if last is not None:
            if replaced is False:
                self.owed.add(last.payload)
            last.ended, last.slack = at, slack
        elif replaced:
            self.problems.append(f"{new.payload!r} replaced something, and nothing was there")
        self.versions.setdefault(id_, []).append(new)

    def cancelled(self, id_: str, status: str, at: float, *, again: bool) -> None:
        """A cancel was answered, be it not the first time that it was asked for."""
        last = self.current(id_)
        if status == "already_delivered":
            self._was_delivered(id_)
        elif status == "cancelled" and last is None:
            self.problems.append(f"{id_} was cancelled, and nothing was there")
        elif status == "not_found" and last is not None and not again:
            self.problems.append(f"{last.payload!r} was not found")
        if last is not None:
            last.ended, last.is_cancelled = at, status != "already_delivered"

    def rescheduled(self, id_: str, status: str, due: float, at: float, *, again: bool) -> None:
        """A change of the due time was answered."""
        last = self.current(id_)
        if last is None:
            if status == "rescheduled":
                self.problems.append(f"{id_} was put off, and nothing was there")
        elif status == "rescheduled" or again:
            # Asked again, it may have been put off the first time, and be delivered by now.
            last.ended = at
            self.versions[id_].append(Version(last.payload, due))
        if status == "already_delivered":
            self._was_delivered(id_)
            self.versions[id_][-1].ended = at
        elif status == "not_found" and last is not None:
            self.problems.append(f"{last.payload!r} was not found")

    def _was_delivered(self, id_: str) -> None:
        if id_ not in self.versions:
            self.problems.append(f"{id_} is said to be delivered, and was never stored")
        elif (last := self.current(id_)) is not None:
            self.owed.add(last.payload)

    def due_by(self, moment: float) -> set[bytes]:
        """Return what must have arrived soon after a moment, if nothing more is asked."""
        live = (self.current(id_) for id_ in self.versions)
        return {one.payload for one in live if one is not None and one.due <= moment}

    def stays(self, moment: float) -> dict[str, Version]:
        """Return what the bucket holds at a moment, once all that was due is settled."""
        live = {id_: self.current(id_) for id_ in self.versions}
        return {id_: one for id_, one in live.items() if one is not None and one.due > moment}

    def judge(self, arrivals: Iterable[Arrival], *, once: bool) -> list[str]:
        """Return what is wrong; `once`: nothing may have come twice."""
        problems = list(self.problems)
        known = [one for versions in self.versions.values() for one in versions]
        times: Counter[bytes] = Counter()
        for arrival in arrivals:
            times[arrival.data] += 1
            candidates = [one for one in known if one.payload == arrival.data]
            if not any(one.allows(arrival.at) for one in candidates):
                problems.append(f"{arrival.data!r} came at {arrival.at:.6f}, of {candidates}")
        problems += [f"{payload!r} never came" for payload in self.owed - times.keys()]
        if once:
            twice = {payload for payload, count in times.items() if count > self.sent[payload]}
            problems += [f"{payload!r} came {times[payload]} times" for payload in twice]
        return problems
