"""The reading methods of the client: schedules, their history, the daemons and the bucket."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta

from gozo.client.arguments import canonical_id
from gozo.client.client_base import ClientBase
from gozo.client.failures import Failing
from gozo.client.models import (
    BucketInfo,
    Counts,
    Event,
    HistoryInfo,
    Replica,
    Rival,
    Schedule,
)
from gozo.client.outcome_model import Outcome
from gozo.client.services import WorkerInfo, find_workers
from gozo.client.typed import typed
from gozo.transport.jetstream import JetStream

BUCKETS = ("KV_", "OBJ_")
"""How the names of streams of key/value buckets and object stores begin."""

LEFT_BY_RUN = ("delivered", "failed", "missed")
"""How schedules that may have had runs left the bucket."""

TOLERANCE = timedelta(seconds=5)
"""How much the clocks of the leader and of the server may differ."""

KEPT = timedelta(minutes=10)
"""How long daemons know how a schedule left the bucket."""


class ClientReads(ClientBase):
    """Reads and changes nothing."""

    @typed
    async def get(self, id: str) -> Schedule | None:  # noqa: A002  # the protocol's word
        """Read one schedule, with its payload; None if there is no such schedule.

        For its runs, see `current_runs`.

        Raises:
            RequestError: `invalid_id`.
        """
        return await self._reader.get(canonical_id(id))

    @typed
    async def last_outcome(self, id: str) -> Outcome | None:  # noqa: A002  # the protocol's word
        """Return how the schedule with this id left the bucket, as long as that is known.

        Its delete marker says so for some seconds, and the leader for ten minutes if it followed
        the bucket at the time. If its receiver has to confirm it, this is how its last run ended,
        which is known as long as outcomes are kept. None also while there is a schedule with this
        id, or a run of it that is not settled.

        Raises:
            RequestError: `invalid_id`.
        """
        id_ = canonical_id(id)
        if await self._reader.exists(id_):
            return None
        outcome = await self._reader.last_outcome(id_)
        if outcome is None and (reason := await self._daemons.outcome(id_)) is not None:
            outcome = Outcome("" if reason == "removed" else reason, None)
        if outcome is not None and outcome.reason not in LEFT_BY_RUN:
            return outcome
        return _later(outcome, await self._outcomes.last(id_))

    @typed
    def outcomes(
        self,
        id: str | None = None,  # noqa: A002  # the protocol's word
        *,
        since: datetime | None = None,
        failed: bool = False,
    ) -> AsyncIterator[Outcome]:
        """Iterate over the outcomes of one schedule, or of all, the oldest first.

        Includes outcomes stored from `since` on, by the server's clock. With `failed`, only those
        that neither succeeded nor were skipped. Ends with the last outcome that was stored when
        the iteration began. An outcome may come twice, if the leader crashed.

        Raises:
            RequestError: `invalid_id`.
            NotFoundError: outcomes are not kept (`gozo serve --outcomes 0`).
        """
        return self._outcomes.past(None if id is None else canonical_id(id), since, failed=failed)

    @typed
    async def output(
        self,
        id: str,  # noqa: A002  # the protocol's word
        occurrence: str | None = None,
    ) -> bytes | None:
        """Return the end of the output of a run, or of the last one that has output.

        `occurrence` is that of an `Outcome`. None if there is no output: it is kept only for
        schedules with `keep_output`, and for their last ten runs.

        Raises:
            RequestError: `invalid_id`.
        """
        return await self._outcomes.output(canonical_id(id), occurrence)

    @typed
    async def outputs(self, id: str) -> dict[str, bytes]:  # noqa: A002  # the protocol's word
        """Return the ends of the outputs of a schedule's runs, by occurrence; the latest last.

        See `output`.

        Raises:
            RequestError: `invalid_id`.
        """
        return await self._outcomes.outputs(canonical_id(id))

    @typed
    def list(
        self, *, subject: str | None = None, prefix: str = "", state: str | None = None
    ) -> AsyncIterator[Schedule]:
        """Iterate over all schedules and runs, without payloads, in no particular order.

        `subject` selects those sent to it; `*` and `>` are wildcards, as in NATS. `prefix`
        selects those whose id begins with it, and `state` those in a state, such as `running`.
        Never creates the bucket: without one, there are no schedules. Schedules stored or
        removed meanwhile may or may not be listed.

        A schedule and its runs have the same id: see `Schedule.is_run`.

        Raises:
            RequestError: `invalid_request`, if `subject` or `state` is invalid.
        """
        return self._reader.list(subject, prefix, state)

    @typed
    async def current_runs(
        self,
        id: str | None = None,  # noqa: A002  # the protocol's word
    ) -> builtins.list[Schedule]:
        """Read the runs in the bucket of one schedule, or of all; with payloads, the oldest first.

        They wait, are running or retried, or have failed and are kept. The schedule itself may be
        gone: a schedule that does not recur is removed once its run has begun.

        Raises:
            RequestError: `invalid_id`.
        """
        return await self._reader.runs(None if id is None else canonical_id(id))

    async def failing(self) -> builtins.list[Failing]:
        """Return the schedules that fail, by id; needs no daemon, but reads all schedules.

        Of these the last run neither succeeded nor was skipped, or none has succeeded within the
        time of `Gozo-Expect`, or the delivery that a stream had to confirm was given up.
        """
        return await self._reader.failing()

    async def count(self) -> Counts:
        """Count the schedules in the bucket; 0 if there is no bucket.

        Asks the leader, which knows the counts; without a leader, reads all schedules.
        """
        return await self._reader.count()

    @typed
    def history(
        self,
        id: str | None = None,  # noqa: A002  # the protocol's word
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        kinds: Collection[str] = (),
        subject: str | None = None,
    ) -> AsyncIterator[Event]:
        """Iterate over the stored events of one schedule, or of all, the oldest first.

        Includes events stored from `since` on and before `until`, by the server's clock. `kinds`
        are kinds of events, such as `failed`. `subject` selects the events of schedules sent to
        it, of the kinds that name one; `*` and `>` are wildcards, as in NATS. Ends with the last
        event that was stored when the iteration began.

        Raises:
            RequestError: `invalid_id`, or `invalid_request` if no event could match.
            NotFoundError: no daemon keeps a history (`gozo serve --history 30d`).
        """
        canonical = None if id is None else canonical_id(id)
        return self._events.past(canonical, since, until, kinds, subject)

    async def history_info(self) -> HistoryInfo | None:
        """Describe the stream that keeps events; None if no daemon keeps a history."""
        return await self._events.info()

    @typed
    async def replicas(self, *, wait: float = 0.3) -> builtins.list[Replica]:
        """List the daemons of this bucket and request subject; waits `wait` seconds for answers."""
        return await self._presence.replicas(wait)

    @typed
    async def workers(self, *, wait: float = 0.3) -> builtins.list[WorkerInfo]:
        """List the `gozoctl worker` of this bucket and request subject, by host.

        Waits `wait` seconds for answers.
        """
        return await find_workers(self._connection, self.settings, wait)

    @typed
    async def rivals(self, *, wait: float = 0.3) -> builtins.list[Rival]:
        """Return the leaders on the request subject if there are several, with different buckets.

        Each of them stores and delivers every request. Normally the list is empty.
        """
        return await self._presence.rivals(wait)

    async def has_leader(self) -> bool:
        """Return whether a daemon accepts requests at this moment."""
        return await self._presence.lead()

    async def bucket(self) -> BucketInfo | None:
        """Describe the bucket; None if it does not exist."""
        return await self._reader.info()

    async def streams(self) -> builtins.list[str]:
        """Return the names of streams that are not buckets, in order; of 1,024 streams at most."""
        answer = await JetStream(self._connection).call("STREAM.NAMES")
        names = answer.get("streams") or ()
        return sorted(name for name in names if not name.startswith(BUCKETS))


def _later(left: Outcome | None, ended: Outcome | None) -> Outcome | None:
    """Return how the last run ended, unless a schedule without runs left the bucket after it."""
    if left is None or ended is None or ended.at is None:
        return ended or left
    left_at = datetime.now(UTC) - KEPT if left.at is None else left.at
    return ended if ended.at >= left_at - TOLERANCE else left
