"""Answers discovery requests for a NATS service (ADR-32) that has no endpoints, only a state."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

from gozo import __version__
from gozo.errors import DisconnectedError
from gozo.protocol.subject_policy import Policy
from gozo.transport.connection import Connection
from gozo.transport.subscriptions import Listener

Describe = Callable[[], tuple[Mapping[str, str], Mapping[str, Any]]]
"""Returns the metadata, and further members of the answer to INFO and STATS."""

_KIND = "io.nats.micro.v1."


class MicroService:
    """Answers `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS` under a name until it is stopped."""

    def __init__(
        self,
        connection: Connection,
        policy: Policy,
        name: str,
        description: str,
        describe: Describe,
    ) -> None:
        """Use `Client.announce`."""
        self._connection = connection
        self._policy = policy
        self._name = name
        self._description = description
        self._describe = describe
        self._id = secrets.token_hex(11)
        self._started = datetime.now(UTC)
        self._listeners: list[Listener] = []
        for verb in ("PING", "INFO", "STATS"):
            for subject in (verb, f"{verb}.{name}", f"{verb}.{name}.{self._id}"):
                on_question = partial(self._on_question, verb)
                self._listeners.append(connection.listen(f"$SRV.{subject}", on_question))

    def stop(self) -> None:
        """Stop answering."""
        for listener in self._listeners:
            listener.stop()

    def _on_question(
        self, verb: str, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes
    ) -> None:
        if self._policy.may_answer_daemon(reply):
            with suppress(DisconnectedError):
                self._connection.publish(reply.decode(), json.dumps(self._answer(verb)).encode())

    def _answer(self, verb: str) -> dict[str, Any]:
        metadata, more = self._describe()
        answer: dict[str, Any] = {
            "type": f"{_KIND}{verb.lower()}_response",
            "name": self._name,
            "id": self._id,
            "version": __version__,
            "metadata": dict(metadata),
        }
        match verb:
            case "INFO":
                answer |= {"description": self._description, "endpoints": []} | dict(more)
            case "STATS":
                started = self._started.isoformat().replace("+00:00", "Z")
                answer |= {"started": started, "endpoints": []} | dict(more)
        return answer
