"""Calls from the store to the delivery, which is constructed after it."""

from __future__ import annotations

from collections.abc import Callable


class DeliveryHooks:
    """Constructed before the store; the delivery attaches its methods later."""

    __slots__ = ("abandon", "awaits_ack", "end_runs", "wake", "withdraw")

    wake: Callable[[], None]
    """Looks soon for due schedules: one may have become due, or its message has arrived."""
    withdraw: Callable[[str], None]
    """Returns a schedule that was taken for delivery to its source, if it was not sent yet."""
    awaits_ack: Callable[[str, int], bool]
    """Tells whether a version was sent, and is not acknowledged by a stream or begun as a run."""
    end_runs: Callable[[str, Callable[[], None]], None]
    """Stops retrying the runs of the schedule under a key, which this replica has changed or
    cancelled; the call is made once this is stored."""
    abandon: Callable[[str], None]
    """Stops retrying the runs of the schedule under a key, which another client has changed."""

    def attach(
        self,
        wake: Callable[[], None],
        withdraw: Callable[[str], None],
        awaits_ack: Callable[[str, int], bool],
        end_runs: Callable[[str, Callable[[], None]], None],
        abandon: Callable[[str], None],
    ) -> None:
        """Set the hooks; none may be called before."""
        self.wake = wake
        self.withdraw = withdraw
        self.awaits_ack = awaits_ack
        self.end_runs = end_runs
        self.abandon = abandon
