"""Actions of a replica that gains, renews, loses or leaves the lead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gozo.daemon.prefetch import Prefetch
from gozo.daemon.skipping import Skipping
from gozo.daemon.step_down import StepDown
from gozo.delivery.dispatcher import Delivery
from gozo.leadership.lookout import Lookout
from gozo.leadership.serving import Course
from gozo.leadership.tenure import Role, Tenure
from gozo.monitoring.health import BucketHealth
from gozo.requests.intake import Intake
from gozo.requests.inventory import Inventory
from gozo.runtime.clock import steady
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.logs import get_logger
from gozo.runtime.tasks import done, end
from gozo.store.barrier import Barrier
from gozo.store.fence import Fence
from gozo.store.follower import Follower
from gozo.store.index import BucketIndex
from gozo.telemetry.events import EventSink

log = get_logger("gozo.daemon")


class Fitness:
    """Judges whether one replica could lead, and whether others should take the lease first."""

    def __init__(
        self,
        tenure: Tenure,
        clock: ClockWatch,
        index: BucketIndex,
        follower: Follower,
        course: Course,
    ) -> None:
        self._tenure = tenure
        self._clock = clock
        self._index = index
        self._follower = follower
        self._course = course

    @property
    def is_unknown(self) -> bool:
        """Whether the clock was just set; requests are kept until it has been compared."""
        return self._clock.was_set

    @property
    def may_return(self) -> bool:
        """Whether this replica, despite its wrong clock, may lead again if no other does."""
        return self._clock.waits

    def allows(self) -> bool:
        """Tell whether this replica could lead; False while that `is_unknown`."""
        clock_serves = self._clock.may_lead(held=self._tenure.another_holds)
        if self.is_unknown:
            return False
        fit = clock_serves and self._has_read()
        self._tenure.judge_fit(fit=fit)
        return fit

    def _has_read(self) -> bool:
        if self._index.traits.newer:
            log.repeated("error", "bucket.newer_format", entries=len(self._index.traits.newer))
            return False
        return self._follower.loaded.is_set()

    def is_ailing(self) -> bool:
        """Tell whether this replica has not served for a while, although others might."""
        return self._course.is_ailing(steady())


class CatchingUp:
    """Lets a new leader read all writes of earlier leaders, and fences off a former one."""

    def __init__(self, tenure: Tenure, barrier: Barrier, follower: Follower, fence: Fence) -> None:
        self._tenure = tenure
        self._barrier = barrier
        self._follower = follower
        self._fence = fence
        self._seen = 0
        """The last revision that was read while the lease was valid."""

    async def run(self) -> None:
        """Read everything that earlier leaders wrote."""
        self._fence.take_down()
        while sequence := await self._barrier.written():
            if await self._follower.reached(sequence):
                await self._follower.agreed()
                return
        await self._follower.reloaded(f"cannot write the barrier: {self._barrier.problem}")

    def fence(self) -> None:
        """Allow changes only of revisions read under a valid lease: later ones may be another's."""
        self._fence.put_up(self._seen)

    @property
    def is_current(self) -> bool:
        """Whether this replica has held a valid lease since it caught up."""
        return self._tenure.is_valid and not self._fence.is_up

    def note_seen(self) -> None:
        """Note the last revision read; to be called while `is_current`."""
        self._seen = max(self._follower.position, self._fence.forget_own())


class Leadership:
    """The candidate for the lease: see `gozo.leadership.lease.Candidate`."""

    def __init__(
        self,
        tenure: Tenure,
        clock: ClockWatch,
        fitness: Fitness,
        catching_up: CatchingUp,
        step_down: StepDown,
        skipping: Skipping,
        prefetch: Prefetch,
        delivery: Delivery,
        intake: Intake,
        inventory: Inventory,
        lookout: Lookout,
        health: BucketHealth,
        events: EventSink,
        fail: Callable[[BaseException], None],
    ) -> None:
        """`fail` ends the daemon with an error."""
        self._tenure = tenure
        self._clock = clock
        self._fitness = fitness
        self._catching_up = catching_up
        self._step_down = step_down
        self._skipping = skipping
        self._prefetch = prefetch
        self._delivery = delivery
        self._intake = intake
        self._inventory = inventory
        self._lookout = lookout
        self._health = health
        self._events = events
        self._fail = fail
        self._taking: asyncio.Task[None] | None = None
        self._is_retired = False

    # The candidate

    def may_lead(self) -> bool:
        """Tell whether this replica could lead; if so, start to receive requests."""
        fit = self._fitness.allows()
        if fit:
            self._intake.stand_by()
        elif not (
            self._fitness.is_unknown or self._fitness.may_return or self._step_down.is_running
        ):
            self._intake.leave()
        return fit

    def defers(self) -> bool:
        """Tell whether other replicas should take the lease first."""
        return self._fitness.is_ailing()

    def on_gained(self) -> None:
        """Receive requests as the leader, and begin to process them."""
        self._intake.lead()
        self._lookout.look_soon()
        self._taking = asyncio.create_task(self._take(), name="taking the lead")
        self._taking.add_done_callback(self._on_taken)

    def on_renewed(self) -> None:
        """Resume work that waited for the lease."""
        self._delivery.wake_soon()
        self._intake.wake()

    def on_lost(self) -> None:
        """Stop at once and hand everything over: another replica leads, or may."""
        self._clock.lease_lost()
        self._tenure.deactivate()
        self._inventory.close()
        if self._taking is not None:
            self._taking.cancel()
        self._delivery.stop()
        self._intake.lose()
        self._catching_up.fence()
        self._prefetch.clear()
        self._step_down.begin()

    # Taking the lead

    async def _take(self) -> None:
        """Read all writes of earlier leaders, then deliver and process requests."""
        # If this replica led before, it is handing over to the next leader: itself.
        await self._step_down.end()
        await self._catching_up.run()
        await self._intake.catch_up()
        if self._tenure.role is not Role.LEADER:
            return
        await self._skipping.run()
        self._tenure.activate()
        self._inventory.open()
        self._prefetch.begin()
        await self._intake.act()
        if self._is_retired:
            return
        self._delivery.start()
        log.info("daemon.leading", pending=self._health.pending)
        self._events.leads()

    def _on_taken(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    async def taken(self) -> None:
        """Wait until the lead is taken, if that is under way."""
        if self._taking is not None:
            await done(self._taking)

    # Leaving the lead

    def retire(self) -> None:
        """Start no more deliveries: the daemon is shutting down."""
        self._is_retired = True

    async def end_taking(self) -> None:
        """Stop taking the lead."""
        await end(self._taking)

    async def stop(self) -> None:
        """Process no more requests, but keep receiving them: another replica is about to lead."""
        await self.end_taking()
        self._tenure.deactivate()
        self._inventory.close()
        self._intake.keep()
