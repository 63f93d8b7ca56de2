"""The outcomes and outputs of runs, read from their streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from gozo.client.outcome_model import Outcome, outcome_model
from gozo.client.past import Kept, Past, stream_info
from gozo.errors import JetStreamError, NoServerError, NotAllowedError, NotFoundError
from gozo.protocol.headers import fields
from gozo.protocol.ids import escape_id
from gozo.protocol.outcome_codec import read_outcome_json
from gozo.settings.model import ConnectionSettings
from gozo.store.outcome_streams import KeptStream, outcomes_of, output_of
from gozo.transport.connection import Connection

NOT_KEPT = "no outcomes are kept: start the daemons without --outcomes 0"


class OutcomeLog:
    """The streams of one bucket."""

    def __init__(self, connection: Connection, settings: ConnectionSettings) -> None:
        self._connection = connection
        place = settings.bucket, settings.request_subject
        self._outcomes, self._output = outcomes_of(*place), output_of(*place)

    def past(
        self, id_: str | None, since: datetime | None, *, failed: bool = False
    ) -> AsyncIterator[Outcome]:
        """Iterate over the stored outcomes of one schedule or of all, the oldest first.

        With `failed`, only those that are alerts. `NotFoundError` is raised by the first step.
        """

        async def outcomes() -> AsyncIterator[Outcome]:
            async for kept in self._messages(self._outcomes, id_, since):
                found = _read(kept.payload)
                if found is None or (id_ is not None and found.id != id_):
                    continue
                if not failed or found.is_failure:
                    yield found

        return outcomes()

    async def last(self, id_: str) -> Outcome | None:
        """Return the outcome of the schedule with an id that was stored last; None without one.

        None also if outcomes are not kept, or may not be read.
        """
        found = None
        try:
            async for one in self.past(id_, None):
                found = one
        except (NotFoundError, NotAllowedError, NoServerError, JetStreamError):
            return None
        return found

    async def output(self, id_: str, occurrence: str | None) -> bytes | None:
        """Return the output of a run, or of the last one; None if it was not kept."""
        found = await self.outputs(id_)
        if occurrence is None:
            return next(reversed(found.values()), None)
        return found.get(occurrence)

    async def outputs(self, id_: str) -> dict[str, bytes]:
        """Return the stored outputs of the runs of a schedule, the latest last, by occurrence."""
        found: dict[str, bytes] = {}
        try:
            async for kept in self._messages(self._output, id_, None):
                said = dict(fields(kept.headers))
                if said.get(b"gozo-id") != id_.strip(" \t").encode():
                    continue
                occurrence = said.get(b"gozo-occurrence", b"").decode("utf-8", "replace")
                found.pop(occurrence, None)
                found[occurrence] = kept.payload
        except NotFoundError:
            return {}
        return found

    async def _messages(
        self, stream: KeptStream, id_: str | None, since: datetime | None
    ) -> AsyncIterator[Kept]:
        info = await stream_info(self._connection, stream.name, NOT_KEPT)
        last = int(info["state"]["last_seq"])
        subjects = (f"{stream.prefix}.>",) if id_ is None else stream.subjects(escape_id(id_))
        async for kept in Past(self._connection, stream.name, subjects, since, last).messages():
            yield kept


def _read(payload: bytes) -> Outcome | None:
    """Read an outcome; None if it is not one of gozo's."""
    try:
        return outcome_model(read_outcome_json(payload))
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None
