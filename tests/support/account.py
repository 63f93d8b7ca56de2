"""What became of schedules under faults: lost, early, twice, and whether a fault explains that.

Twice is allowed after a crash, a pause of the process or a broken connection, and then only of
what was published and not settled at that moment: what was due, or first arrived, within a
second of the fault. Nothing else may come twice, nor anything in an orderly change.

Where two replicas lead at a time, since somebody deleted the lease, both take what is requested
then: that may come twice whenever it is due. So may a request without an id that the leader was
storing when it crashed or lost its connection: the next one stores it under another key.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import inf

BEFORE = 1.0  # seconds before a fault within which what was sent need not be settled yet
AFTER = 1.0  # seconds for which the leader may go on sending before it notices the fault


@dataclass(slots=True)
class Fault:
    """One fault, and what it explains."""

    what: str
    """Nothing where another one is what happened, and this is only how long it matters."""
    begin: float
    """Unix epoch, seconds, as all times here."""
    end: float
    """Until when it goes on to cause what it explains."""
    repeats: bool = True
    """Whether something may come twice because of it alone. Where not, as in an election, things
    are only settled later: a crash meanwhile repeats what was sent since it began."""
    deaf: bool = False
    """Whether requests may go unheard meanwhile, as where the leader's connection is broken."""
    again: bool = False
    """Whether it happens again and again from its beginning to its end: it explains any number of
    repeats of one message, not a single one."""
    two_lead: bool = False
    """Whether two replicas may both take what is requested meanwhile."""

    def covers(self, moment: float) -> bool:
        """Tell whether something sent at this moment may not have been settled."""
        return self.begin - BEFORE <= moment <= self.end + AFTER


class Spans:
    """Spans of time, ends included; a long run has thousands, and asks for each request."""

    def __init__(self, spans: Iterable[tuple[float, float]]) -> None:
        self._begins: list[float] = []
        self._ends: list[float] = []
        for begin, end in sorted(spans):
            if self._ends and begin <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._begins.append(begin)
                self._ends.append(end)

    def __contains__(self, moment: float) -> bool:
        place = bisect_right(self._begins, moment)
        return place > 0 and moment <= self._ends[place - 1]


class Faults:
    """The faults of a run, noted as they are caused.

    What comes later than `latest` seconds after its time is found as well: no fault is as long.
    """

    def __init__(self, *, latest: float = inf) -> None:
        self.all: list[Fault] = []
        self.latest = latest

    def note(
        self, what: str, *, repeats: bool = True, deaf: bool = False, two_lead: bool = False
    ) -> Fault:
        """Note a fault that happens at this moment; move its `end` where it lasts."""
        now = time.time()
        fault = Fault(what, now, now, repeats, deaf, two_lead=two_lead)
        self.all.append(fault)
        return fault

    @contextmanager
    def during(self, what: str, *, again: bool = False) -> Iterator[Fault]:
        """Note a fault that lasts as long as the block, or happens again and again in it."""
        fault = self.note(what)
        fault.again = again
        fault.end = inf
        try:
            yield fault
        finally:
            fault.end = time.time()

    def repeating(self) -> list[Fault]:
        """Return the faults that repeat something, beginning when things were last settled.

        That is the beginning of the first fault that still matters when it begins.
        """
        in_order = sorted(self.all, key=lambda fault: fault.begin)
        # The first fault that lasts until a moment is the first that brings the maximum up to it.
        last = list(accumulate((fault.end + AFTER for fault in in_order), max))
        return [
            replace(fault, begin=in_order[bisect_left(last, fault.begin)].begin)
            for fault in self.all
            if fault.repeats
        ]

    def deaf(self) -> Spans:
        """Return the moments at which a request that was sent may have gone unheard."""
        return Spans((one.begin - BEFORE, one.end + AFTER) for one in self.all if one.deaf)


@dataclass(frozen=True, slots=True)
class Expected:
    """A message that is to arrive."""

    due: float
    sent: float
    """When it was acknowledged, or sent where nothing is."""
    counts: bool = True
    """Whether it is known that the server had it: if not, it may be lost."""
    is_request: bool = False
    """Whether it was only sent, and may go unheard."""
    has_own_key: bool = False
    """Whether it is stored without an id, under a key that each replica chooses for itself."""

    @property
    def at(self) -> float:
        """When it can arrive at the earliest."""
        return max(self.due, self.sent)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be."""

    kind: str
    what: str
    due: float
    arrived: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """What a run of a load came to."""

    created: int
    """Schedules whose entry was acknowledged."""
    delivered: int
    """Of these, those that arrived."""
    lost: int
    twice: int
    """Arrivals beyond the first."""
    unexplained: int
    """Of these, those that no fault explains."""
    early: int
    latest: float
    """Seconds from when it was due, or acknowledged if that was later, to its first arrival."""
    unheard: int = 0
    """Requests that did not arrive, sent while the leader's connection was broken."""
    revived: int = 0
    """Those that arrived although they were cancelled."""
    findings: tuple[Finding, ...] = field(default=(), repr=False)

    @property
    def is_sound(self) -> bool:
        """Whether something was created, and nothing lost, early, revived or twice for nothing."""
        wrong = self.lost or self.early or self.unexplained or self.revived
        return self.created > 0 and not wrong

    def __str__(self) -> str:
        return (
            f"created {self.created}, delivered {self.delivered}, lost {self.lost}, "
            f"twice {self.twice} ({self.unexplained} unexplained), early {self.early}, "
            f"latest {self.latest:.3f} s"
            + (f", unheard {self.unheard}" if self.unheard else "")
            + (f", revived {self.revived}" if self.revived else "")
        )


def reckon(
    expected: Mapping[int, Expected],
    arrivals: Iterable[tuple[int, float]],
    faults: Faults,
    cancelled: Iterable[int] = (),
) -> Account:
    """Add up what became of messages that can be told apart by their numbers."""
    times: defaultdict[int, list[float]] = defaultdict(list)
    for number, at in arrivals:
        times[number].append(at)
    repeating, deaf = faults.repeating(), faults.deaf()
    findings = []
    delivered = twice = unexplained = early = unheard = 0
    latest = 0.0
    for number in sorted(times.keys() | expected.keys()):
        came = tuple(sorted(times[number]))
        one = expected.get(number)
        due = came[0] if one is None else one.due
        if one is not None and not came:
            if one.is_request and one.sent in deaf:
                unheard += one.counts
            elif one.counts:
                findings.append(Finding("lost", str(number), due))
            continue
        if one is not None:
            delivered += one.counts
            latest = max(latest, came[0] - one.at)
            if came[0] - one.at > faults.latest:
                findings.append(Finding("late", str(number), due, came))
            if early_ones := sum(at < due for at in came):
                early += early_ones
                findings.append(Finding("early", str(number), due, came))
        twice += len(came) - 1
        if left := _unexplained(came, one, repeating):
            unexplained += left
            findings.append(Finding("twice", str(number), due, came))
    revived = [number for number in cancelled if times[number]]
    findings += [Finding("revived", str(one), times[one][0], tuple(times[one])) for one in revived]
    return Account(
        created=sum(one.counts for one in expected.values()),
        delivered=delivered,
        lost=sum(finding.kind == "lost" for finding in findings),
        twice=twice,
        unexplained=unexplained,
        early=early,
        latest=latest,
        unheard=unheard,
        revived=len(revived),
        findings=tuple(findings),
    )


def _unexplained(came: Sequence[float], one: Expected | None, repeating: Sequence[Fault]) -> int:
    """Count the arrivals beyond the first of one message that no fault explains."""
    if len(came) == 1:
        return 0  # of nearly all, and a long run has hundreds of faults
    moments = (*came[:-1], *(() if one is None else (one.due, one.at)))
    explained = sum(
        len(came) if fault.again else 1
        for fault in repeating
        if any(map(fault.covers, moments)) or (one is not None and _is_taken_twice(one, fault))
    )
    return max(0, len(came) - 1 - explained)


def _is_taken_twice(one: Expected, fault: Fault) -> bool:
    """Tell whether two replicas may have taken a request."""
    both = fault.two_lead or one.has_own_key
    return one.is_request and both and fault.covers(one.sent)


def reckon_identical(
    what: str,
    expected: Sequence[Expected],
    arrivals: Iterable[float],
    faults: Faults,
) -> Account:
    """Add up what became of messages that are the same byte for byte.

    Each arrival counts as the first of them that is due and has not arrived; one that comes when
    there is no such message is one too many. One that came early is that too, and a later one lost.
    """
    waiting = deque(sorted(expected, key=lambda one: one.due))
    came = sorted(arrivals)
    extra = []
    findings = []
    latest = 0.0
    for at in came:
        if waiting and waiting[0].due <= at:
            one = waiting.popleft()
            latest = max(latest, at - one.at)
            if at - one.at > faults.latest:
                findings.append(Finding("late", f"one of {what}", one.due, (at,)))
        else:
            extra.append(at)
    counted = sum(one.counts for one in expected)
    # Which of them are missing cannot be told, but how many.
    missing = max(0, len(waiting) - (len(expected) - counted))
    unheard = 0
    if missing:
        deaf = faults.deaf()
        unheard = min(missing, sum(one.counts and one.sent in deaf for one in expected))
    lost = missing - unheard
    explained = 0
    meant = sorted(one.at for one in expected)
    for fault in faults.repeating():
        near = max(_count(times, fault) for times in (came, meant))
        near += sum(_is_taken_twice(one, fault) for one in expected)
        possible = sum(at >= fault.begin - BEFORE for at in extra)
        explained += min(near, possible)
    unexplained = max(0, len(extra) - explained)
    if lost:
        findings.append(Finding("lost", f"{lost} of {what}", waiting[0].due))
    if unexplained:
        findings.append(Finding("twice", f"{unexplained} of {what}", extra[0], tuple(extra)))
    return Account(
        created=counted,
        delivered=counted - missing,
        lost=lost,
        twice=len(extra),
        unexplained=unexplained,
        early=0,
        latest=latest,
        unheard=unheard,
        findings=tuple(findings),
    )


def _count(times: Sequence[float], fault: Fault) -> int:
    """Count the moments, in order, at which something sent may not have been settled."""
    return bisect_right(times, fault.end + AFTER) - bisect_left(times, fault.begin - BEFORE)


def total(accounts: Iterable[Account]) -> Account:
    """Add accounts up."""
    all_ = list(accounts)
    return Account(
        created=sum(one.created for one in all_),
        delivered=sum(one.delivered for one in all_),
        lost=sum(one.lost for one in all_),
        twice=sum(one.twice for one in all_),
        unexplained=sum(one.unexplained for one in all_),
        early=sum(one.early for one in all_),
        latest=max((one.latest for one in all_), default=0.0),
        unheard=sum(one.unheard for one in all_),
        revived=sum(one.revived for one in all_),
        findings=tuple(finding for one in all_ for finding in one.findings),
    )
