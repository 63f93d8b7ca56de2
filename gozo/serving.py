"""Whether a replica serves: the one judgement that all share who tell of it or act on it. Pure.

A leader serves when it hears requests and verbs, reads and can write the bucket, and delivers;
a standby, when it hears, reads, and could write. The lease, `/readyz`, systemd's status, the
metrics, the answers to `$SRV`, `gozoctl status` and `gozo check` all go by this.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gozo.inboxes import OWN

LASTS = 3.0  # seconds without serving after which a leader gives the lease to one that does


@dataclass(frozen=True, slots=True)
class Facts:
    """What a replica knows of itself at one moment; each sentence is empty where all is well."""

    leads: bool
    """Whether it holds the lease."""
    is_started: bool
    waits: str = ""
    """Why no server could be reached when that was last tried."""
    lost: tuple[str, ...] = ()
    """The names of the connections that are lost."""
    unheard: tuple[str, ...] = ()
    """The subjects on which the server lets it hear nothing."""
    follows: bool = True
    """Whether it knows the whole bucket."""
    unwritable: str = ""
    """Why this replica cannot write the bucket."""
    silent: bool = False
    """Whether the bucket answers questions of this replica, and stores nothing."""
    delivers: bool = True
    """Of a leader: whether its lease is valid, and it knows what earlier leaders did."""
    unfit: str = ""
    """Why it may not become leader."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes of the facts."""

    problem: str = ""
    """Why it does not serve, as a sentence without its end; empty: it serves."""
    is_own: bool = False
    """Whether another replica may do better: what the bucket does to all is nobody's own."""

    @property
    def serves(self) -> bool:
        """Whether it serves."""
        return not self.problem


def judge(facts: Facts) -> Verdict:
    """Tell whether a replica serves, or the first reason why not."""
    if not facts.is_started and facts.waits:
        return Verdict(f"it is waiting for a server: {facts.waits}", is_own=True)
    if facts.lost:
        return Verdict(f"the {facts.lost[0]} connection is lost", is_own=True)
    if facts.unheard:
        return Verdict(
            f"it may not subscribe to {', '.join(facts.unheard)}: grant that permission",
            is_own=True,
        )
    if facts.unwritable:
        return Verdict(f"it cannot write the bucket: {facts.unwritable}", is_own=True)
    if facts.silent:
        return Verdict(
            "the bucket answers reads but no writes, as after its disk was full: restart its server"
        )
    if not facts.is_started:
        return Verdict("it is starting")
    if not facts.follows:
        return Verdict("it has not read the whole bucket", is_own=True)
    if facts.leads:
        # Nor would another be quicker, which has to do the same.
        return Verdict() if facts.delivers else Verdict("it is taking over")
    return Verdict(facts.unfit, is_own=True) if facts.unfit else Verdict()


class Course:
    """What a replica's verdicts were, as time went on."""

    def __init__(self) -> None:
        self.verdict = Verdict()
        """The last one."""
        self._since = 0.0

    def note(self, verdict: Verdict, now: float) -> None:
        """Take in a verdict, at `now` on a steady clock."""
        if verdict != self.verdict:
            self.verdict, self._since = verdict, now

    def lasts(self, now: float) -> bool:
        """Tell whether it has not served for `LASTS` seconds, for one reason."""
        return not self.verdict.serves and now >= self._since + LASTS

    def is_ailing(self, now: float) -> bool:
        """Tell whether that is for a reason of its own, which another replica need not have.

        Another reason begins anew: once a connection is back, the bucket is read again.
        """
        return self.verdict.is_own and self.lasts(now)


def needed(refused: Iterable[str], request_subject: str) -> tuple[str, ...]:
    """Pick the subjects without which a replica does not hear requests, verbs and answers."""
    verbs = f"{request_subject}.admin."
    return tuple(
        sorted(
            one for one in refused if one == request_subject or one.startswith(verbs) or OWN in one
        )
    )
