"""How an occurrence that its receiver has to confirm ended. Pure.

Times are whole microseconds since the Unix epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """How an occurrence ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Given up: the receiver said that it failed, or the message could not be sent."""
    UNANSWERED = "unanswered"
    """Given up: the receiver of the last attempt gave no answer."""
    NOBODY = "nobody"
    """Given up: nobody subscribed to the subject."""
    SKIPPED = "skipped"
    """Not sent, because an earlier occurrence was not settled."""
    MISSED = "missed"
    """Not sent, because it was too late."""


ALERTING = frozenset(Result) - {Result.SUCCEEDED, Result.SKIPPED}
"""The results that people should hear of."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a receiver says about its work."""

    exit_status: int | None = None
    host: str = ""
    started_us: int = 0
    """When it began, in microseconds since 1970; 0: not said."""
    duration_us: int | None = None
    """How long it took."""
    output: bytes = b""
    """The end of its output."""
    invalid: int = 0
    """How many of its headers were ignored, because their values are invalid."""


NO_WORK = Work()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one occurrence of a schedule ended, or an extra run of it."""

    id: str | None
    key: str
    """The key of the schedule, which may be gone."""
    subject: str
    occurrence: str
    """The name of the occurrence, unique among those of schedules under this key."""
    result: Result
    due_us: int
    ended_us: int
    started_us: int = 0
    """When the last attempt was sent, was claimed, or began, as its receiver says; 0: never."""
    attempt: int = 0
    """The number of the last attempt; 0: there was none."""
    reason: str = ""
    """Why it did not succeed."""
    host: str = ""
    """The host of the receiver, if it was named."""
    exit_status: int | None = None
    duration_us: int | None = None
    """How long the work took, as the receiver says."""
    late: bool = False
    """Whether it succeeded after another attempt had begun, or after it was given up."""

    @property
    def took_us(self) -> int | None:
        """How long the last attempt took; None without one."""
        if self.duration_us is not None or not self.started_us:
            return self.duration_us
        return max(self.ended_us - self.started_us, 0)


@dataclass(frozen=True, slots=True)
class Record:
    """How the occurrences of a schedule ended so far, as its entry says."""

    last: Outcome | None = None
    """The one that ended last; without a reason."""
    awaited_us: int = 0
    """When the first occurrence since the last success was due; 0: none was."""
    overdue: bool = False
    """Whether it was announced that this one did not succeed in time; see `Gozo-Expect`."""
    succeeded_us: int = 0
    """When the last success ended, if that is not `last`; 0: there was none."""

    @property
    def last_success_us(self) -> int:
        """When the last success ended; 0: there was none."""
        is_last = self.last is not None and self.last.result is Result.SUCCEEDED
        return self.last.ended_us if is_last and self.last is not None else self.succeeded_us
