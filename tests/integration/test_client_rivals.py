"""What `gozo.client` makes of several leaders that answer one question."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nats.aio.msg import Msg

from gozo.client import Client, ContradictionError
from tests.support.client import Client as Plain
from tests.support.processes import Clients, Servers


async def _leads(client: Plain, verb: str, *answers: dict[str, Any]) -> None:
    """Answer calls of a verb, each answer as if another leader gave it."""

    async def answer(message: Msg) -> None:
        for one in answers:
            await message.respond(json.dumps(one).encode())

    await client.nats.subscribe(f"gozo.admin.{verb}", cb=answer)
    await client.confirm()


def _said(status: str, *, by: str = "", rivals: tuple[str, ...] = ()) -> dict[str, Any]:
    signed = {"leader": by, "rivals": list(rivals)} if rivals else {}
    return {"results": [{"id": "a", "status": status}]} | signed


async def test_answers_of_rivals(servers: Servers, clients: Clients) -> None:
    """The first is taken where no leader knows of another; else all are heard, and must agree."""
    server = servers.start(jetstream=False)
    plain = await clients.connect(server)
    one, two = ("one", ("two",)), ("two", ("one",))
    done, nothing = "cancelled", "not_found"
    await _leads(plain, "cancel", _said(nothing, by=one[0], rivals=one[1]), _said(done))
    await _leads(
        plain,
        "pause",
        _said("paused", by=one[0], rivals=one[1]),
        _said("paused", by=two[0], rivals=two[1]),
    )
    await _leads(plain, "resume", _said(nothing), _said("resumed"))
    await _leads(plain, "trigger", _said("triggered", by=one[0], rivals=one[1]))
    async with await Client.connect(server.url) as client:
        with pytest.raises(ContradictionError) as raised:
            await client.cancel("a")
        words = str(raised.value)
        assert "one answered not_found for 'a', and another answered cancelled for 'a'" in words
        assert "--request-subject" in words
        assert [answer.status for answer in await client.pause("a")] == ["paused"]
        assert [answer.status for answer in await client.resume("a")] == [nothing]
        # One that knows of a rival, which does not answer in time.
        assert [answer.status for answer in await client.trigger("a")] == ["triggered"]
