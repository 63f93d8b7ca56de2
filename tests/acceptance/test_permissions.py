"""Rights that a server withholds from gozo's user: told at the start, survived later."""

from __future__ import annotations

import signal
import time

import pytest

from tests.support.client import Client
from tests.support.patience import allow
from tests.support.processes import Clients, Daemons, Servers
from tests.support.server import NatsServer

NOT_ALLOWED = 4
LOGIN = ("--user", "gozo", "--password", "p")


def withholding(kind: str, *subjects: str) -> str:
    """Return a server's configuration: a user `gozo` without these rights, and an `admin`."""
    denied = ", ".join(f'"{subject}"' for subject in subjects)
    return f"""
        authorization {{
            users: [
                {{ user: admin, password: p }}
                {{ user: gozo, password: p, permissions: {{ {kind}: {{ deny: [{denied}] }} }} }}
            ]
        }}
    """


def grant(server: NatsServer, subject: str) -> None:
    """Give the user `gozo` the right to one of the subjects, while the server runs."""
    path = server.folder / "nats.conf"
    path.write_text(path.read_text().replace(f'"{subject}"', '"nothing"'))
    server._running().send_signal(signal.SIGHUP)


async def admin(clients: Clients, server: NatsServer) -> Client:
    """Connect as somebody who may do anything."""
    return await clients.connect(server, user="admin", password="p")  # noqa: S106


MISSING = {
    "JetStream": ("publish", "$JS.API.>", "$JS.API."),
    "reading the bucket": ("publish", "$JS.API.CONSUMER.>", "$JS.API.CONSUMER."),
    "creating the bucket": ("publish", "$JS.API.STREAM.CREATE.>", "$JS.API.STREAM.CREATE.KV_gozo"),
    "writing to the bucket": ("publish", "$KV.gozo.>", "$KV.gozo."),
    "the lease": ("publish", "$KV.gozo_lease.>", "$KV.gozo_lease."),
    "requests": ("subscribe", "gozo", "gozo"),
    "answers": ("subscribe", "_INBOX.>", "_INBOX."),
}


@pytest.mark.parametrize("missing", MISSING)
async def test_missing_at_the_start(servers: Servers, daemons: Daemons, missing: str) -> None:
    """Without a right that it needs it does not start: 4, and a sentence with verb and subject."""
    kind, subject, shown = MISSING[missing]
    server = servers.start(withholding(kind, subject))
    began = time.monotonic()
    daemon = daemons.start("serve", "--address", server.url, *LOGIN)
    assert await daemon.wait(allow(3)) == NOT_ALLOWED
    assert time.monotonic() - began < allow(2)
    said = daemon.stderr.splitlines()[-1]
    assert said.startswith("gozo: ")
    assert kind in said
    assert shown in said


async def test_target(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """A target on which gozo may not publish holds nothing else up.

    It is logged, kept, tried again, and sent once when the right is granted.
    """
    server = servers.start(withholding("publish", "closed.*"))
    daemon = await daemons.serve(server, *LOGIN)
    client = await admin(clients, server)
    closed, opened = await client.arrivals("closed.door"), await client.arrivals("open.door")
    due = time.time() + 0.5
    for number in range(100):
        await client.schedule(due, reply=closed, id=f"closed{number}", payload=b"%d" % number)
        await client.schedule(due, reply=opened, id=f"open{number}", payload=b"%d" % number)
        await client.schedule(due, reply=opened, payload=b"without id")
    await opened.wait(200)
    postponed = await daemon.event("delivery.postponed")
    assert "publish" in postponed.fields["reason"]
    assert closed.all == []
    bucket = await client.nats.jetstream().key_value("gozo")
    for number in range(100):
        assert (await bucket.get(f"closed{number}")).value == b"%d" % number

    grant(server, "closed.*")
    await closed.wait(100)
    assert await daemon.terminate() == 0
    await client.confirm()
    assert sorted(closed.payloads, key=int) == [b"%d" % number for number in range(100)]
    assert len(opened.all) == 200


async def test_unreadable(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """A message that cannot be read is tried again every second: who elects is soon back."""
    reading = ("$JS.API.DIRECT.GET.KV_gozo", "$JS.API.STREAM.MSG.GET.KV_gozo")
    server = servers.start(withholding("publish", *reading))
    daemon = await daemons.serve(server, *LOGIN)
    client = await admin(clients, server)
    headers = {"Gozo-When": "+0", "Gozo-Subject": "open.door"}
    opened = await client.arrivals("open.door")
    await client.nats.request("$KV.gozo.unreadable", b"x", headers=headers)
    postponed = await daemon.event("delivery.postponed", attempts="5")
    assert postponed.fields["wait_s"] == "1"
    for subject in reading:
        grant(server, subject)
    await opened.wait()
    assert await daemon.terminate() == 0
    assert opened.payloads == [b"x"]
