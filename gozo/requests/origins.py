"""Names requests whose receivers have to confirm, alike on all replicas.

A leader that dies may have stored a request and not have reported it, so the next leader has it
too. By its name, that one stores it under the same key, or finds the run that was begun.

The name has the leader, the leader's position of the request, and its digest. The next leader knows
the positions of the leaders before it if it received what they did (see
`gozo.leadership.offsets`). Where it does not, such a request may have two runs.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import NamedTuple

from gozo.leadership.handled_feed import FeedWriter
from gozo.protocol.heard import Heard
from gozo.protocol.ids import escape_id
from gozo.requests.standby import Standby
from gozo.schedule.model import ScheduleRequest
from gozo.store.entry_codec import reserved_key
from gozo.store.run_codec import ORIGIN, occurrence_of, run_key

NAME = 11  # bytes; a reserved key has as many
_POSITION = 8


class Named(NamedTuple):
    """A request that has its name."""

    request: ScheduleRequest
    key: str
    """Where it is stored."""
    is_begun: bool = False
    """Whether an earlier leader has begun its run, so that it must not be stored again."""


class Origins:
    """Finds the names of requests."""

    def __init__(self, writer: FeedWriter, standby: Standby, knows: Callable[[str], bool]) -> None:
        """`knows` tells whether there is, or was not long ago, an entry under a key."""
        self._writer = writer
        self._standby = standby
        self._knows = knows

    def name(self, request: ScheduleRequest, heard: Heard) -> Named:
        """Return a request with its name."""
        for name in self._names(heard):
            named = _named(request, name)
            entry, key = named.request.entry, named.key
            if self._knows(run_key(key, occurrence_of(entry))):
                return named._replace(is_begun=True)
            if entry.id is None and self._knows(key):
                return named
        if self._writer.is_handed_over(heard.position):
            name = secrets.token_hex(NAME)  # several requests have this position
        else:
            name = _name(self._writer.name, heard.position, heard.digest)
        return _named(request, name)

    def _names(self, heard: Heard) -> Iterator[str]:
        """Generate the names that earlier leaders may have given to a request."""
        if heard.position <= self._standby.kept_until:
            for leader, position in self._standby.feed_reader.positions_there(heard.position):
                yield _name(leader, position, heard.digest)


def _named(request: ScheduleRequest, name: str) -> Named:
    key = reserved_key(name) if request.id is None else escape_id(request.id)
    return Named(request._replace(entry=request.entry._replace(origin=name[:ORIGIN])), key)


def _name(leader: bytes, position: int, digest: bytes) -> str:
    whole = leader + position.to_bytes(_POSITION) + digest
    return blake2b(whole, digest_size=NAME).hexdigest()
