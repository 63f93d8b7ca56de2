"""What `Gozo-Overlap` promises, as a model: which runs of a schedule may be at work together.

Whoever uses it tells what was asked for, what arrived and what the receiver answered, in order.
Times are in seconds, on any clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

ALONE = frozenset({"skip", "queue"})
"""The modes in which no run may begin beside another one."""

SETTLED = frozenset({"done", "terminated"})
"""The answers after which a run is not tried again."""


@dataclass(slots=True)
class Version:
    """What was stored under an id at one time."""

    number: int
    mode: str
    """As in `Gozo-Overlap`; "" without that header; "plain" if no receiver confirms it."""
    max_age: float
    """Seconds; infinite if none is given."""
    replaced: bool = False
    """Whether a request for another version, or a cancel, was answered."""


@dataclass(slots=True)
class Seen:
    """A run that has arrived at its receiver."""

    version: Version
    due: float
    number: int
    """Which occurrence it is; see `number_of`."""
    attempt: int
    began: float
    """When it first arrived."""
    signed: float
    """When its receiver last gave a sign of life, or received an attempt."""
    answer: str = ""
    """The final answer to the latest attempt: done, failed or terminated."""
    said: float = math.inf
    """When that was given."""
    is_changed: bool = False
    """Whether a change of its schedule was asked for after it had begun."""
    is_abandoned: bool = False
    """Whether it may have been abandoned by a change."""
    is_left: bool = False
    """Whether that change was answered, so that it must not be retried."""


@dataclass(slots=True)
class Course:
    """Everything that is known of one id."""

    versions: list[Version] = field(default_factory=list)
    runs: dict[tuple[int, int], Seen] = field(default_factory=dict)
    """By the numbers of version and occurrence."""
    changed: float = 0.0
    """When the last change was requested that postpones what was due before."""
    settled: float = math.inf
    """When that was answered; infinite until then."""
    is_stopped: bool = False
    """Whether a pause or cancel was answered."""
    skipped: set[float] = field(default_factory=set)
    """The due times of occurrences that were reported as skipped."""
    is_forced: bool = False
    """Whether a run was triggered by force, which may begin beside others."""
    unbroken: float = 0.0
    """From when on every occurrence is accounted for; see `Overlaps.account`."""


def number_of(occurrence: int, due: float) -> int:
    """Return a run's number within its version; negative for runs that are no occurrence."""
    return occurrence or -round(due * 1000)


class Overlaps:
    """The runs of some schedules, as their receivers see them."""

    def __init__(self, ack_wait: float, attempts: int, grace: float, longest_wait: float) -> None:
        """All but `attempts` are seconds.

        `grace` is how long what was sent before a change was answered may take to arrive,
        `longest_wait` the longest that a run that failed may wait before the next attempt.
        """
        self._ack_wait = ack_wait
        self._attempts = attempts
        self._grace = grace
        self._longest_wait = longest_wait
        self._courses: dict[str, Course] = {}
        self.problems: list[str] = []

    def course(self, id_: str) -> Course:
        """Return what is known of an id."""
        return self._courses.setdefault(id_, Course())

    # What is asked for

    def asks(self, id_: str, now: float) -> None:
        """Note a request, perhaps a repeated one, that abandons the runs of a schedule."""
        course = self.course(id_)
        course.changed, course.settled, course.is_stopped = now, math.inf, False
        course.unbroken = math.inf
        for run in course.runs.values():
            run.is_changed = run.is_abandoned = True

    def stores(self, id_: str, version: int, mode: str, max_age: float = math.inf) -> None:
        """Note a request for a new version."""
        self.course(id_).versions.append(Version(version, mode, max_age))

    def answered(self, id_: str, verb: str, now: float) -> None:
        """What was asked for last is answered.

        It is store, pause, resume, put off, hurry (to be due now), or cancel.
        """
        course = self.course(id_)
        course.settled = now
        course.is_stopped = verb in ("pause", "cancel")
        older = course.versions if verb == "cancel" else course.versions[:-1]
        if verb in ("store", "cancel"):
            for version in older:
                version.replaced = True
        if verb == "resume":
            course.changed = 0.0  # what it missed is due now
        for run in course.runs.values():
            run.is_left = run.is_changed
            run.is_abandoned = True  # what came meanwhile may be
        course.unbroken = now

    def breaks(self) -> None:
        """Note the beginning of a fault: events may be lost."""
        for course in self._courses.values():
            course.unbroken = math.inf

    def mends(self, now: float) -> None:
        """Note its end."""
        for course in self._courses.values():
            course.unbroken = max(course.changed, now) if course.settled <= now else math.inf

    # What the receiver sees and says

    def arrives(
        self, id_: str, version: int, due: float, number: int, attempt: int, now: float
    ) -> None:
        """Note the arrival of an attempt."""
        course = self.course(id_)
        known = course.runs.get((version, number))
        name = f"{id_} v{version} #{number} due {due:.3f} attempt {attempt} at {now:.3f}"
        is_late = now > course.settled + self._grace
        stored = next(one for one in course.versions if one.number == version)
        is_triggered = number < 0
        if is_late and (stored.replaced or (course.is_stopped and not is_triggered)):
            self._wrong(f"{name} came after it was paused, cancelled or replaced")
        if is_late and due < course.changed - self._grace:
            self._wrong(f"{name} was due before the change at {course.changed:.3f}")
        if now > due + stored.max_age + self._grace:
            self._wrong(f"{name} was older than {stored.max_age} s")
        if known is None:
            if not (is_triggered and course.is_forced):
                self._begins(course, stored, name, now)
            run = Seen(stored, due, number, attempt, now, now)
            run.is_abandoned = now <= course.settled + self._grace
            course.runs[version, number] = run
            return
        if known.is_left and is_late:
            self._wrong(f"{name} was tried again after a change")
        self._tries_again(known, name, attempt, now)
        known.attempt, known.signed = attempt, now
        if known.answer not in SETTLED:
            known.answer = ""

    def _tries_again(self, run: Seen, name: str, attempt: int, now: float) -> None:
        if attempt <= run.attempt:
            self._wrong(f"{name} came twice")
        if attempt > self._attempts:
            self._wrong(f"{name} is more than {self._attempts} attempts")
        if run.answer in SETTLED and now > run.said + self._grace:
            self._wrong(f"{name} was {run.answer} before")
        if not run.answer and now < run.signed + self._ack_wait - self._grace:
            self._wrong(f"{name}, and the one before gave a sign of life at {run.signed:.3f}")

    def _begins(self, course: Course, version: Version, name: str, now: float) -> None:
        if version.mode not in ALONE:
            return
        for other in course.runs.values():
            if not self.may_be_over(other, now):
                self._wrong(f"{name} began while {other} was not settled")

    def may_be_over(self, run: Seen, now: float) -> bool:
        """Tell whether a run may be settled, as far as its receiver knows."""
        if run.answer in SETTLED:
            return True
        is_silent = now >= run.signed + self._ack_wait
        has_failed = run.answer == "failed" or is_silent
        is_last = run.is_abandoned or run.attempt >= self._attempts
        is_too_late = now + self._longest_wait > run.due + run.version.max_age
        return has_failed and (is_last or is_too_late)

    def says(self, run: Seen, answer: str, now: float) -> None:
        """Note an answer of the receiver: done, failed, terminated or alive."""
        if answer != "alive":
            run.answer, run.said = answer, now
        elif now < run.signed + self._ack_wait - self._grace:
            run.signed = now  # else it may be tried again already

    def skips(self, id_: str, due: float) -> None:
        """Note an event about a skipped occurrence."""
        self.course(id_).skipped.add(due)

    # What must hold in the end

    def account(self, id_: str, interval: float) -> list[float]:
        """Return the due times of which nothing was heard, or that were left out for no reason.

        It must be one with `Gozo-Misfire: all`.
        """
        course = self.course(id_)
        if not course.versions or course.unbroken == math.inf:
            return []
        current = course.versions[-1]
        if current.mode not in ALONE or current.max_age < math.inf:
            return []
        runs = [run for run in course.runs.values() if run.version is current]
        arrived = {run.due for run in runs if run.number > 0}
        known = sorted(due for due in arrived | course.skipped if due > course.unbroken + interval)
        gaps = [
            one + step * interval
            for one, other in pairwise(known)
            for step in range(1, round((other - one) / interval))
        ]
        if current.mode == "skip":
            return gaps
        last = max(arrived, default=0.0)
        if gaps and gaps[-1] > last:
            gaps.pop()  # that one waits
        # Where one is left out, an earlier one must wait meanwhile.
        left_out = [due for due in known if due < last and due not in arrived]
        waited = [(run.due, run.began) for run in runs]
        return gaps + [at for at in left_out if not any(due < at <= began for due, began in waited)]

    def is_live(self, id_: str) -> bool:
        """Tell whether a schedule has to continue."""
        course = self.course(id_)
        return bool(course.versions) and not course.is_stopped and not course.versions[-1].replaced

    def _wrong(self, words: str) -> None:
        self.problems.append(words)
