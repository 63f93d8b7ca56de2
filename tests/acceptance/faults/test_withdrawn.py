"""A leader loses the lead before it knows what is stored: another one does what it had begun."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from tests.support.account import Account
from tests.support.batches import BATCH, account
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.proxy import Mode
from tests.support.replicas import behind_proxy
from tests.support.requests import Kind, Requests
from tests.support.rights import LOGIN, admin, grant, withdraw, withholding
from tests.support.rounds import Note

ENTRIES = "$KV.gozo.>"
AHEAD = 10.0  # seconds: all is due after another replica has taken over
RATE = 300  # requests a second
REST = 2.0  # seconds after which the former leader has tried everything again
CONFIRMED = {"Gozo-Confirm": "reply", "Gozo-Ack-Wait": "60s"}
KINDS = (Kind.WITH_ID, Kind.WITHOUT_ID, Kind.CANCELLED)


async def test_the_bucket_is_withheld(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """What it has not stored the next leader stores; it does not either, when it may again."""
    for _ in range(rounds):
        server = servers.start(withholding("publish", f"granted.{ENTRIES}"))
        sender, receiver = await admin(clients, server), await admin(clients, server)
        receipts = await receiver.arrivals()
        one = await daemons.serve(server, *LOGIN)
        other = await daemons.serve(server, "--user", "admin", "--password", "p")
        headers = {"Gozo-Receipt": receipts.subject}
        load = Requests(sender, receiver, kinds=KINDS, rate=RATE, ahead=AHEAD, headers=headers)
        async with load:
            await load.created(RATE)
            withdraw(server, ENTRIES)
            await one.event("daemon.stepping_down")
            await other.event("daemon.leading")
            await load.created(RATE)
            mark = one.mark()
            grant(server, ENTRIES)
            await asyncio.sleep(REST)
            assert await other.terminate() == 0
            await one.event("daemon.leading", since=mark)
            await load.created(RATE)
            result = await load.finish(AHEAD)
        note(result)


async def test_the_answers_do_not_come(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """What it stored without knowing is removed, since the next leader stores it as well.

    Confirmed requests are stored under the same key by both, and stay.
    """

    async def run(more: dict[str, str]) -> Account:
        async with behind_proxy(servers, daemons, clients) as pair:
            sender, arrivals, proxy, one, other = pair
            receipts = await sender.arrivals()
            proxy.be(Mode.DEAF, only="one")
            headers = more | {"Gozo-When": f"+{AHEAD:g}", "Gozo-Receipt": receipts.subject}
            sent = Counter(b"%d" % number for number in range(BATCH))
            for payload in sent:
                await sender.send(headers, reply=arrivals.subject, payload=payload)
            js = sender.nats.jetstream()

            async def all_stored() -> bool:
                return (await js.stream_info("KV_gozo")).state.messages >= BATCH

            await until(all_stored, "they are stored")
            proxy.be(Mode.HOLD)
            proxy.cut()
            await other.event("daemon.leading")
            await receipts.wait(BATCH)
            assert not any(json.loads(receipt)["replaced"] for receipt in receipts.payloads)
            proxy.be(Mode.PASS)
            proxy.cut()
            await one.event("handover.requests_dropped")
            return await account(arrivals, sent, AHEAD)

    for _ in range(rounds):
        for result in await asyncio.gather(run({}), run(CONFIRMED)):
            note(result)
