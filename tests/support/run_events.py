"""The events of one schedule, and its runs in the bucket."""

from __future__ import annotations

import json
from typing import Any, Self

from nats.aio.msg import Msg

from tests.support.client import Client
from tests.support.patience import until
from tests.support.receipts import entry_of
from tests.support.storage import call


class RunEvents:
    """The events of one id."""

    def __init__(self, client: Client, id_: str) -> None:
        self.all: list[dict[str, Any]] = []
        self._client = client
        self._id = id_

    @classmethod
    async def listen(cls, client: Client, id_: str) -> Self:
        """Note events from now on; the daemon needs `--events`."""
        events = cls(client, id_)
        await client.nats.subscribe(f"gozo.event.*.{id_}", cb=events._take)
        await client.confirm()
        return events

    async def _take(self, message: Msg) -> None:
        self.all.append(json.loads(message.data))

    @property
    def kinds(self) -> list[str]:
        """Return the kinds of the events, in order."""
        return [event["type"].rpartition(".")[2] for event in self.all]

    async def find(self, kind: str) -> dict[str, Any]:
        """Wait for the first event of a kind."""
        await until(lambda: kind in self.kinds, f"{kind} of {self._id}; there were {self.kinds}")
        return self.all[self.kinds.index(kind)]

    async def runs(self) -> list[str]:
        """Return the keys of the runs of the id."""
        prefix = "$KV.gozo."
        asked = {"subjects_filter": f"{prefix}=_run.{self._id}.*"}
        info = await call(self._client, "STREAM.INFO.KV_gozo", asked)
        subjects = info["state"].get("subjects") or {}
        keys = [subject.removeprefix(prefix) for subject in subjects]
        entries = {key: await entry_of(self._client, key) for key in keys}
        return [key for key, entry in entries.items() if "KV-Operation" not in entry]

    async def states(self) -> list[str]:
        """Return the states of these runs."""
        entries = [await entry_of(self._client, key) for key in await self.runs()]
        return [entry.get("Gozo-State", "pending") for entry in entries]

    async def wait_for_run(self, state: str) -> list[str]:
        """Wait until there are runs and all are in a state; return their keys."""

        async def is_so() -> bool:
            return set(await self.states()) == {state}

        await until(is_so, f"runs of {self._id} are {state}")
        return await self.runs()
