"""The quotas of requests, and their rate. Pure: callers pass the time in."""

from __future__ import annotations

from dataclasses import dataclass

from gozo.errors import Refusal, RequestError
from gozo.schedule.model import MICROSECONDS


@dataclass(frozen=True, slots=True)
class Quotas:
    """The daemon's own limits, besides those of the protocol; None means no limit."""

    max_pending: int | None = None
    """Schedules that may be pending."""
    max_payload: int | None = None
    """Bytes of payload that a request may have."""
    max_delay_us: int | None = None
    """Microseconds from receipt of a request until it is first due, including its `Gozo-Jitter`."""
    max_rate: float | None = None
    """Requests a second."""
    min_interval_us: int = 0
    """Microseconds between two occurrences of an interval, or on one day of a cron expression."""

    def check_payload(self, size: int) -> None:
        """Refuse a payload that is too large.

        Raises:
            RequestError: `payload_too_large`.
        """
        if self.max_payload is not None and size > self.max_payload:
            raise RequestError(
                Refusal.PAYLOAD_TOO_LARGE,
                f"the payload has {size} bytes; the maximum is {self.max_payload}, the daemon's "
                "--max-payload: use a shorter one",
            )

    def check_pending(self, pending: int) -> None:
        """Refuse one more schedule if the limit is reached.

        Raises:
            RequestError: `too_many_pending`.
        """
        if self.max_pending is not None and pending >= self.max_pending:
            raise RequestError(
                Refusal.TOO_MANY_PENDING,
                f"{pending} schedules are pending; the maximum is {self.max_pending}, the daemon's "
                "--max-pending: cancel some, or send it again later",
            )

    def check_delay(self, received_us: int, due_us: int) -> None:
        """Refuse a due time that is too far ahead.

        Raises:
            RequestError: `too_far_ahead`.
        """
        if self.max_delay_us is not None and due_us - received_us > self.max_delay_us:
            raise RequestError(
                Refusal.TOO_FAR_AHEAD,
                f"it is due {(due_us - received_us) / MICROSECONDS:,.13g} s ahead; the maximum is "
                f"{self.max_delay_us / MICROSECONDS:,.13g} s, the daemon's --max-delay: "
                "give an earlier time",
            )

    def check_interval(self, us: int) -> None:
        """Refuse an interval that is too short.

        Raises:
            RequestError: `too_often`.
        """
        if us < self.min_interval_us:
            raise RequestError(
                Refusal.TOO_OFTEN,
                f"the interval is {us / MICROSECONDS:g} s; the minimum is "
                f"{self.min_interval_us / MICROSECONDS:g} s, the daemon's --min-interval: give a "
                "longer one, or have an administrator store it with 'gozoctl apply'",
            )


class Rate:
    """A limit per second, with bursts of `burst` seconds' worth, but of one at least."""

    def __init__(self, most: float | None, burst: float = 1.0) -> None:
        self._most = most
        self._burst = max((most or 0.0) * burst, 1.0)
        self._room = self._burst
        self._seen = 0.0

    def check(self, at: float) -> None:
        """Count a request, or refuse it; `at` never goes back.

        Raises:
            RequestError: `too_many_requests`; it is not counted.
        """
        if self._most is None:
            return
        self._room = min(self._burst, self._room + (at - self._seen) * self._most)
        self._seen = at
        if self._room < 1:
            raise RequestError(
                Refusal.TOO_MANY_REQUESTS,
                f"the daemon accepts {self._most:g} requests per second, its --max-rate: "
                "send it again later",
            )
        self._room -= 1
