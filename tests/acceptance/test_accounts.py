"""Clients in another account than the daemon's: what reaches them, and what is refused."""

from __future__ import annotations

import json

from tests.support.client import Client
from tests.support.documented import documented_accounts
from tests.support.metrics import scrape, serve
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.server import NatsServer

PASSWORD = "change_me"  # noqa: S105

IMPORTS_A_SERVICE = """
  OTHER {
    users: [ { user: other, password: change_me } ]
    imports: [ { service: { account: GOZO, subject: "gozo" } } ]
  }
}
"""


def with_a_service() -> str:
    """Return these and one more, which imports requests as a service."""
    exported = 'accounts: [ APP ] }, { service: "gozo", accounts: [ OTHER ] } ]'
    text = documented_accounts().replace("accounts: [ APP ] } ]", exported)
    assert exported in text
    return text.rstrip().removesuffix("}") + IMPORTS_A_SERVICE


CANNOT_WORK = {
    "id": {"Gozo-When": "+1", "Gozo-Id": "a"},
    "recurring": {"Gozo-When": "@every 1s", "Gozo-Id": "b"},
    "receipt": {"Gozo-When": "+1", "Gozo-Receipt": "app.receipt"},
    "far ahead": {"Gozo-When": "+61"},
    "confirmed": {"Gozo-When": "+1", "Gozo-Confirm": "stream"},
    "cancel with receipt": {"Gozo-Del-Id": "a", "Gozo-Receipt": "app.receipt"},
}


async def connected(clients: Clients, server: NatsServer, user: str) -> Client:
    """Connect as the user of one account."""
    return await clients.connect(server, user=user, password=PASSWORD)


async def test_stream_import(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Where the daemon's account imports requests as a stream, a client there can do anything.

    With an id, recurring, with a receipt, and over a restart of the server.
    """
    server = servers.start(documented_accounts())
    await daemons.serve(server, "--user", "gozo", "--password", PASSWORD)
    app = await connected(clients, server, "app")
    jobs, receipts = await app.arrivals("app.jobs"), await app.arrivals("app.receipts")

    async def ask(when: str, id_: str, payload: bytes) -> None:
        headers = {"Gozo-When": when, "Gozo-Id": id_, "Gozo-Receipt": "app.receipts"}
        await app.send(headers, reply="app.jobs", payload=payload)

    await ask("@every 1s", "often", b"often")
    await ask("+600", "later", b"later")
    await receipts.wait(2)
    assert [json.loads(data)["status"] for data in receipts.payloads] == ["stored", "stored"]
    await jobs.wait(2)
    assert set(jobs.payloads) == {b"often"}
    await app.cancel("often")
    server.restart()
    await app.confirm()
    await ask("+0", "later", b"now")

    async def came() -> bool:
        return b"now" in jobs.payloads

    await until(came, "what was asked for after the restart")


async def test_service_import(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Through a service import comes what can arrive; all else is refused, and not counted."""
    server = servers.start(with_a_service())
    login = ("--user", "gozo", "--password", PASSWORD)
    daemon, port = await serve(daemons, server, *login, "--events")
    own, other = [await connected(clients, server, user) for user in ("gozo", "other")]
    told = await own.arrivals("gozo.event.>")
    inbox = await other.arrivals()
    for headers in CANNOT_WORK.values():
        await other.send(headers, reply=inbox.subject, payload=b"no")
    await told.wait(len(CANNOT_WORK))
    events = [json.loads(data) for data in told.payloads]
    assert {event["type"] for event in events} == {"gozo.event.v1.refused"}
    reasons = [event["message"] for event in events]
    assert all("import gozo as a stream" in reason for reason in reasons)
    assert len(set(reasons)) == len(CANNOT_WORK) - 1  # a receipt is a receipt
    assert "import gozo as a stream" in (await daemon.event("request.refused")).line
    figures = await scrape(port)
    assert figures["gozo_requests_refused_total{reason=forbidden_subject}"] == len(CANNOT_WORK)
    await other.send({"Gozo-When": "+0.1"}, reply=inbox.subject, payload=b"yes")
    await other.send({"Gozo-When": "+0.2"}, reply=inbox.subject, payload=b"again")
    await inbox.wait(2)
    assert inbox.payloads == [b"yes", b"again"]
    assert await own.stored() == 1  # the barrier
