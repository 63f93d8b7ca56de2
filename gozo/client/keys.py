"""Asks the leader for its keys: `<request subject>.admin.keys`, see `gozo.requests.inventory`."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, NamedTuple

from gozo.client.arguments import moment_of_epoch
from gozo.client.models import Counts
from gozo.errors import DisconnectedError, NoServerError, NotAllowedError
from gozo.transport.connection import Connection

PROBE = 0.5  # seconds to wait: the leader may be frozen


class Page(NamedTuple):
    """A page of the leader's keys, in order."""

    created: str
    """When the leader's bucket was created, as reported by the server."""
    position: int
    """The sequence of the stream up to which the leader has read."""
    schedules: int
    """The number of all schedules, whatever their keys."""
    keys: list[tuple[str, int]]
    """Keys with their revisions."""
    more: bool
    """Whether there are further pages."""
    large: int
    """Bytes of the large payloads of these keys."""


class Keys:
    """Asks the leader of one bucket for keys.

    Methods return None if there is no leader, if it is of an earlier version or cannot answer, and
    if this user has no permission to ask: callers then read the bucket itself.
    """

    def __init__(self, connection: Connection, request_subject: str, bucket: str) -> None:
        self._connection = connection
        self._subject = f"{request_subject}.admin.keys"
        self._bucket = bucket

    async def page(self, prefix: str, after: str, limit: int) -> Page | None:
        """Return the first keys after `after` that begin with `prefix`.

        Raises:
            DisconnectedError: there is no connection.
        """
        told = await self._ask({"prefix": prefix, "after": after, "limit": limit})
        with suppress(ValueError, LookupError, TypeError, OverflowError):
            keys = [(str(key), int(revision)) for key, revision in told.get("keys", ())]
            return Page(
                str(told["created"]),
                int(told["position"]),
                int(told["schedules"]),
                keys,
                bool(told.get("more")) and bool(keys),
                int(told.get("bytes", 0)),
            )
        return None

    async def counts(self) -> tuple[str, int, Counts] | None:
        """Return `created` and `position` as in a page, and the numbers of schedules.

        Raises:
            DisconnectedError: there is no connection.
        """
        told = await self._ask({"limit": 0, "counts": True})
        with suppress(ValueError, LookupError, TypeError, OverflowError, AttributeError):
            epoch = told["next_due_epoch"]
            counts = Counts(
                schedules=int(told["schedules"]),
                overdue=int(told["overdue"]),
                paused=int(told["paused"]),
                failed=int(told["failed"]),
                invalid=int(told["invalid"]),
                failing=int(told.get("failing", 0)),
                next_due=None if epoch is None else moment_of_epoch(epoch),
                runs={str(state): int(n) for state, n in told.get("runs", {}).items() if n},
            )
            return str(told["created"]), int(told["position"]), counts
        return None

    async def _ask(self, asked: dict[str, object]) -> dict[str, Any]:
        """Return the answer of our bucket's leader; empty without one."""
        try:
            body = json.dumps(asked).encode()
            reply = await self._connection.request(self._subject, body, timeout=PROBE)
            told = json.loads(reply.payload)
        except DisconnectedError:
            raise
        except (NoServerError, NotAllowedError, ValueError):
            return {}
        return told if isinstance(told, dict) and told.get("bucket") == self._bucket else {}
