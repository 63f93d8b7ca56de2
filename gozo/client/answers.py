"""Receives the answers to one request: the first, and those of rival leaders, if any.

A leader that knows of a rival names it in each answer. Only then the client waits for more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from gozo.errors import ContradictionError, DisconnectedError
from gozo.leadership.rivals import complaint
from gozo.transport.commands import Reply, keeper_of
from gozo.transport.connection import Connection

ANOTHER = 0.5  # seconds to wait for the answers of rivals
MARK = b'"rivals"'
SHOWN = 3  # ids whose answers a message shows


class Answers:
    """The answers to a request that is sent with the reply subject `inbox`."""

    def __init__(self, connection: Connection) -> None:
        """Start listening.

        Raises:
            DisconnectedError: there is no connection.
        """
        self.first: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._signed: list[dict[str, Any]] = []
        """The answers of leaders that know of rivals, and of those rivals."""
        self._complete = asyncio.Event()
        self.keeper = ""
        """The stream that acknowledged storing the request, if any; that is not an answer."""
        self._token, self.inbox = connection.expect(self._on_answer)

    def _on_answer(self, headers: bytes | None, payload: bytes | None) -> None:
        if payload is None:
            self._complete.set()
            if not self.first.done():
                self.first.set_exception(DisconnectedError("the connection to NATS was lost"))
            return
        if keeper := keeper_of(payload):
            self.keeper = keeper
            self._connection.expect_more(self._token, self._on_answer)
            return
        if not self.first.done():
            self.first.set_result(Reply(headers, payload))
            if MARK not in payload:
                return
        with suppress(ValueError):
            answer = json.loads(payload)
            if isinstance(answer, dict):
                self._signed.append(answer)
        if len(self._signed) > len(_rivals(self._signed)):
            self._complete.set()
        else:
            self._connection.expect_more(self._token, self._on_answer)

    async def check(self, request_subject: str) -> None:
        """Make sure that rivals, if any, gave the same answer; call it after the first answer.

        Raises:
            ContradictionError: they did not.
        """
        if not self._signed:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(ANOTHER):
                await self._complete.wait()
        told = [(str(one.get("leader") or "another"), _statuses(one)) for one in self._signed]
        differing = {
            id_: None
            for _, statuses in told
            for id_, status in statuses.items()
            if any(others.get(id_) != status for _, others in told)
        }
        if not differing:
            return
        words = ", and ".join(
            f"{leader} answered {_shown(statuses, list(differing))}" for leader, statuses in told
        )
        raise ContradictionError(
            f"{words}: {complaint((leader for leader, _ in told), request_subject)}"
        )

    def close(self) -> None:
        """Stop listening."""
        self._connection.hang_up(self._token)
        if not self.first.cancel() and not self.first.cancelled():
            self.first.exception()  # retrieved, so that asyncio does not log it


def _rivals(answers: Sequence[dict[str, Any]]) -> list[object]:
    """Return the rivals named in the answer that names the most."""
    named = [one.get("rivals") for one in answers]
    return max((one for one in named if isinstance(one, list)), key=len, default=[])


def _statuses(answer: dict[str, Any]) -> dict[str, str]:
    """Return the status of each id in an answer; of the whole request if it has no ids."""
    results = answer.get("results")
    found = {}
    for one in results if isinstance(results, list) else [answer]:
        if isinstance(one, dict):
            found[str(one.get("id") or "")] = str(one.get("status"))
    return found


def _shown(statuses: dict[str, str], ids: list[str]) -> str:
    each = ((statuses.get(id_, "nothing"), f" for {id_!r}" if id_ else "") for id_ in ids[:SHOWN])
    shown = [f"{status}{for_which}" for status, for_which in each]
    return ", ".join(shown) + (", ..." if len(ids) > SHOWN else "")
