"""A stream that keeps what is sent to gozo answers first; nobody takes that for gozo's answer."""

from __future__ import annotations

import signal

import pytest

from gozo.client import Client as Schedules
from gozo.errors import NoServerError, UnansweredError
from gozo.transport.commands import keeper_of
from tests.support.places import LATER
from tests.support.processes import Clients, Daemons, Servers
from tests.support.storage import call

NO_STREAMS = ("--outcomes", "0")
"""Without streams of gozo's own, which no other stream may overlap."""


async def test_each_verb(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Each verb has the daemon's answer, with a stream over its subjects."""
    server = servers.start()
    await daemons.serve(server, *NO_STREAMS)
    client = await clients.connect(server)
    keeper = {"name": "ALL", "subjects": ["gozo", "gozo.>"]}
    await call(client, "STREAM.CREATE.ALL", keeper)
    async with await Schedules.connect(server.url) as gozo:
        stored = await gozo.request("to", b"x", when=LATER, id="a", receipt=True)
        assert stored is not None
        assert stored.id == "a"
        assert [one.status for one in await gozo.pause("a")] == ["paused"]
        assert [one.status for one in await gozo.resume("a")] == ["resumed"]
        await gozo.reschedule("a", "+1000")
        assert [one.status for one in await gozo.trigger("a")] == ["triggered"]
        await gozo.schedule("to", b"x", when=LATER, id="b")
        assert [one.status for one in await gozo.cancel("b", "c")] == ["cancelled", "not_found"]
        assert [one.role for one in await gozo.replicas()] == ["leader"]
        assert (await gozo.rivals()) == []
    kept = (await call(client, "STREAM.INFO.ALL"))["state"]["messages"]
    assert kept >= 6  # so it has answered all of them


@pytest.mark.parametrize("who", ["stream", "mute stream", "subscriber"])
async def test_without_a_daemon(servers: Servers, clients: Clients, who: str) -> None:
    """What else listens on gozo's subjects does not stand for a daemon: the bucket is changed."""
    server = servers.start()
    client = await clients.connect(server)
    if who == "subscriber":
        await client.nats.subscribe("gozo.>")
        await client.nats.subscribe("gozo")
    else:
        keeper = {"name": "ALL", "subjects": ["gozo", "gozo.>"], "no_ack": who == "mute stream"}
        await call(client, "STREAM.CREATE.ALL", keeper)
    async with await Schedules.connect(server.url) as gozo:
        await gozo.schedule("to", b"x", when=LATER, id="a")  # into the bucket
        assert await gozo.get("a") is not None
        with pytest.raises(NoServerError, match="no daemon listens on gozo"):
            await gozo.request("to", b"x", when=LATER, id="b")
        assert [one.status for one in await gozo.pause("a")] == ["paused"]
        assert [one.status for one in await gozo.resume("a")] == ["resumed"]
        assert (await gozo.reschedule("a", "+1000")).id == "a"
        with pytest.raises(NoServerError, match="no daemon listens on gozo"):
            await gozo.trigger("a")
        assert [one.status for one in await gozo.cancel("a", "b")] == ["cancelled", "not_found"]
        assert await gozo.get("a") is None


async def test_a_frozen_daemon(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """While one is there that does not answer, what the stream says is no leave to write."""
    server = servers.start()
    daemon = await daemons.serve(server, *NO_STREAMS)
    client = await clients.connect(server)
    await call(client, "STREAM.CREATE.ALL", {"name": "ALL", "subjects": ["gozo", "gozo.>"]})
    async with await Schedules.connect(server.url) as gozo:
        await gozo.schedule("to", b"x", when=LATER, id="a")
        daemon.send(signal.SIGSTOP)
        with pytest.raises(UnansweredError, match="no daemon answered, only the stream ALL"):
            await gozo.cancel("a", timeout=0.4)
        assert await gozo.get("a") is not None
        daemon.send(signal.SIGCONT)


@pytest.mark.parametrize(
    ("payload", "stream"),
    [
        (b'{"stream":"ALL", "seq":7}', "ALL"),
        (b'{"stream":"ALL","domain":"hub","seq":7,"duplicate":true}', "ALL"),
        (b'{"error":{"code":503,"err_code":10077,"description":"full"},"stream":"A","seq":0}', "A"),
        (b'{"status":"stored","id":""stream" "seq"","due_epoch":1}', ""),
        (b'{"results":[{"id":"stream"},{"id":"seq"}]}', ""),
        (b'["stream", "seq"]', ""),
        (b'"stream" "seq"', ""),
        (b"", ""),
        (None, ""),
    ],
)
def test_what_a_stream_answers(payload: bytes | None, stream: str) -> None:
    """Its acknowledgement is known for what it is, and no answer of gozo's is taken for one."""
    assert keeper_of(payload) == stream
