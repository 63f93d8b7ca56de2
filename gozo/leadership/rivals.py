"""The other leaders on a request subject: rivals are those with a different bucket. Pure.

Two leaders at a time are not in themselves a fault: one may not know yet that its lease expired.
Names prove nothing, since buckets in two JetStream domains may have the same name; nor does the
creation time of a stream, since a bucket can be recreated. The lease is the proof: it is written
by compare-and-swap, so while one leader renews it without a break, no other can. A leader that
renewed a lease in that time renewed a different one: it is a rival.

A leader of an earlier version does not say when it renewed its lease. It counts as a rival once it
has led for longer than a leader can fail to notice that it lost the lease.

Times are seconds of a steady clock; those of others are lower bounds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

TAG = 4  # bytes of a leader's id that identify its messages to standbys
PROOFS = 2  # renewals of another lease that prove a rival
UNNOTICED = 15.0  # seconds after which a leader knows for certain that it lost the lease
MISSES = 3  # questions without an answer after which a rival counts as gone
MOST_TAGS = 100  # tags of rivals that are remembered
LONGEST_FIELD = 80  # characters of each field of a leader's answer


class Leader(NamedTuple):
    """The answer of a leader on `gozo.admin.leader`."""

    id: str
    name: str
    bucket: str
    domain: str
    """The JetStream domain of the bucket; empty without one."""
    server: str
    """The server that it is connected to; empty if unknown."""
    heard_at: float = 0.0
    renewed_at: float | None = None
    """The earliest time at which it can have last renewed its lease; None if unknown."""
    rivals: tuple[Leader, ...] = ()
    """The rivals that it reports."""

    def __str__(self) -> str:
        """Return a description for people."""
        return words(self.name, self.bucket, self.domain, self.server)

    @property
    def record(self) -> dict[str, str]:
        """The description of this leader that is published."""
        told = (self.id, self.name, self.bucket, self.domain, self.server)
        return dict(zip(("id", "name", "bucket", "domain", "server"), told, strict=True))


def read_leader(payload: bytes, asked_at: float, heard_at: float) -> Leader | None:
    """Read the answer of a leader; None if it is not from gozo."""
    try:
        said = json.loads(payload)
        rivals = tuple(map(_described, said.get("rivals", ())))
        age = said.get("renewed_s")
        renewed_at = None if age is None else asked_at - float(age)
        leader = _described(said)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if renewed_at is not None and not renewed_at <= asked_at:  # NaN as well
        return None
    return leader._replace(heard_at=heard_at, renewed_at=renewed_at, rivals=rivals)


def _described(said: Any) -> Leader:
    name, bucket, domain, server = (
        str(said.get(key, ""))[:LONGEST_FIELD] for key in ("name", "bucket", "domain", "server")
    )
    return Leader(str(said["id"]), name, bucket, domain, server)


def words(name: str, bucket: str, domain: str, server: str) -> str:
    """Describe a leader for people."""
    domain = f" in the domain {domain}" if domain else ""
    server = f", server {server}" if server else ""
    return f"{name} (bucket {bucket}{domain}{server})"


def tag_of(id_: str) -> bytes:
    """Return the first bytes of this leader's messages to its standbys."""
    try:
        return bytes.fromhex(id_)[:TAG]
    except ValueError:  # of an earlier version, or not from gozo
        return b""


def complaint(leaders: Iterable[object], request_subject: str) -> str:
    """Say that several leaders take the same requests, and what to do."""
    return (
        f"{' and '.join(map(str, leaders))} lead on the request subject {request_subject}, each "
        "with its own bucket, so each of them stores and delivers every request: give "
        "each its own --request-subject, or run gozo in one place only (see Hub and leaf nodes "
        "in gozo(8))"
    )


def proven(first: Iterable[Leader], later: Iterable[Leader], *, patient: bool) -> list[Leader]:
    """Return those leaders that a non-leader has proven to have different buckets.

    It has received their answers twice. With one bucket, only one of them could have renewed the
    lease after the first answers. With `patient`, those that report no renewals count as well.
    """
    heard = {one.id: one.heard_at for one in first}
    found = [
        one
        for one in later
        if one.id in heard
        and (patient if one.renewed_at is None else one.renewed_at > heard[one.id])
    ]
    return found if len(found) > 1 else []


@dataclass(slots=True)
class _Known:
    """A leader that has answered."""

    leader: Leader
    since: float
    """Since when it has answered each question."""
    proofs: int = 0
    proven_at: float = -math.inf
    """When its last renewal that counts as a proof was reported."""
    missed: int = 0


@dataclass(slots=True)
class Rivals:
    """The other leaders known to one leader."""

    _known: dict[str, _Known] = field(default_factory=dict)
    _tags: dict[bytes, None] = field(default_factory=dict)
    """Tags of rivals, the latest last."""

    @property
    def all(self) -> list[Leader]:
        """The rivals."""
        return [one.leader for one in self._known.values() if one.proofs >= PROOFS]

    @property
    def ids(self) -> list[str]:
        """The ids of the rivals."""
        return [one.id for one in self.all]

    @property
    def is_alone(self) -> bool:
        """Whether no other leader is known, rival or not."""
        return not self._known

    def heard(self, leaders: Iterable[Leader], asked_at: float) -> list[Leader]:
        """Note all answers to one question; return the rivals that are gone."""
        answered = {one.id: one for one in leaders}
        gone = []
        for id_, known in list(self._known.items()):
            if id_ in answered:
                continue
            known.missed += 1
            is_rival = known.proofs >= PROOFS
            if not is_rival or known.missed >= MISSES:
                del self._known[id_]
                if is_rival:
                    gone.append(known.leader)
        for id_, leader in answered.items():
            known = self._known.setdefault(id_, _Known(leader, asked_at))
            known.leader, known.missed = leader, 0
        return gone

    def judge(self, held_since: float, renewed_at: float) -> list[Leader]:
        """Find rivals, and return the new ones.

        This leader has held its lease since `held_since`; its last acknowledged renewal was sent at
        `renewed_at`.
        """
        found = []
        for known in self._known.values():
            leader = known.leader
            if known.proofs >= PROOFS or leader.heard_at >= renewed_at:
                continue
            if leader.renewed_at is None:
                if leader.heard_at - max(known.since, held_since) > UNNOTICED:
                    known.proofs = PROOFS
            elif leader.renewed_at > max(held_since, known.proven_at):
                known.proofs += 1
                known.proven_at = leader.heard_at
            if known.proofs >= PROOFS:
                self._remember(leader.id)
                found.append(leader)
        return found

    def told(self, ids: object) -> bool:
        """Note the rivals that the lease of this bucket names; True if some are new."""
        named = [str(id_) for id_ in ids] if isinstance(ids, list) else []
        new = any(tag_of(id_) and not self.is_foreign(tag_of(id_)) for id_ in named)
        for id_ in named:
            self._remember(id_)
        return new

    def forget(self) -> None:
        """Forget all leaders: this replica does not lead, so it has no proofs."""
        self._known.clear()

    def is_foreign(self, term: bytes) -> bool:
        """Tell whether a message of this term is from a rival, for its own standbys."""
        return bool(self._tags) and term[:TAG] in self._tags

    def _remember(self, id_: str) -> None:
        tag = tag_of(id_)
        if tag:
            self._tags.pop(tag, None)
            self._tags[tag] = None
            if len(self._tags) > MOST_TAGS:
                del self._tags[next(iter(self._tags))]
