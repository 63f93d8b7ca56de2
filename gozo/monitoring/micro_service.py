"""Answers discovery requests for NATS services (ADR-32).

A replica answers `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS` as the service `gozo`. The metadata
contain the bucket, the role, and any rivals.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gozo import __version__
from gozo.leadership.lookout import hear_daemons
from gozo.leadership.tenure import Role
from gozo.monitoring.health import Health
from gozo.protocol.subject_policy import Policy
from gozo.requests.admin_verbs import VERBS
from gozo.runtime.clock import steady
from gozo.schedule.expression import print_rfc3339
from gozo.transport.commands import publication
from gozo.transport.connection import Connection

SERVICE = "gozo"
YES = "yes"

_KIND = "io.nats.micro.v1."


class Service:
    """The micro service of one replica, which can also find the other replicas of its bucket."""

    def __init__(
        self, connection: Connection, policy: Policy, *, bucket: str, health: Health
    ) -> None:
        self._connection = connection
        self._bucket = bucket
        self._request_subject = policy.request_subject
        self._policy = policy
        self._health = health
        self._id = secrets.token_hex(11)
        self._started = datetime.now(UTC)

    async def find_serving(self) -> str:
        """Return the name of a standby that is serving; empty if none is.

        Raises:
            NoServerError: the connection was lost meanwhile.
        """
        place = (self._request_subject, self._bucket)
        for other in await hear_daemons(self._connection):
            ours = (other.get("request_subject"), other.get("bucket")) == place
            if ours and other.get("role") == Role.STANDBY and other.get("serves") == YES:
                return str(other.get("name"))
        return ""

    def listen(self) -> None:
        """Start to answer."""
        for verb, answer in (
            ("PING", self._ping),
            ("INFO", self._info),
            ("STATS", self._statistics),
        ):
            for subject in (verb, f"{verb}.{SERVICE}", f"{verb}.{SERVICE}.{self._id}"):
                self._connection.listen(f"$SRV.{subject}", self._answering(answer))

    def _answering(
        self, answer: Callable[[], dict[str, Any]]
    ) -> Callable[[bytes, bytes, bytes | None, bytes], None]:
        def on_question(
            subject: bytes, reply: bytes, headers: bytes | None, payload: bytes
        ) -> None:
            if self._policy.may_answer_daemon(reply):
                self._connection.write(publication(reply, json.dumps(answer()).encode()))

        return on_question

    def _identity(self, kind: str) -> dict[str, Any]:
        bucket = self._health.bucket
        rivals = ", ".join(map(str, bucket.rivals))
        verdict = self._health.judge()
        return {
            "type": f"{_KIND}{kind}",
            "name": SERVICE,
            "id": self._id,
            "version": __version__,
            "metadata": {
                "name": self._health.name,
                "bucket": self._bucket,
                "request_subject": self._request_subject,
                "role": bucket.role,
                "serves": YES if verdict.serves else "no",
                "problem": verdict.problem,
            }
            | ({"rivals": rivals} if rivals else {}),
        }

    def _ping(self) -> dict[str, Any]:
        return self._identity("ping_response")

    def _endpoint(self, verb: str = "") -> dict[str, Any]:
        subject = f"{self._request_subject}.admin.{verb}" if verb else self._request_subject
        return {"name": verb or "request", "subject": subject, "queue_group": ""}

    def _info(self) -> dict[str, Any]:
        return self._identity("info_response") | {
            "description": "schedules messages",
            "endpoints": [self._endpoint(), *map(self._endpoint, VERBS)],
        }

    def _statistics(self) -> dict[str, Any]:
        stats, bucket = self._health.stats, self._health.bucket
        refused = sum(stats.refused.values()) - stats.refused_by_verbs
        median, most = stats.lateness.quantiles(0.5, 0.99, at=steady())
        next_us = bucket.next_due_us
        data = {
            "role": bucket.role,
            "pending": bucket.pending,
            "overdue": bucket.overdue,
            "paused": bucket.paused,
            "failed_schedules": bucket.failed,
            "invalid": bucket.invalid,
            "runs": dict(bucket.runs),
            "next_due": None if next_us is None else print_rfc3339(next_us),
            "accepted": stats.accepted,
            "delivered": stats.delivered,
            "undeliverable": stats.undeliverable,
            "failed": stats.failed,
            "missed": stats.missed,
            "refused": dict(stats.refused),
            "lateness_p50_ms": median / 1000,
            "lateness_p99_ms": most / 1000,
            "latest_ms": stats.latest_us / 1000,
        }
        requests = self._endpoint() | _counts(stats.accepted + refused, refused) | {"data": data}
        verbs = [
            self._endpoint(verb) | _counts(stats.calls[verb], stats.refused_calls[verb])
            for verb in VERBS
        ]
        return self._identity("stats_response") | {
            "started": self._started.isoformat().replace("+00:00", "Z"),
            "endpoints": [requests, *verbs],
        }


def _counts(requests: int, errors: int) -> dict[str, Any]:
    """Return the counters of an endpoint as ADR-32 requires; gozo measures no processing times."""
    return {
        "num_requests": requests,
        "num_errors": errors,
        "last_error": "",
        "processing_time": 0,
        "average_processing_time": 0,
    }
