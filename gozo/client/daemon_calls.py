"""Calls the daemons of one bucket: requests with receipts, and the leader's verbs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, cast

from gozo.client.answers import Answers
from gozo.client.arguments import ScheduleOptions, spec_headers
from gozo.client.daemon_answers import absent, answers_of, check, readable, stored
from gozo.client.daemon_presence import PROBE, DaemonPresence
from gozo.client.models import Answer, Cancelled, Stored
from gozo.errors import (
    ContradictionError,
    DisconnectedError,
    GozoError,
    NoServerError,
    UnansweredError,
)
from gozo.protocol.admin import MOST_IDS, result_size
from gozo.protocol.confirmation import confirmation_lines
from gozo.protocol.headers import END, FIRST_LINE
from gozo.schedule.model import Entry
from gozo.transport.connection import Connection


class DaemonCalls:
    """Calls the daemons of one bucket and request subject."""

    def __init__(
        self, connection: Connection, request_subject: str, presence: DaemonPresence
    ) -> None:
        self._connection = connection
        self._subject = request_subject
        self._presence = presence

    async def send(
        self,
        entry: Entry,
        payload: bytes,
        options: ScheduleOptions,
        *,
        receipt: bool,
        timeout: float,
    ) -> Stored | None:
        """Send a request with its options; with `receipt`, wait for the receipt.

        Raises:
            RequestError: it was refused, or the daemon has no permission to send the receipt.
            UnansweredError: no receipt came.
            NotAllowedError: this user has no permission to publish requests.
            ContradictionError: daemons of different buckets accepted it and answered differently.
            DisconnectedError: nothing was sent.
        """
        answers = Answers(self._connection)
        answer, inbox = answers.first, answers.inbox
        if receipt:
            self._presence.policy.check_answer(inbox.decode(), "subject of the receipt")
        with self._connection.failing_if_denied(self._subject, answer):
            self._connection.publish(
                self._subject,
                payload,
                headers=_request_headers(entry, options, inbox if receipt else b""),
                reply=entry.subject,
            )
            try:
                if not receipt:
                    await self._connection.echo(timeout)
                    if answer.done():
                        answer.result()
                    return None
                async with asyncio.timeout(timeout):
                    reply = await answer
                await answers.check(self._subject)
            except (TimeoutError, DisconnectedError) as error:
                raise self._unanswered(
                    f"the request for {_shown(entry.id)}", timeout, error
                ) from error
            finally:
                answers.close()
        with readable():
            return stored(json.loads(reply.payload))

    async def cancel(self, ids: list[str], *, timeout: float) -> list[Cancelled] | None:
        """Cancel ids; None if no daemon accepts requests, and nothing was cancelled.

        Raises:
            RequestError, UnansweredError, NotAllowedError, ContradictionError: as for `send`.
        """
        results = await self._for_each("cancel", ids, {}, timeout)
        if results is None:
            return None
        with readable():
            return [
                Cancelled(one["id"], one["status"], one.get("running") is True) for one in results
            ]

    async def pause(self, ids: list[str], note: str, *, timeout: float) -> list[Answer] | None:
        """Pause ids; None if no daemon accepts requests.

        Raises:
            RequestError, UnansweredError, NotAllowedError, ContradictionError: as for `send`.
        """
        given: dict[str, object] = {"note": note} if note else {}
        return answers_of(await self._for_each("pause", ids, given, timeout))

    async def resume(self, ids: list[str], *, timeout: float) -> list[Answer] | None:
        """Resume ids; None if no daemon accepts requests.

        Raises:
            RequestError, UnansweredError, NotAllowedError, ContradictionError: as for `send`.
        """
        return answers_of(await self._for_each("resume", ids, {}, timeout))

    async def trigger(self, ids: list[str], *, force: bool, timeout: float) -> list[Answer] | None:
        """Deliver ids now; None if no daemon accepts requests.

        Raises:
            RequestError, UnansweredError, NotAllowedError, ContradictionError: as for `send`.
        """
        given: dict[str, object] = {"force": True} if force else {}
        return answers_of(await self._for_each("trigger", ids, given, timeout))

    async def outcome(self, id_: str) -> str | None:
        """Ask how the schedule with an id left the bucket; None if that is unknown."""
        results = None
        with suppress(GozoError):  # without permission or an answer, the outcome is unknown
            results = await self._for_each("outcome", [id_], {}, PROBE)
        if not results:
            return None
        with readable():
            status = results[0]["status"]
            return None if status in {"pending", "not_found"} else str(status)

    async def _for_each(
        self, verb: str, ids: list[str], given: dict[str, object], timeout: float
    ) -> list[dict[str, Any]] | None:
        """Call a verb for ids, in portions; returns the result for each."""
        done: list[dict[str, Any]] = []
        largest = self._connection.max_payload // 2
        contradiction: ContradictionError | None = None
        for some in _portions(ids, largest):
            try:
                answer = await self._call(verb, given | {"ids": some}, timeout)
            except ContradictionError as error:
                contradiction = error
                continue
            if answer is None and not done:
                return None
            if answer is None:
                raise UnansweredError(
                    f"the daemon exited after the {verb} of {len(done)} of {len(ids)} schedules: "
                    "check which are left, and try again with those"
                )
            with readable():
                check(answer)
                for result in answer["results"]:
                    check(result)
                    done.append(result)
        if contradiction is not None:
            raise contradiction
        return done

    async def reschedule(self, id_: str, when: str, *, timeout: float) -> Stored | None:
        """Change the due time of a schedule; None if no daemon accepts requests.

        Raises:
            NotFoundError: there is no such schedule.
            RequestError, UnansweredError, NotAllowedError, ContradictionError: as for `send`.
        """
        answer = await self._call("reschedule", {"id": id_, "when": when}, timeout)
        if answer is None:
            return None
        with readable():
            check(answer)
            if answer["status"] == "rescheduled":
                return stored(answer)
            status, reason = answer["status"], str(answer.get("reason", ""))
        raise absent(id_, status, reason)

    async def _call(
        self, verb: str, body: dict[str, object], timeout: float
    ) -> dict[str, Any] | None:
        subject = f"{self._subject}.admin.{verb}"
        if not self._connection.connected:
            raise DisconnectedError("there is no connection to NATS at the moment")
        answers = Answers(self._connection)
        try:
            with self._connection.failing_if_denied(subject, answers.first):
                body_ = json.dumps(body).encode()
                self._connection.publish(subject, body_, reply=answers.inbox.decode())
                async with asyncio.timeout(timeout):
                    reply = await self._presence.first(answers)
            await answers.check(self._subject)
        except (TimeoutError, NoServerError) as error:
            raise self._unanswered(f"the {verb}", timeout, error, answers.keeper) from error
        finally:
            answers.close()
        if reply is None:
            return None
        with readable():
            return cast("dict[str, Any]", json.loads(reply.payload))

    def _unanswered(
        self, what: str, timeout: float, error: Exception, keeper: str = ""
    ) -> UnansweredError:
        why = str(error) or f"no receipt within {timeout:g} s"
        if keeper:
            why += f"; no daemon answered, only the stream {keeper}, which stores gozo's subjects"
        if self._presence.is_silent:
            prefix = self._connection.inbox_prefix
            why += f"; does --allow-answers of the daemon match {prefix}.>?"
        return UnansweredError(f"{what} was sent, but its outcome is unknown ({why})")


def _request_headers(entry: Entry, options: ScheduleOptions, receipt: bytes) -> bytes:
    lines = [b"Gozo-When: %b" % entry.when.encode()]
    lines += [f"{name}: {value}".encode() for name, value in spec_headers(options).items()]
    if entry.id is not None:
        lines.append(b"Gozo-Id: %b" % entry.id.encode())
    if receipt:
        lines.append(b"Gozo-Receipt: %b" % receipt)
    confirming = confirmation_lines(entry.confirm, entry.attempts, entry.confirmation)
    return FIRST_LINE + b"".join(line + END for line in lines) + confirming + entry.headers + END


def _portions(ids: list[str], largest: int) -> Iterator[list[str]]:
    """Split ids so that each call and its answer fit into `largest` bytes."""
    rest = iter(ids)
    while some := list(islice(rest, MOST_IDS)):
        start = size = 0
        for number, id_ in enumerate(some):
            more = result_size(id_)
            if size + more > largest:
                yield some[start:number]
                start, size = number, 0
            size += more
        yield some[start:]


def _shown(id_: str | None) -> str:
    return "a schedule without id" if id_ is None else repr(id_)
