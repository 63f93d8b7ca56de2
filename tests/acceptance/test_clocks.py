"""Clocks that are set, that disagree, and that go on while the daemon does not."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.support.client import Arrivals
from tests.support.patience import until, wall_clock
from tests.support.processes import Clients, Daemons, Servers
from tests.support.wallclock import WallClock

HOUR = 3600.0


async def test_the_leaders_clock_is_set(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """Set back, what was near is near again; set forward, what is due by then comes at once.

    Nothing comes early by that clock, and the lease, which goes by another one, is kept.
    """
    server = servers.start()
    clock = WallClock(tmp_path)
    daemon = daemons.start("serve", "--address", server.url, variables=clock.variables)
    await daemon.ready()
    client = await clients.connect(server)

    def early(arrivals: Arrivals, due: float) -> bool:
        return any(arrival.at + clock.offset < due for arrival in arrivals.all)

    near = await client.arrivals()
    due = round(time.time() + 1, 6)
    await client.schedule(due, reply=near, id="near")
    await client.schedule(due, reply=near)
    await client.confirm()
    clock.set(-2.0)
    await near.wait(2)
    assert not early(near, due)

    far, relative, receipts = [await client.arrivals() for _ in range(3)]
    due = round(clock.time() + HOUR, 6)
    await client.schedule(due, reply=far, id="far")
    await client.schedule(due, reply=far)
    asked = clock.time()
    headers = {"Gozo-When": "+3600.5", "Gozo-Receipt": receipts.subject}
    await client.send(headers, reply=relative.subject)
    await receipts.wait()
    clock.set(clock.offset + HOUR)
    await far.wait(2)
    assert not early(far, due)
    await relative.wait(1)
    assert not early(relative, asked + HOUR)
    assert daemon.events("lease.lost") == []
    await daemon.event("clock.wrong")
    clock.set(0.0)
    await client.schedule("+0.1", reply=relative)
    await relative.wait(2)


async def test_replicas_with_wrong_clocks_do_not_lead(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """They stand by, whether a clock was wrong from the start or was set a moment ago.

    Once the clocks are right, one of them takes over.
    """
    server = servers.start()
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    clocks = [WallClock(tmp_path / "one", 5.0), WallClock(tmp_path / "two")]
    wrong = daemons.start("serve", "--address", server.url, variables=clocks[0].variables)
    assert (await wrong.ready()).fields["role"] == "standby"
    assert 4.5 < float((await wrong.event("clock.wrong")).fields["ahead_s"]) < 5.5
    leader = await daemons.serve(server)
    await leader.event("daemon.leading")
    later = daemons.start("serve", "--address", server.url, variables=clocks[1].variables)
    assert (await later.ready()).fields["role"] == "standby"
    clocks[1].set(-5.0)
    await leader.kill()
    assert -5.5 < float((await later.event("clock.wrong")).fields["ahead_s"]) < -4.5
    leader = await daemons.serve(server)
    await leader.event("daemon.leading")
    for standby in (wrong, later):
        assert standby.events("lease.acquired") == []
    for clock in clocks:
        clock.set(0.0)
    await leader.kill()
    await until(
        lambda: any(standby.events("daemon.leading") for standby in (wrong, later)),
        "one of them leads",
    )
    await client.schedule("+0", reply=arrivals, id="taken", payload=b"taken")
    await arrivals.wait()


async def test_a_clock_that_differs_a_little(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """A second is worth a warning; the daemon leads, and is not early by its own clock."""
    server = servers.start()
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    clock = WallClock(tmp_path, -1.0)
    daemon = daemons.start("serve", "--address", server.url, variables=clock.variables)
    assert (await daemon.ready()).fields["role"] == "leader"
    await daemon.event("clock.differs")
    due = round(clock.time() + 0.5, 6)
    await client.schedule(due, reply=arrivals, id="a")
    (arrival,) = await arrivals.wait()
    assert arrival.at + clock.offset >= due
    assert daemon.events("clock.wrong") == []


async def test_suspended(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What falls due while the daemon is suspended comes once it goes on, and the rest in time."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    now = time.time()
    dues = {b"during": round(now + 1, 6), b"after": round(now + 4, 6)}
    for payload, due in dues.items():
        await client.schedule(due, reply=arrivals, id=payload.decode(), payload=payload)
    await client.confirm()
    await client.arrivals()
    daemon.send(signal.SIGSTOP)
    await wall_clock(dues[b"during"])
    daemon.send(signal.SIGCONT)
    await arrivals.wait(2)
    assert arrivals.payloads == [b"during", b"after"]
    assert all(arrival.at >= dues[arrival.data] for arrival in arrivals.all)
    assert daemon.events("lease.lost") == []
