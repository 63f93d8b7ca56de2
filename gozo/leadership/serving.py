"""Whether a replica is serving: one verdict for everything that reports or acts on it. Pure.

A leader is serving if it receives requests and verbs, reads and can write the bucket, and delivers;
a standby if it receives, reads, and could write. The lease, `/readyz`, systemd's status, the
metrics, the answers to `$SRV`, `gozoctl status` and `gozo check` all use this.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gozo.protocol.inboxes import OWN

UNFIT_TIME = 3.0  # seconds without serving after which a leader gives up the lease


@dataclass(frozen=True, slots=True)
class Facts:
    """What a replica knows about itself at one moment; a text is empty if all is well."""

    leads: bool
    """Whether it holds the lease."""
    is_started: bool
    waits: str = ""
    """Why no server could be reached when last tried."""
    lost: tuple[str, ...] = ()
    """The names of the connections that are lost."""
    unheard: tuple[str, ...] = ()
    """The subjects to which it has no permission to subscribe."""
    follows: bool = True
    """Whether it has read the whole bucket."""
    mapped: str = ""
    """The mapping of the account that redirects a subject of its buckets."""
    unwritable: str = ""
    """Why this replica cannot write the bucket."""
    mute: str = ""
    """Why it cannot confirm deliveries."""
    silent: bool = False
    """Whether the bucket answers reads of this replica, but no writes."""
    delivers: bool = True
    """For a leader: whether its lease is valid and it has read all writes of earlier leaders."""
    unfit: str = ""
    """Why it must not lead."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement on some facts."""

    problem: str = ""
    """Why it is not serving, as a clause; empty if it is serving."""
    is_own: bool = False
    """Whether another replica may be serving; a fault of the bucket affects all of them."""

    @property
    def serves(self) -> bool:
        """Whether it is serving."""
        return not self.problem


def judge(facts: Facts) -> Verdict:
    """Judge whether a replica is serving; if not, give the first reason."""
    if not facts.is_started and facts.waits:
        return Verdict(f"it is waiting for a server: {facts.waits}", is_own=True)
    if facts.lost:
        return Verdict(f"the {facts.lost[0]} connection is lost", is_own=True)
    if facts.unheard:
        return Verdict(
            f"no permission to subscribe to {', '.join(facts.unheard)}: grant that permission",
            is_own=True,
        )
    if (found := _of_bucket(facts)) is not None:
        return found
    if not facts.is_started:
        return Verdict("it is starting")
    if not facts.follows:
        return Verdict("it has not read the whole bucket", is_own=True)
    if facts.leads:
        # Taking over is not a fault: another replica would have to do the same.
        return Verdict() if facts.delivers else Verdict("it is taking over")
    return Verdict(facts.unfit, is_own=True) if facts.unfit else Verdict()


def _of_bucket(facts: Facts) -> Verdict | None:
    """Judge whether the bucket can be used and deliveries confirmed; None: they can."""
    if facts.mapped:
        return Verdict(facts.mapped)
    if facts.unwritable:
        return Verdict(f"it cannot write the bucket: {facts.unwritable}", is_own=True)
    if facts.mute:
        return Verdict(f"it cannot confirm deliveries: {facts.mute}", is_own=True)
    if facts.silent:
        return Verdict(
            "the bucket answers reads but no writes, as after its disk was full: restart its server"
        )
    return None


class Course:
    """The verdicts on a replica over time."""

    def __init__(self) -> None:
        self.verdict = Verdict()
        """The last verdict."""
        self._since = 0.0

    def note(self, verdict: Verdict, now: float) -> None:
        """Note a verdict, at `now` on a steady clock."""
        if verdict != self.verdict:
            self.verdict, self._since = verdict, now

    def lasts(self, now: float) -> bool:
        """Tell whether it has not been serving for `UNFIT_TIME` seconds, for the same reason."""
        return not self.verdict.serves and now >= self._since + UNFIT_TIME

    def is_ailing(self, now: float) -> bool:
        """Tell whether it has not been serving for so long, for a reason that others may not share.

        A new reason restarts the time: once a connection is back, the bucket is read again.
        """
        return self.verdict.is_own and self.lasts(now)


def needed(refused: Iterable[str], request_subject: str) -> tuple[str, ...]:
    """Select the subjects that a replica needs to receive requests, verbs and answers.

    The subject on which the leader lists its keys is not needed: without it, clients read the
    bucket. Inboxes are named by their common prefix, since some are new for each question.
    """
    verbs = f"{request_subject}.admin."
    found = {
        f"{one.partition(OWN)[0]}{OWN}.>" if OWN in one else one
        for one in refused
        if one == request_subject or (one.startswith(verbs) and one != f"{verbs}keys") or OWN in one
    }
    return tuple(sorted(found))
