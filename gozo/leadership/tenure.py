"""What one replica knows about the lease: whether it leads, and the last known holder.

It is created first: all parts that act only on the leader read it; `gozo.leadership.lease` and
`gozo.daemon.leadership` change it. Times are seconds of the steady clock.
"""

from __future__ import annotations

import math
import secrets
from enum import StrEnum

from gozo.leadership.leaders import Place
from gozo.leadership.rivals import words
from gozo.runtime.clock import steady
from gozo.transport.connection import Connection

VALID = 9.0
"""Seconds after a renewal was sent during which the holder may deliver: less than `TAKEOVER`."""
TAKEOVER = 10.0  # seconds without a renewal after which the lease is free

_ELSEWHERE = "elsewhere"


class Role(StrEnum):
    """The role of a replica."""

    LEADER = "leader"
    STANDBY = "standby"


class Tenure:
    """The lease of one bucket as one replica sees it."""

    def __init__(self, connection: Connection, name: str, bucket: str) -> None:
        self._connection = connection
        self.name, self.bucket = name, bucket
        self.id = secrets.token_hex(11)
        """A random id, which tells apart replicas with the same name."""
        self.role = Role.STANDBY
        self.is_active = False
        """Whether this replica leads and has read all writes of earlier leaders."""
        self.is_fit = True
        """Whether its clock and the entries allow it to lead, as last judged."""
        self._valid_until = self._renewed_at = 0.0
        self.held_since = math.inf
        """When this replica took the lease; infinite while it does not hold it."""
        self.written_at = -math.inf
        """When the last stored renewal was sent."""
        self.revision = 0
        """The last known revision of the lease; 0 without a lease."""
        self.seen_at = steady()
        """When the revision last changed, or the holder last said that it cannot write."""
        self.holder: dict[str, object] = {}
        """The other replica that held the lease when it was last read; empty without one."""
        self._holder_place: str | None = None
        """Where this replica was connected then, if the holder was connected there as well."""

    @property
    def is_valid(self) -> bool:
        """Whether this replica may deliver at this moment."""
        return steady() < self._valid_until and self.role is Role.LEADER

    @property
    def renewed_at(self) -> float:
        """When the last renewal was sent that the server acknowledged."""
        return self._renewed_at

    @property
    def is_overdue(self) -> bool:
        """Whether the last renewal is so old that another replica may hold the lease."""
        return self.role is Role.LEADER and steady() >= self._renewed_at + TAKEOVER

    @property
    def free_at(self) -> float:
        """When the lease becomes free unless its revision changes."""
        return self.seen_at + TAKEOVER

    @property
    def another_leads(self) -> bool:
        """Whether another replica leads; assumed while disconnected."""
        seen = self.revision > 0 and steady() < self.free_at
        return self.role is Role.STANDBY and (seen or not self._connection.connected)

    @property
    def another_holds(self) -> bool:
        """Whether another replica held the lease when it was last read."""
        return self.role is Role.STANDBY and bool(self.holder)

    @property
    def is_holder_near(self) -> bool:
        """Whether the holder was connected to the same server or cluster as this replica now.

        A restarted server counts as another one: the restart ended the holder's connection too.
        """
        return self._holder_place in (None, self._place)

    @property
    def cluster(self) -> str:
        """The cluster that this replica is connected to, or a server outside any cluster."""
        info = self._connection.info
        return str(info.get("cluster") or info.get("server_id"))

    @property
    def _place(self) -> str:
        return str(self._connection.info.get("cluster") or self._connection.address)

    def __str__(self) -> str:
        """Describe this replica as a leader, for people."""
        return words(self.name, self.bucket, *Place.of(self._connection))

    # Changed by `Lease`

    def gained(self, sent: float) -> None:
        """Note that this replica took the lease, by a write sent at that moment."""
        self.held_since, self.written_at = steady(), sent
        self.role = Role.LEADER
        self.confirmed(sent)

    def confirmed(self, sent: float) -> None:
        """Note that this replica holds the lease, by a renewal sent at that moment."""
        self._renewed_at, self._valid_until = sent, sent + VALID

    def stored(self, sent: float) -> None:
        """Note that a renewal sent at that moment is stored."""
        self.written_at = sent

    def wrote(self, revision: int) -> None:
        """Note the revision that this replica wrote."""
        self.revision = revision
        self.seen_at = steady()
        self.saw_holder({})

    def saw(self, revision: int) -> None:
        """Note a new revision of the lease."""
        self.revision = revision
        self.seen_at = steady()

    def saw_holder(self, holder: dict[str, object]) -> None:
        """Note the holder that the lease names; empty: none, or this replica."""
        self.holder = holder
        is_near = not holder or holder.get("cluster") == self.cluster
        self._holder_place = self._place if is_near else _ELSEWHERE

    def expects(self, revision: int) -> None:
        """Let the next write replace this revision."""
        self.revision = revision

    def heard_holder(self) -> None:
        """Note that the holder says that it holds the lease but has no room to renew it."""
        self.seen_at = steady()

    def void(self) -> None:
        """Invalidate the lease until a renewal is acknowledged: the connection was lost."""
        self._valid_until = min(self._valid_until, steady())

    def lost(self) -> None:
        """Note that another replica holds the lease, or may take it."""
        self._valid_until = 0.0
        self.held_since = math.inf
        self.seen_at = steady()
        self.role = Role.STANDBY

    # Changed by `Leadership`

    def activate(self) -> None:
        """Note that this leader has read all writes of earlier leaders."""
        self.is_active = True

    def deactivate(self) -> None:
        """Note that this replica no longer acts as the leader."""
        self.is_active = False

    def judge_fit(self, *, fit: bool) -> None:
        """Note whether this replica could lead."""
        self.is_fit = fit
