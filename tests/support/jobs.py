"""Deliveries that wait for an answer, which the test gives itself."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any, Self

from nats.aio.msg import Msg

from tests.support.client import Client
from tests.support.patience import allow
from tests.support.receipts import ask, entry_of


class Jobs:
    """The messages that arrive on a subject, by default one of its own, in order."""

    def __init__(self, client: Client, subject: str = "") -> None:
        self.subject = subject or f"jobs.{uuid.uuid4().hex}"
        self.all: list[Msg] = []
        self._client = client
        self._news = asyncio.Event()

    @classmethod
    async def listen(cls, client: Client) -> Self:
        """Subscribe."""
        jobs = cls(client)
        await client.nats.subscribe(jobs.subject, cb=jobs.take)
        await client.confirm()
        return jobs

    async def take(self, message: Msg) -> None:
        """Record a message: the subscription's callback."""
        self.all.append(message)
        self._news.set()

    async def wait(self, count: int) -> Msg:
        """Wait until this many have arrived, and return the last one."""
        async with asyncio.timeout(allow(10)):
            while len(self.all) < count:
                self._news.clear()
                await self._news.wait()
        return self.all[count - 1]

    async def answer(self, job: Msg, words: bytes = b"+ACK") -> bytes:
        """Answer a delivery, and return what gozo replies."""
        return (await self._client.nats.request(job.reply, words, timeout=allow(5))).data

    async def store(self, id_: str, when: str = "@every 1h", **more: str) -> None:
        """Store a schedule that is sent here and confirmed by an answer."""
        headers = {"Gozo-Id": id_, "Gozo-When": when, "Gozo-Confirm": "reply"} | {
            name.replace("_", "-"): value for name, value in more.items()
        }
        receipt = await ask(self._client, headers, reply=self.subject, payload=b"job")
        assert receipt["status"] == "stored", receipt


async def call(client: Client, verb: str, *ids: str, **more: object) -> list[dict[str, Any]]:
    """Send an administrative request for ids, and return the results."""
    body = json.dumps({"ids": ids, **more}).encode()
    answer = await client.nats.request(f"gozo.admin.{verb}", body, timeout=allow(5))
    results: list[dict[str, Any]] = json.loads(answer.data)["results"]
    return results


async def call_one(client: Client, verb: str, id_: str, **more: object) -> dict[str, Any]:
    """Send an administrative request for one id, and return its result."""
    (result,) = await call(client, verb, id_, **more)
    return result


async def runs(client: Client, id_: str) -> list[dict[str, str]]:
    """Read the entries of all runs of a schedule."""
    request = json.dumps({"subjects_filter": f"$KV.gozo.=_run.{id_}.*"}).encode()
    answer = await client.nats.request("$JS.API.STREAM.INFO.KV_gozo", request, timeout=allow(5))
    subjects = json.loads(answer.data)["state"].get("subjects") or {}
    found = [await entry_of(client, subject.removeprefix("$KV.gozo.")) for subject in subjects]
    return [one for one in found if "KV-Operation" not in one]
