"""Asks the leader what there is: `<request subject>.admin.keys`, see `gozo.requests.inventory`."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, NamedTuple

from gozo.client.arguments import moment_of_epoch
from gozo.client.models import Counts
from gozo.errors import DisconnectedError, NoServerError, NotAllowedError
from gozo.transport.connection import Connection

PROBE = 0.5  # seconds to wait for a leader that may be frozen


class Page(NamedTuple):
    """Some of the keys that the leader knows, in order."""

    created: str
    """When the server says that the leader's bucket was created."""
    position: int
    """The sequence of the stream up to which the leader had seen everything."""
    schedules: int
    """How many there are in all, whatever their keys."""
    keys: list[tuple[str, int]]
    """Each with its revision."""
    more: bool
    """Whether there are later ones."""
    large: int
    """Bytes of their payloads, as far as those are large."""


class Keys:
    """The leader of one bucket, as far as it is asked for keys.

    None is answered where there is no leader, where it is of an earlier version or cannot tell,
    and where this user may not ask: the bucket itself has the answer as well.
    """

    def __init__(self, connection: Connection, request_subject: str, bucket: str) -> None:
        self._connection = connection
        self._subject = f"{request_subject}.admin.keys"
        self._bucket = bucket

    async def page(self, prefix: str, after: str, limit: int) -> Page | None:
        """Return the first keys behind `after` that begin with `prefix`.

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
        """Return how many schedules there are, behind `created` and `position` as in a page.

        Raises:
            DisconnectedError: there is no connection.
        """
        told = await self._ask({"limit": 0, "counts": True})
        with suppress(ValueError, LookupError, TypeError, OverflowError):
            epoch = told["next_due_epoch"]
            counts = Counts(
                schedules=int(told["schedules"]),
                overdue=int(told["overdue"]),
                paused=int(told["paused"]),
                failed=int(told["failed"]),
                invalid=int(told["invalid"]),
                next_due=None if epoch is None else moment_of_epoch(epoch),
            )
            return str(told["created"]), int(told["position"]), counts
        return None

    async def _ask(self, asked: dict[str, object]) -> dict[str, Any]:
        """Return what the leader says of our bucket; nothing where there is no such leader."""
        try:
            body = json.dumps(asked).encode()
            reply = await self._connection.request(self._subject, body, timeout=PROBE)
            told = json.loads(reply.payload)
        except DisconnectedError:
            raise
        except (NoServerError, NotAllowedError, ValueError):
            return {}
        return told if isinstance(told, dict) and told.get("bucket") == self._bucket else {}
