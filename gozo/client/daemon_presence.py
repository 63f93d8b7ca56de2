"""Finds out which daemons of one bucket are running, and whether one of them leads."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gozo.client.answers import Answers
from gozo.client.models import Replica, Rival
from gozo.client.services import ask_all
from gozo.errors import (
    DisconnectedError,
    NoServerError,
    NotAllowedError,
)
from gozo.leadership.leaders import find_rivals
from gozo.protocol.subject_policy import Policy
from gozo.settings.model import ConnectionSettings
from gozo.transport.commands import Reply
from gozo.transport.connection import Connection
from gozo.transport.jetstream import NO_RESPONDERS

PROBE = 2.0  # seconds to wait for an answer of the leader

STANDBY_PROBE = 0.25  # seconds

QUIET = 0.25  # seconds without an answer before asking whether there is any daemon

RULES_PROBE = 0.5  # seconds to wait for the rules: the leader may be frozen

RULES = ("allow", "deny", "answers")
PING, STATS = "$SRV.PING.gozo", "$SRV.STATS.gozo"


class DaemonPresence:
    """The daemons of one bucket and request subject."""

    def __init__(
        self, connection: Connection, settings: ConnectionSettings, policy: Policy
    ) -> None:
        self._plain = self.policy = policy
        self._connection = connection
        self.is_silent = False
        """Whether the leader did not answer when it was last asked."""
        self._subject = settings.request_subject
        self._bucket = settings.bucket

    async def rules(self) -> Policy:
        """Return the leader's limits on targets; without an answer, those of every daemon."""
        with suppress(NoServerError, NotAllowedError):
            await self.lead(RULES_PROBE)
        return self.policy

    async def lead(self, timeout: float = PROBE) -> bool:
        """Return whether a daemon accepts requests.

        Raises:
            NoServerError, NotAllowedError: this cannot be determined.
        """
        subject = f"{self._subject}.admin.leader"
        asked = Answers(self._connection)
        try:
            with self._connection.failing_if_denied(subject, asked.first):
                self._connection.publish(subject, reply=asked.inbox.decode())
                async with asyncio.timeout(timeout):
                    reply = await self.first(asked)
        except TimeoutError:
            if asked.keeper:
                # With a stream on the subject, the server never reports "no responders".
                found = await self.replicas(STANDBY_PROBE)
                return any(replica.role == "leader" for replica in found)
            self.is_silent = True
            return True  # a subscriber exists, but does not answer
        finally:
            asked.close()
        self.is_silent = False
        self.policy = self._plain
        if reply is None:
            return False
        with suppress(ValueError, LookupError, TypeError):  # the answer of an earlier version
            told = json.loads(reply.payload)
            allow, deny, answers = (tuple(map(str, told[name])) for name in RULES)
            self.policy = replace(self._plain, allow=allow, deny=deny, answers=answers)
        return True

    async def hear(self) -> bool:
        """Return whether a daemon accepts requests, or keeps them until it does.

        Raises:
            NoServerError, NotAllowedError: this cannot be determined.
        """
        if await self.lead():
            return True
        # During a change of leader, standbys keep the requests for the next leader.
        try:
            return not await self._are_none() and bool(await self.replicas(STANDBY_PROBE))
        except DisconnectedError:
            raise
        except (NoServerError, NotAllowedError):
            return False

    async def first(self, answers: Answers) -> Reply | None:
        """Wait for the first answer; None if there is no daemon.

        The server reports that at once, unless a stream or another subscriber has the subject.
        """
        await asyncio.wait([answers.first], timeout=QUIET)
        if not answers.first.done() and await self._are_none():
            return None
        reply = await answers.first
        return None if reply.status == NO_RESPONDERS else reply

    async def _are_none(self) -> bool:
        """Return whether the server reports that there is no daemon, of any bucket.

        Raises:
            DisconnectedError: the link was lost.
        """
        try:
            return (await self._connection.request(PING, timeout=PROBE)).status == NO_RESPONDERS
        except DisconnectedError:
            raise
        except (NoServerError, NotAllowedError):
            return False  # unknown

    async def require(self) -> None:
        """Make sure that a daemon accepts requests.

        Raises:
            NoServerError: none does.
        """
        if not await self.hear():
            raise self.missing()

    def missing(self) -> NoServerError:
        """Return the error for a missing daemon."""
        return NoServerError(
            f"no daemon listens on {self._subject}: start one with 'gozo serve', or give "
            "its --request-subject"
        )

    async def rivals(self, wait: float) -> list[Rival]:
        """Wait `wait` seconds for answers of leaders; longer if there are several.

        Raises:
            NoServerError, NotAllowedError: as for `Connection.request`.
        """
        found = await find_rivals(self._connection, self._subject, wait)
        rivals = (Rival(one.name, one.bucket, one.domain, one.server) for one in found)
        return sorted(rivals, key=lambda rival: rival.name)

    async def replicas(self, wait: float) -> list[Replica]:
        """Collect answers for `wait` seconds; sorted by name.

        Raises:
            NoServerError, NotAllowedError: as for `Connection.request`.
        """
        found: list[Replica] = []
        for answer in await ask_all(self._connection, STATS, wait):
            try:
                told = answer["metadata"]
                if (told["request_subject"], told["bucket"]) == (self._subject, self._bucket):
                    found.append(_replica(answer))
            except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
                continue  # not from a daemon, or from another version
        return sorted(found, key=lambda replica: replica.name)


def _replica(answer: dict[str, Any]) -> Replica:
    """Read an answer, which may come from an impostor."""
    told, data = answer["metadata"], answer["endpoints"][0]["data"]
    next_due = data.get("next_due")
    return Replica(
        name=str(told["name"]),
        version=str(answer["version"]),
        role=str(told["role"]),
        pending=int(data["pending"]),
        overdue=int(data["overdue"]),
        invalid=int(data["invalid"]),
        delivered=int(data["delivered"]),
        refused=int(sum(data["refused"].values())),
        lateness_p50_ms=float(data["lateness_p50_ms"]),
        lateness_p99_ms=float(data["lateness_p99_ms"]),
        started=_aware(answer["started"]),
        accepted=int(data.get("accepted", 0)),
        next_due=None if next_due is None else _aware(next_due),
        problem=str(told.get("problem", "")),
        paused=int(data.get("paused", 0)),
        failed=int(data.get("failed_schedules", 0)),
    )


def _aware(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
