"""Steady streams of requests: with an id, without, identical, cancelled, and recurring ones.

A request counts from when an echo, published behind it on the same connection, has come back on
the same link: then the server has had it. Whether it was heard is up to gozo.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Any, Self

from nats import errors as nats_errors
from nats.aio.msg import Msg

from tests.support.account import Account, Expected, reckon, reckon_identical, total
from tests.support.client import Arrival, Client
from tests.support.load import ANSWER, Load
from tests.support.patience import allow, until

MARGIN = 0.5  # seconds before it is due after which a cancel is not asked for any more


class Kind(Enum):
    """What a request says."""

    WITH_ID = "with id"
    WITHOUT_ID = "without id"
    CANCELLED = "cancelled"
    """With an id, and at once another one that cancels it."""


MIXED = (Kind.CANCELLED, Kind.WITH_ID, Kind.WITHOUT_ID, Kind.WITH_ID, Kind.WITHOUT_ID)


class Requests(Load):
    """Sends requests, and nobody answers them; of different kinds by turns."""

    def __init__(
        self, sender: Client, receiver: Client, *, kinds: Sequence[Kind] = MIXED, **options: Any
    ) -> None:
        super().__init__(sender, receiver, **options)
        self._kinds = kinds
        self._echo = sender.nats.new_inbox()
        self._sent: dict[int, Expected] = {}
        self._links: dict[int, int] = {}
        """On which of the sender's links each was sent whose echo is not back."""
        self._cancels: dict[int, float] = {}
        """When each was cancelled."""

    async def __aenter__(self) -> Self:
        await self._sender.nats.subscribe(
            self._echo, cb=self._on_echo, pending_msgs_limit=0, pending_bytes_limit=0
        )
        return await super().__aenter__()

    async def finish(self, patience: float = 10) -> Account:
        """Wait for the echoes first."""
        assert self._making is not None
        self._making.cancel()
        with contextlib.suppress(AssertionError):  # where the link broke, none comes
            await until(lambda: not self._links, "the echoes are back", allow(0.5))
        return await super().finish(patience)

    def expected(self) -> dict[int, Expected]:
        """Return what is to arrive, and what may."""
        return self._sent

    def account(self) -> Account:
        """Add up; a cancel may be unheard that was sent when the leader's connection broke."""
        repeating = [fault for fault in self.faults.all if fault.repeats]
        self.cancelled = {
            number
            for number, sent in self._cancels.items()
            if not any(fault.covers(sent) for fault in repeating)
        }
        return super().account()

    def _awaited(self) -> set[int]:
        """Those that were certainly heard."""
        deaf = self.faults.deaf()
        return {number for number in self.due if self._sent[number].sent not in deaf}

    def _is_complete(self) -> bool:
        self.taken()
        return self._arrived >= self._awaited()

    @property
    def _link(self) -> int:
        return self._sender.nats.stats["reconnects"]

    async def _create(self, number: int, due: float) -> None:
        kind = self._kinds[number % len(self._kinds)]
        headers = self._headers | {"Gozo-When": f"{due:.6f}"}
        if kind is not Kind.WITHOUT_ID:
            headers["Gozo-Id"] = self._id(number)
        if kind is Kind.CANCELLED:
            self._cancels[number] = time.time()
            await self._publish(b"%d" % number, headers)
            await self._sender.nats.publish("gozo", headers={"Gozo-Del-Id": self._id(number)})
        else:
            await self._request(number, due, b"%d" % number, headers)

    async def _request(
        self, number: int, due: float, payload: bytes, headers: dict[str, str]
    ) -> None:
        """Send one, and an echo behind it."""
        self._sent[number] = Expected(
            due,
            time.time(),
            counts=False,
            is_request=True,
            has_own_key=bool(self._stream) and "Gozo-Id" not in headers,
        )
        if self._sender.nats.is_connected:
            self._links[number] = self._link
        await self._publish(payload, headers)
        await self._sender.nats.publish(self._echo, b"%d" % number)

    async def _publish(self, payload: bytes, headers: dict[str, str]) -> None:
        await self._sender.nats.publish("gozo", payload, self._subject, headers)

    async def _on_echo(self, message: Msg) -> None:
        number = int(message.data)
        if self._links.pop(number, None) == self._link:
            sent = self._sent[number]
            self._sent[number] = replace(sent, counts=True)
            self.due[number] = sent.due
            self.acknowledged[number] = sent.sent


class Identical(Requests):
    """Sends requests without an id that are the same byte for byte, `group` of them in a row.

    They are told apart by nothing, so an account only counts them.
    """

    def __init__(self, sender: Client, receiver: Client, *, group: int = 200, **options: Any):
        super().__init__(sender, receiver, **options)
        self._group = group

    def account(self) -> Account:
        """Add up the groups."""
        expected: defaultdict[int, list[Expected]] = defaultdict(list)
        for number, one in self._sent.items():
            expected[number // self._group].append(one)
        came: defaultdict[int, list[float]] = defaultdict(list)
        for group, at in self.taken():
            came[group].append(at)
        return total(
            reckon_identical(f"group {group}", expected[group], came[group], self.faults)
            for group in sorted(expected)
        )

    def _is_complete(self) -> bool:
        # A whole account takes seconds of a long run, and the proxies of the test wait for it.
        came = Counter(group for group, _ in self.taken())
        awaited = Counter(number // self._group for number in self._awaited())
        return all(came[group] >= count for group, count in awaited.items())

    async def _create(self, number: int, due: float) -> None:
        headers = self._headers | {"Gozo-When": f"+{self._ahead:g}"}
        await self._request(number, due, b"%d" % (number // self._group), headers)


class Cancels(Load):
    """Stores schedules and cancels each; what counts is cancelled ones, answered before their time.

    Of those for which no such answer came nothing is expected.
    """

    def expected(self) -> dict[int, Expected]:
        """Return those that may arrive."""
        return {
            number: Expected(due, self.acknowledged[number], counts=False)
            for number, due in self.due.items()
        }

    def account(self) -> Account:
        """Count those that were cancelled."""
        account = super().account()
        cancelled = len(self.cancelled)
        return Account(
            created=cancelled,
            delivered=0,
            lost=0,
            twice=account.twice,
            unexplained=account.unexplained,
            early=account.early,
            latest=account.latest,
            revived=account.revived,
            findings=account.findings,
        )

    def _is_complete(self) -> bool:
        return True

    async def _create(self, number: int, due: float) -> None:
        await super()._create(number, due)
        headers = {"Gozo-Del-Id": self._id(number)}
        while time.time() < due - MARGIN:
            inbox = self._sender.nats.new_inbox()
            receipts = await self._sender.nats.subscribe(inbox)
            try:
                await self._sender.nats.publish("gozo", headers=headers | {"Gozo-Receipt": inbox})
                answer = json.loads((await receipts.next_msg(timeout=ANSWER)).data)
            except nats_errors.Error:
                continue
            finally:
                await receipts.unsubscribe()
            if answer.get("status") == "cancelled" and time.time() < due:
                self.cancelled.add(number)
            elif answer.get("status") != "refused":
                return
            else:
                await asyncio.sleep(0.2)
                continue
            return


EACH = 1_000_000
"""More occurrences than one schedule comes to: the numbers of the next begin there."""


IRREGULAR = -1
"""The number of those whose occurrence and due time do not go together: they are none of it."""


class Recurring(Load):
    """Stores schedules that recur, and expects all of their occurrences, each once.

    They are told apart by `Gozo-Occurrence`, and are due an interval apart, by `Gozo-Due`.
    """

    def __init__(
        self,
        sender: Client,
        receiver: Client,
        *,
        schedules: int = 20,
        interval: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(sender, receiver, rate=schedules / interval, **options)
        self._headers |= {"Gozo-Misfire": "all"}
        self._schedules = schedules
        self._interval = interval
        self._first: dict[int, float] = {}
        """When the first occurrence of each schedule was due."""
        self._end = float("inf")

    async def finish(self, patience: float = 10) -> Account:
        """Expect what is due by now."""
        self._end = time.time()
        return await super().finish(patience)

    def expected(self) -> dict[int, Expected]:
        """Return the occurrences that are due until the end, or until now."""
        self.taken()
        end = min(self._end, time.time())
        found = {}
        for schedule, stored in self.acknowledged.items():
            first = self._first.get(schedule)
            if first is None:
                found[schedule * EACH + 1] = Expected(stored, stored)
                continue
            for occurrence in range(int((end - first) / self._interval) + 1):
                due = first + occurrence * self._interval
                found[schedule * EACH + occurrence + 1] = Expected(due, stored)
        return found

    def account(self) -> Account:
        """Add up the occurrences until the end."""
        expected = self.expected()
        return reckon(
            expected,
            ((number, at) for number, at in self.taken() if number in expected),
            self.faults,
        )

    def _number(self, arrival: Arrival) -> int:
        schedule, occurrence = int(arrival.data), int(arrival.headers["Gozo-Occurrence"])
        due = datetime.fromisoformat(arrival.headers["Gozo-Due"]).timestamp()
        first = self._first.setdefault(schedule, due - (occurrence - 1) * self._interval)
        if abs(first + (occurrence - 1) * self._interval - due) > 0.002:
            return IRREGULAR
        return schedule * EACH + occurrence

    def _is_complete(self) -> bool:
        self.taken()
        return self._arrived >= self.expected().keys()

    async def _make(self) -> None:
        for number in range(self._schedules):
            await self._store(number, f"@every {self._interval:g}s")
            self.acknowledged[number] = time.time()
            await asyncio.sleep(self._interval / self._schedules)
