"""A leader that cannot serve gives way to a replica that can; where none can, all tell so."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.account import Account
from tests.support.daemon import Daemon
from tests.support.gozoctl import Gozoctl
from tests.support.metrics import get, serve
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.proxy import Mode, Proxy
from tests.support.replicas import start
from tests.support.requests import Kind, Requests
from tests.support.rights import LOGIN, admin, grant, withdraw, withholding
from tests.support.rounds import Note
from tests.support.storage import call

RATE = 50  # requests a second
NO_ANSWER, FAILED = 5, 1
REQUESTS = " requests"
"""What the name of a daemon's connection for requests ends with."""


async def test_a_leader_without_requests(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """Its connection for requests is refused, or silent: a standby has heard them, and acts."""

    async def run(mode: Mode) -> Account:
        server, sender, receiver = await start(servers, clients)
        async with Proxy(server.port) as proxy:
            leader = await daemons.serve(proxy.url)
            standby = await daemons.serve(server)
            async with Requests(sender, receiver, rate=RATE, ahead=0.5) as load:
                for number in range(rounds):
                    if number:
                        # The one that came back leads again.
                        leader, standby = await again(daemons, leader, standby)
                    await load.delivered(50)
                    marks = leader.mark(), standby.mark()
                    load.faults.note(mode.name)
                    proxy.be(mode, only=REQUESTS)
                    given = await leader.event("daemon.stepping_down", since=marks[0])
                    assert "requests connection" in given.fields["reason"]
                    await standby.event("daemon.leading", since=marks[1])
                    mark = leader.mark()
                    proxy.be(Mode.PASS)
                    await leader.event("connection.made", since=mark)
                    await load.delivered(200)
                return await load.finish()

    for account in await asyncio.gather(run(Mode.REFUSE), run(Mode.HOLD)):
        note(account)


async def test_reports_over_a_link_that_carries_nothing(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """A leader whose link is dead reports its deliveries over its other link."""
    server, sender, receiver = await start(servers, clients)
    async with Proxy(server.port) as proxy:
        leader = await daemons.serve(proxy.url)
        standby = await daemons.serve(server)
        async with Requests(
            sender, receiver, rate=RATE, ahead=0.5, kinds=[Kind.WITHOUT_ID]
        ) as load:
            await load.delivered(50)
            mark = standby.mark()
            load.faults.note("HOLD")
            proxy.be(Mode.HOLD, only=REQUESTS)
            await standby.event("daemon.leading", since=mark)
            mark = leader.mark()
            proxy.be(Mode.PASS)
            await leader.event("connection.made", since=mark)
            await load.delivered(200)
            account = await load.finish()
    assert (account.lost, account.twice) == (0, 0), account


async def again(daemons: Daemons, leader: Daemon, standby: Daemon) -> tuple[Daemon, Daemon]:
    """Let the first replica lead again, and another one stand by."""
    mark = leader.mark()
    await standby.terminate()
    await leader.event("daemon.leading", since=mark)
    return leader, await daemons.serve(standby.arguments[2])


async def test_subscriptions_that_a_reload_takes_away(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """Alone, a deaf daemon says so, and hears again once it may; with another, that one leads."""
    server = servers.start(withholding("subscribe", "granted.gozo"))
    client = await admin(clients, server)
    arrivals = await client.arrivals()
    daemon, port = await serve(daemons, server, *LOGIN)
    ctl = Gozoctl(tmp_path, server.url)

    withdraw(server, "gozo")
    told = await daemon.event("daemon.not_serving")
    assert "subscribe to gozo:" in told.fields["reason"]
    unready = await get(port, "/readyz")
    assert (unready.status, "gozo" in unready.body) == (503, True)
    deaf = ctl.run(*LOGIN, "status", "-o", "json")
    assert (deaf.code, deaf.json["delivers"]) == (NO_ANSWER, False)
    assert "subscribe to gozo" in deaf.err
    checked = daemons.start("check", "--address", server.url, "--user", "admin", "--password", "p")
    assert await checked.wait() == FAILED
    assert "is not serving: no permission to subscribe to gozo" in checked.stdout

    grant(server, "gozo")

    async def is_ready() -> bool:
        return (await get(port, "/readyz")).status == 200

    await until(is_ready, "it hears again", allow(10))
    await client.schedule("+0", reply=arrivals, payload=b"heard")
    await arrivals.wait(1)
    assert ctl.run(*LOGIN, "status").code == 0

    # Another user's daemon hears, and was not asked to lead before it was needed.
    standby = await daemons.serve(server, "--user", "admin", "--password", "p")
    await client.schedule("+12", reply=arrivals, payload=b"in memory")
    await client.schedule("+0", reply=arrivals, payload=b"taken")
    await arrivals.wait(2)
    withdraw(server, "gozo")
    await until(lambda: bool(daemon.events("permission.denied", since=0)), "it is deaf")
    for number in range(10):
        await client.schedule("+0", reply=arrivals, payload=b"%d" % number)
    await standby.event("daemon.leading")
    await arrivals.wait(13, allow(20))
    await client.confirm()
    assert sorted(arrivals.payloads) == sorted(
        [b"heard", b"in memory", b"taken", *(b"%d" % number for number in range(10))]
    )


async def test_a_leader_that_may_not_hear_others(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """It gives way, while requests come, and repeats nothing when it leads again."""
    server = servers.start(withholding("subscribe", "granted.gozo.admin.told"))
    client = await admin(clients, server)
    arrivals, receipts = [await client.arrivals() for _ in range(2)]
    one = await daemons.serve(server, *LOGIN)
    other = await daemons.serve(server, "--user", "admin", "--password", "p")
    headers = {"Gozo-When": "+0", "Gozo-Receipt": receipts.subject}
    sent = 0

    async def send() -> None:
        nonlocal sent
        while True:
            for _ in range(2):
                await client.send(headers, reply=arrivals.subject, payload=b"%d" % sent)
                sent += 1
            await asyncio.sleep(0.002)

    withdraw(server, "gozo.admin.told")
    await one.event("daemon.not_serving")
    sending = asyncio.create_task(send())
    await other.event("daemon.leading")
    sending.cancel()
    await until(lambda: len(arrivals.all) >= sent, "all have arrived", allow(10))

    grant(server, "gozo.admin.told")
    await one.event("permission.granted", subject="gozo.admin.told")
    mark = one.mark()
    assert await other.terminate() == 0
    await one.event("daemon.leading", since=mark)
    await client.schedule("+0.5", reply=arrivals, payload=b"last")
    await until(lambda: b"last" in arrivals.payloads, "it delivers", allow(10))
    assert sorted(arrivals.payloads) == sorted([b"last", *(b"%d" % one for one in range(sent))])


async def test_an_inbox_that_a_reload_takes_away(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """What was sent then is confirmed once it is given back, and all goes on."""

    async def run(kind: str) -> None:
        server = servers.start(withholding(kind, "granted._GOZO_INBOX.>"))
        client = await admin(clients, server)
        arrivals = await client.arrivals()
        daemon, port = await serve(daemons, server, *LOGIN)
        withdraw(server, "_GOZO_INBOX.>")
        await until(lambda: "Reloaded: authorization users" in server.log, "it is reloaded")
        await client.schedule("+0", reply=arrivals, payload=b"meanwhile")
        await daemon.event("daemon.not_serving")
        unready = await get(port, "/readyz")
        assert (unready.status, "_GOZO_INBOX" in unready.body) == (503, True)
        grant(server, "_GOZO_INBOX.>")
        for payload in (b"1", b"2"):
            await client.schedule("+0", reply=arrivals, payload=payload, id=payload.decode())

        async def is_ready() -> bool:
            return (await get(port, "/readyz")).status == 200

        await until(is_ready, "it serves again", allow(10))
        await arrivals.wait(3, allow(10))
        assert await daemon.terminate() == 0
        assert sorted(arrivals.payloads) == [b"1", b"2", b"meanwhile"]

    await asyncio.gather(run("subscribe"), run("publish"))


async def test_a_sealed_bucket(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """A leader that cannot write the bucket is none that delivers, and none can instead.

    One that starts refuses to.
    """
    server = servers.start()
    client = await clients.connect(server)
    daemon = await daemons.serve(server, "--metrics", "127.0.0.1:0")
    port = int((await daemon.event("metrics.ready")).fields["port"])
    other = await daemons.serve(server)
    config = (await call(client, "STREAM.INFO.KV_gozo"))["config"]
    await call(client, "STREAM.UPDATE.KV_gozo", config | {"sealed": True, "deny_delete": True})
    ctl = Gozoctl(tmp_path, server.url)

    async def is_told() -> bool:
        return "sealed" in (await get(port, "/readyz")).body

    await until(is_told, "it says why it is not ready")
    assert (await get(port, "/readyz")).status == 503
    status = ctl.run("status", "-o", "json")
    assert (status.code, status.json["delivers"]) == (NO_ANSWER, False)
    assert "sealed" in status.err
    await until(lambda: bool(other.events("daemon.not_serving")), "the standby says so as well")
    assert not daemon.events("lease.lost")
    third = daemons.start("serve", "--address", server.url)
    assert await third.wait() == 1
    assert "the bucket gozo has sealed true" in third.stderr


async def test_what_is_refused_again_and_again_is_logged_once(
    servers: Servers, daemons: Daemons
) -> None:
    """Without the permission for its inboxes a leader asks who else serves, less and less often."""
    server = servers.start(withholding("publish", "granted._GOZO_INBOX.>"))
    daemon = await daemons.serve(server, *LOGIN)
    withdraw(server, "_GOZO_INBOX.>")
    await daemon.event("daemon.query_failed")

    await until(lambda: server.log.count("_GOZO_INBOX") >= 20, "much is refused")

    assert len(daemon.events("daemon.query_failed")) == 1
    assert len(daemon.events("permission.denied")) <= 2  # one for each connection
