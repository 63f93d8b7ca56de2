"""What the store asks of the delivery, which is made after it."""

from __future__ import annotations

from collections.abc import Callable


class DeliveryHooks:
    """Made before the parts of the store; the delivery attaches itself once it is made."""

    __slots__ = ("abandon", "awaits_ack", "wake", "withdraw")

    wake: Callable[[], None]
    """Looks soon for what is due: something may have become due, or its message has come."""
    withdraw: Callable[[str], None]
    """Gives back what was taken for delivery under a key, if it was not sent yet."""
    awaits_ack: Callable[[str, int], bool]
    """Tells whether a version of a key was sent, and is not settled by a stream or a run yet."""
    abandon: Callable[[str], None]
    """Tries the runs of the schedule under a key no more: it was changed or cancelled."""

    def attach(
        self,
        wake: Callable[[], None],
        withdraw: Callable[[str], None],
        awaits_ack: Callable[[str, int], bool],
        abandon: Callable[[str], None],
    ) -> None:
        """Take the hooks of the delivery; none may be called before."""
        self.wake = wake
        self.withdraw = withdraw
        self.awaits_ack = awaits_ack
        self.abandon = abandon
