"""Whether this host's wall clock can be trusted, and what time it is while it cannot.

When the clock is set, its distance from the monotonic clock changes; that is noticed before
the new time is used. If the clock is then more than `WRONG_US` off the server's as last compared,
it is in doubt: time continues from the old setting, and nothing is delivered. The next comparison
with the server either resolves the doubt, because the server's clock was set as well, or confirms
that this clock is wrong. Then a replica whose clock is right takes over; if none takes the lease
within `ALONE_US`, this one follows its own clock after all.

If the server's clock is set and this host's is not, this host's is not in doubt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

from gozo.errors import GozoError
from gozo.runtime.clock import steady_ns
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS

WARN_US = MICROSECONDS // 2
WRONG_US = 2 * MICROSECONDS
"""How far the clock of a leader may differ from the server's."""
STEP_US = MICROSECONDS // 2  # a larger change means that the clock was set
ALONE_US = 10 * MICROSECONDS
"""How long a leader that gave way because of its clock leaves the lease to others."""
RETRY_WAIT = 0.25  # seconds
CURE = "set the clock of this host, or that of the server"

log = get_logger("gozo.clock")


class ClockWatch:
    """This host's wall clock, as far as it can be trusted. All times are microseconds."""

    def __init__(
        self,
        on_doubt: Callable[[], None],
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        steady_ns: Callable[[], int] = steady_ns,
    ) -> None:
        """`on_doubt` is called when the clocks should be compared at once.

        The clocks return nanoseconds, as the built-in functions do: those are faster, and one is
        called for each request.
        """
        self._on_doubt = on_doubt
        self.on_set: list[Callable[[int], None]] = []
        """Called with the step of the clock when a new setting is followed."""
        self._wall_ns = wall_ns
        self._steady_ns = steady_ns
        self._offset_us = self._compared_us = self._server_us = self._measure_us()
        """Three clocks, relative to the steady one: the one that is followed, this host's as last
        compared, and the server's."""
        self._is_compared = False
        self._own_us: int | None = None
        """A wrong setting of the clock that is followed all the same; None: no such setting."""
        self._gave_way_us: int | None = None
        """When this leader gave way because of its clock, on the steady clock; None: it did not."""
        self.in_doubt = False
        """Whether the clock was set and is not followed, as last checked."""

    def now_us(self) -> int:
        """Check the clock, and return the time; if it is in doubt, by its old setting."""
        # The steady clock first: a pause between the two makes a request late rather than early.
        steady_us, wall_us = self._steady_ns() // 1_000, self._wall_ns() // 1_000
        offset_us = wall_us - steady_us
        if abs(offset_us - self._server_us) > WRONG_US and (
            self._own_us is None or abs(offset_us - self._own_us) > WRONG_US
        ):
            self._doubt(offset_us)
            return steady_us + self._offset_us
        by_us = offset_us - self._offset_us
        self._offset_us = offset_us
        if self.in_doubt or abs(by_us) > STEP_US:
            self._trust(by_us)
        return wall_us

    def reading_us(self) -> int:
        """The time by the clock as last checked: cheap enough for each request."""
        return self._steady_ns() // 1_000 + self._offset_us

    def server_us(self) -> int:
        """The time by the server's clock."""
        return self._steady_ns() // 1_000 + self._server_us

    @property
    def ahead_us(self) -> int:
        """How far this host's clock is ahead of the server's."""
        return self._measure_us() - self._server_us

    @property
    def is_right(self) -> bool:
        """Whether the clock is close enough to the server's for a replica to lead."""
        return abs(self.ahead_us) <= WRONG_US

    @property
    def was_set(self) -> bool:
        """Whether the clock was set since the last comparison; the next one follows soon."""
        return abs(self._measure_us() - self._compared_us) > STEP_US

    def compared(self, server_us: int, error_us: int) -> None:
        """Record the server's clock, relative to the steady one, and how far off that may be."""
        if error_us > STEP_US and self._is_compared:
            return  # the answer was too slow, or is from before the clock was set
        self.now_us()
        self._is_compared = True
        self._server_us = server_us
        self._compared_us = self._measure_us()
        if abs(self._compared_us - server_us) <= WRONG_US:
            self._own_us = self._gave_way_us = None
        elif not self.in_doubt:
            self._own_us = self._compared_us
        self.now_us()

    # Leading

    @property
    def is_wrong(self) -> bool:
        """Whether it is in doubt, and a comparison with the server has confirmed the doubt."""
        self.now_us()
        return self.in_doubt and not self.was_set

    def lease_lost(self) -> None:
        """Note that the lease was lost; a wrong clock leaves it to other replicas for a while."""
        if not self.is_right:
            self._gave_way_us = self._steady_ns() // 1_000

    @property
    def waits(self) -> bool:
        """Whether this replica will lead again with a wrong clock if no other takes the lease."""
        return self._gave_way_us is not None

    def may_lead(self, *, held: bool) -> bool:
        """Tell whether a replica with this clock may take the lease; `held`: another has it."""
        self.now_us()
        if held:
            self._gave_way_us = None
        if self.is_right or self.was_set or self._gave_way_us is None:
            return self.is_right and not self.was_set
        if self._steady_ns() // 1_000 < self._gave_way_us + ALONE_US:
            return False
        self._own_us = self._compared_us
        self.now_us()
        return not self.in_doubt

    def _measure_us(self) -> int:
        """How far the wall clock is ahead of the steady one."""
        return (self._wall_ns() - self._steady_ns()) // 1_000

    def _doubt(self, offset_us: int) -> None:
        if not self.in_doubt:
            self.in_doubt = True
            log.warning("clock.set", by_s=(offset_us - self._offset_us) / MICROSECONDS)
        if abs(offset_us - self._compared_us) > STEP_US:
            self._on_doubt()

    def _trust(self, by_us: int) -> None:
        was_in_doubt, self.in_doubt = self.in_doubt, False
        if was_in_doubt:
            say = log.info if self.is_right else log.warning
            say("clock.trusted", ahead_s=self.ahead_us / MICROSECONDS)
        if abs(by_us) > STEP_US:
            log.info("clock.followed", by_s=by_us / MICROSECONDS)
            for call in self.on_set:
                call(by_us)


class ClockKeeper:
    """Resolves doubts about the clock."""

    def __init__(
        self,
        watch: ClockWatch,
        doubted: asyncio.Event,
        *,
        compare: Callable[[], Awaitable[None]],
        leads: Callable[[], bool],
        leave: Callable[[str], Awaitable[None]],
    ) -> None:
        """`doubted` is set when the clocks should be compared; `leave` gives the lease up."""
        self._watch = watch
        self._doubted = doubted
        self._compare = compare
        self._leads = leads
        self._leave = leave

    async def run(self) -> NoReturn:
        """Compare the clock whenever it is in doubt; runs until it is cancelled."""
        while True:
            await self._doubted.wait()
            self._doubted.clear()
            try:
                await self._compare()
            except GozoError as error:
                log.repeated("info", "clock.waiting", reason=str(error))
                await asyncio.sleep(RETRY_WAIT)  # the next check sets `doubted` again if need be
                continue
            if self._watch.is_wrong and self._leads():
                ahead_s = self._watch.ahead_us / MICROSECONDS
                log.error("clock.wrong", ahead_s=ahead_s, hint=CURE)
                side = "ahead of" if ahead_s > 0 else "behind"
                await self._leave(f"the clock was set {abs(ahead_s):.1f} s {side} the server's")
