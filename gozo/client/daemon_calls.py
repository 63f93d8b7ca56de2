"""Asks the daemons of one bucket: requests with receipts, the leader's verbs, who there is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, cast

from gozo.client.answers import Answers
from gozo.client.arguments import moment_of_epoch
from gozo.client.models import Answer, Cancelled, Replica, Rival, Stored
from gozo.errors import (
    ContradictionError,
    DisconnectedError,
    GozoError,
    NoServerError,
    NotAllowedError,
    NotFoundError,
    Refusal,
    RequestError,
    UnansweredError,
)
from gozo.leadership.leaders import find_rivals
from gozo.protocol.headers import END, FIRST_LINE
from gozo.protocol.requests import MOST_IDS, result_size
from gozo.protocol.subject_policy import Policy
from gozo.schedule.model import Entry
from gozo.settings.resolve import ConnectionSettings
from gozo.transport.commands import Reply
from gozo.transport.connection import Connection
from gozo.transport.jetstream import NO_RESPONDERS

PROBE = 2.0  # seconds to wait for a sign of the leader

STANDBY_PROBE = 0.25  # seconds

QUIET = 0.25  # seconds without an answer after which it is asked whether there is any daemon

RULES_PROBE = 0.5  # seconds to wait for the rules of a leader that may be frozen

RULES = ("allow", "deny", "answers")
PING, STATS = "$SRV.PING.gozo", "$SRV.STATS.gozo"


class Daemons:
    """The daemons that keep one bucket and listen on one request subject."""

    def __init__(
        self, connection: Connection, settings: ConnectionSettings, policy: Policy
    ) -> None:
        self._plain = self._policy = policy
        self._connection = connection
        self._is_silent = False
        """Whether the leader did not answer when it was last asked."""
        self._subject = settings.request_subject
        self._bucket = settings.bucket

    async def rules(self) -> Policy:
        """Return what the leader limits targets to; what every daemon does where none tells."""
        with suppress(NoServerError, NotAllowedError):
            await self.lead(RULES_PROBE)
        return self._policy

    async def lead(self, timeout: float = PROBE) -> bool:
        """Tell whether one of them takes requests.

        Raises:
            NoServerError, NotAllowedError: it cannot be told.
        """
        subject = f"{self._subject}.admin.leader"
        asked = Answers(self._connection)
        try:
            with self._connection.failing_if_denied(subject, asked.first):
                self._connection.publish(subject, reply=asked.inbox.decode())
                async with asyncio.timeout(timeout):
                    reply = await self._first(asked)
        except TimeoutError:
            if asked.keeper:
                # With a stream there, the server never says that nobody listens.
                found = await self.replicas(STANDBY_PROBE)
                return any(replica.role == "leader" for replica in found)
            self._is_silent = True
            return True  # somebody listens, and does not answer
        finally:
            asked.close()
        self._is_silent = False
        self._policy = self._plain
        if reply is None:
            return False
        with suppress(ValueError, LookupError, TypeError):  # of an earlier version
            told = json.loads(reply.payload)
            allow, deny, answers = (tuple(map(str, told[name])) for name in RULES)
            self._policy = replace(self._plain, allow=allow, deny=deny, answers=answers)
        return True

    async def hear(self) -> bool:
        """Tell whether one of them takes requests, or keeps them for when it will.

        Raises:
            NoServerError, NotAllowedError: it cannot be told.
        """
        if await self.lead():
            return True
        # While the lead changes, those who stand by hear what the next leader begins with.
        try:
            return not await self._are_none() and bool(await self.replicas(STANDBY_PROBE))
        except DisconnectedError:
            raise
        except (NoServerError, NotAllowedError):
            return False

    async def _first(self, answers: Answers) -> Reply | None:
        """Wait for the first answer; None: there is no daemon.

        The server says so at once, unless a stream or anything else listens on the subject.
        """
        await asyncio.wait([answers.first], timeout=QUIET)
        if not answers.first.done() and await self._are_none():
            return None
        reply = await answers.first
        return None if reply.status == NO_RESPONDERS else reply

    async def _are_none(self) -> bool:
        """Tell whether the server says that there is no daemon, of whatever bucket.

        Raises:
            DisconnectedError: the link was lost.
        """
        try:
            return (await self._connection.request(PING, timeout=PROBE)).status == NO_RESPONDERS
        except DisconnectedError:
            raise
        except (NoServerError, NotAllowedError):
            return False  # it cannot be told

    async def require(self) -> None:
        """Make sure that one of them takes requests.

        Raises:
            NoServerError: none does.
        """
        if not await self.hear():
            raise self.missing()

    def missing(self) -> NoServerError:
        """Make the error that says that there is no daemon."""
        return NoServerError(
            f"no daemon listens on {self._subject}: start one with 'gozo serve', or give "
            "its --request-subject"
        )

    async def send(
        self,
        entry: Entry,
        payload: bytes,
        spec: Mapping[str, str],
        *,
        receipt: bool,
        timeout: float,
    ) -> Stored | None:
        """Send a request, its spec as it was given; with a receipt, wait for it.

        Raises:
            RequestError: it was refused, or its receipt would not come.
            UnansweredError: no receipt came.
            NotAllowedError: this user may not publish requests.
            ContradictionError: daemons of different buckets took it, and answered differently.
            DisconnectedError: nothing was sent.
        """
        answers = Answers(self._connection)
        answer, inbox = answers.first, answers.inbox
        if receipt:
            self._policy.check_answer(inbox.decode(), "subject of the receipt")
        with self._connection.failing_if_denied(self._subject, answer):
            self._connection.publish(
                self._subject,
                payload,
                headers=_request_headers(entry, spec, inbox if receipt else b""),
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
        with _readable():
            return _stored(json.loads(reply.payload))

    async def cancel(self, ids: list[str], *, timeout: float) -> list[Cancelled] | None:
        """Cancel ids; None where no daemon takes requests, and nothing was cancelled.

        Raises:
            RequestError, UnansweredError, NotAllowedError, ContradictionError: as for `send`.
        """
        results = await self._for_each("cancel", ids, {}, timeout)
        if results is None:
            return None
        with _readable():
            return [Cancelled(result["id"], result["status"]) for result in results]

    async def pause(self, ids: list[str], note: str, *, timeout: float) -> list[Answer] | None:
        """Pause ids; None where no daemon takes requests.

        Raises:
            RequestError, UnansweredError, NotAllowedError, ContradictionError: as for `send`.
        """
        given: dict[str, object] = {"note": note} if note else {}
        return _answers(await self._for_each("pause", ids, given, timeout))

    async def resume(self, ids: list[str], *, timeout: float) -> list[Answer] | None:
        """Resume ids; None where no daemon takes requests.

        Raises:
            RequestError, UnansweredError, NotAllowedError, ContradictionError: as for `send`.
        """
        return _answers(await self._for_each("resume", ids, {}, timeout))

    async def trigger(self, ids: list[str], *, timeout: float) -> list[Answer] | None:
        """Have ids delivered now; None where no daemon takes requests.

        Raises:
            RequestError, UnansweredError, NotAllowedError, ContradictionError: as for `send`.
        """
        return _answers(await self._for_each("trigger", ids, {}, timeout))

    async def outcome(self, id_: str) -> str | None:
        """Ask how the schedule with an id left the bucket; None where that is not known."""
        results = None
        with suppress(GozoError):  # one may not ask, or nobody answers: nothing is known
            results = await self._for_each("outcome", [id_], {}, PROBE)
        if not results:
            return None
        with _readable():
            status = results[0]["status"]
            return None if status in {"pending", "not_found"} else str(status)

    async def _for_each(
        self, verb: str, ids: list[str], given: dict[str, object], timeout: float
    ) -> list[dict[str, Any]] | None:
        """Call a verb for ids, some at a time; returns the result of each."""
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
                    f"the daemon ended after the {verb} of {len(done)} of {len(ids)} schedules: "
                    "see which are left, and do those again"
                )
            with _readable():
                _check(answer)
                for result in answer["results"]:
                    _check(result)
                    done.append(result)
        if contradiction is not None:
            raise contradiction
        return done

    async def reschedule(self, id_: str, when: str, *, timeout: float) -> Stored | None:
        """Give a schedule another due time; None where no daemon takes requests.

        Raises:
            NotFoundError: there is none.
            RequestError, UnansweredError, NotAllowedError, ContradictionError: as for `send`.
        """
        answer = await self._call("reschedule", {"id": id_, "when": when}, timeout)
        if answer is None:
            return None
        with _readable():
            _check(answer)
            if answer["status"] == "rescheduled":
                return _stored(answer)
            status = answer["status"]
        raise absent(id_, status)

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
                    reply = await self._first(answers)
            await answers.check(self._subject)
        except (TimeoutError, NoServerError) as error:
            raise self._unanswered(f"the {verb}", timeout, error, answers.keeper) from error
        finally:
            answers.close()
        if reply is None:
            return None
        with _readable():
            return cast("dict[str, Any]", json.loads(reply.payload))

    def _unanswered(
        self, what: str, timeout: float, error: Exception, keeper: str = ""
    ) -> UnansweredError:
        why = str(error) or f"no receipt within {timeout:g} s"
        if keeper:
            why += f"; no daemon answered, only the stream {keeper}, which captures gozo's subjects"
        if self._is_silent:
            prefix = self._connection.inbox_prefix
            why += f"; does --allow-answers of the daemon match {prefix}.>?"
        return UnansweredError(f"{what} was sent, and it is unknown whether it was done ({why})")

    async def rivals(self, wait: float) -> list[Rival]:
        """Listen for `wait` seconds for leaders; longer if there are several.

        Raises:
            NoServerError, NotAllowedError: as for `Connection.request`.
        """
        found = await find_rivals(self._connection, self._subject, wait)
        rivals = (Rival(one.name, one.bucket, one.domain, one.server) for one in found)
        return sorted(rivals, key=lambda rival: rival.name)

    async def replicas(self, wait: float) -> list[Replica]:
        """Hear for `wait` seconds who there is; by name.

        Raises:
            NoServerError, NotAllowedError: as for `Connection.request`.
        """
        found: list[Replica] = []

        def on_answer(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
            try:
                answer = json.loads(payload)
                told = answer["metadata"]
                if (told["request_subject"], told["bucket"]) == (self._subject, self._bucket):
                    found.append(_replica(answer))
            except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
                return  # of another kind, or another version

        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        inbox = self._connection.new_inbox()
        listener = self._connection.listen(inbox, on_answer)
        try:
            with self._connection.failing_if_denied(STATS, answer):
                self._connection.publish(STATS, reply=inbox)
                await self._connection.echo()
                if answer.done():
                    answer.result()
            await asyncio.sleep(wait)
        finally:
            listener.stop()
        return sorted(found, key=lambda replica: replica.name)


@contextmanager
def _readable() -> Iterator[None]:
    """Take an answer that is not gozo's for none."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise UnansweredError(
            f"something else than gozo answered on its subjects ({error!r}): it is unknown "
            "whether it was done"
        ) from error


def absent(id_: str, status: str) -> NotFoundError:
    """Make the error that says that there is no schedule with an id."""
    if status == "already_delivered":
        return NotFoundError(f"the schedule {id_!r} was delivered already", status)
    return NotFoundError(f"there is no schedule {id_!r}")


def _answers(results: list[dict[str, Any]] | None) -> list[Answer] | None:
    if results is None:
        return None
    with _readable():
        return [Answer(one["id"], one["status"], str(one.get("reason", ""))) for one in results]


def _request_headers(entry: Entry, spec: Mapping[str, str], receipt: bytes) -> bytes:
    lines = [b"Gozo-When: %b" % entry.when.encode()]
    lines += [f"{name}: {value}".encode() for name, value in spec.items()]
    if entry.id is not None:
        lines.append(b"Gozo-Id: %b" % entry.id.encode())
    if receipt:
        lines.append(b"Gozo-Receipt: %b" % receipt)
    if entry.confirm:
        lines.append(b"Gozo-Confirm: stream")
        if entry.attempts:
            lines.append(b"Gozo-Attempts: %d" % entry.attempts)
    return FIRST_LINE + b"".join(line + END for line in lines) + entry.headers + END


def _portions(ids: list[str], largest: int) -> Iterator[list[str]]:
    """Split ids so that each call, and its answer, fit into `largest` bytes."""
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


def _check(answer: dict[str, Any]) -> None:
    """Raise the error that an answer tells of, if it does."""
    if answer.get("unknown") is True:
        raise UnansweredError(str(answer.get("message", answer)))
    if answer.get("status") == "refused":
        code = answer.get("error", "")
        known = Refusal(code) if code in set(Refusal) else Refusal.INVALID_REQUEST
        raise RequestError(known, str(answer.get("message", answer)))


def _stored(answer: dict[str, Any]) -> Stored:
    _check(answer)
    due = moment_of_epoch(answer["due_epoch"])
    return Stored(answer["id"], due, bool(answer["replaced"]))


def _replica(answer: dict[str, Any]) -> Replica:
    """Read an answer, which may be of somebody who only says that it is a daemon."""
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


def _shown(id_: str | None) -> str:
    return "a schedule without id" if id_ is None else repr(id_)
