"""Clocks that are set, that disagree, and that go on while the daemon does not."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from tests.support.client import Arrivals, Client
from tests.support.patience import allow, until, wall_clock
from tests.support.processes import Clients, Daemons, Servers
from tests.support.proxy import Proxy
from tests.support.receiver import Receiver
from tests.support.wallclock import WallClock

HOUR = 3600.0


async def ask(client: Client, to: Arrivals, name: str, delay: float) -> dict[bytes, float]:
    """Ask for two messages, one with an id, and return when each is due, by its payload."""
    due: dict[bytes, float] = {}
    for id_ in (name, None):
        payload = f"{name} {id_}".encode()
        due[payload] = round(time.time() + delay, 6)
        when = f"+{delay}" if name == "relative" else due[payload]
        await client.schedule(when, reply=to, id=id_, payload=payload)
    return due


async def test_a_leaders_clock_that_is_wrong(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """Whichever way the leader's clock is set, the standby leads, and nobody notices.

    Nothing is early, twice or lost, with an id or without, asked for before or after; and what
    recurs goes on.
    """
    server = servers.start()
    client = await clients.connect(server)
    clocks = [WallClock(tmp_path / "one"), WallClock(tmp_path / "two")]
    pair = []
    for clock in clocks:
        pair.append(daemons.start("serve", "--address", server.url, variables=clock.variables))
        await pair[-1].ready()
    ticks = await client.arrivals()
    every = {"Gozo-When": "@every 1s", "Gozo-Id": "every", "Gozo-Misfire": "all"}
    await client.send(every, reply=ticks.subject)
    for number, ahead in enumerate((HOUR, 24 * HOUR, -24 * HOUR)):
        one, other = number % 2, 1 - number % 2
        leader, standby = pair[one], pair[other]
        arrivals = await client.arrivals()
        due: dict[bytes, float] = {}
        for count in range(10):
            due |= await ask(client, arrivals, f"{count}", 1.5 + count / 10)
        await client.confirm()
        await ticks.wait(len(ticks.all) + 1)
        mark, marked = standby.mark(), leader.mark()
        clocks[one].set(ahead)
        due |= await ask(client, arrivals, "after", 1.0)
        due |= await ask(client, arrivals, "relative", 1.0)
        found = (await leader.event("clock.wrong", since=marked)).fields
        assert abs(float(found["ahead_s"]) - ahead) < 0.5
        assert "set the clock" in found["hint"]
        await standby.event("daemon.leading", since=mark)
        await arrivals.wait(len(due))
        await ticks.wait(len(ticks.all) + 2)
        assert Counter(arrivals.payloads) == Counter(due.keys())
        assert [a.data for a in arrivals.all if a.at < due[a.data]] == []
        assert max(a.at - due[a.data] for a in arrivals.all) < allow(2)
        clocks[one].set(0.0)
        await leader.event("clock.trusted", since=marked)
    dues = [datetime.fromisoformat(a.headers["Gozo-Due"]).timestamp() for a in ticks.all]
    assert {round(later - earlier, 3) for earlier, later in pairwise(dues)} == {1.0}
    assert all(arrival.at >= due for arrival, due in zip(ticks.all, dues, strict=True))


async def test_a_wrong_clock_and_nobody_else(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """Ten seconds after it has said so, a single daemon goes by its clock again.

    A delay that was asked for meanwhile counts by whichever clock is gone by, from when it was
    asked for. Once the clock is right again, what recurs does not wait for it to catch up.
    """
    server = servers.start()
    clock = WallClock(tmp_path)
    daemon = daemons.start("serve", "--address", server.url, variables=clock.variables)
    await daemon.ready()
    client = await clients.connect(server)
    far, delayed, second, minute = [await client.arrivals() for _ in range(4)]
    due = round(time.time() + HOUR / 2, 6)
    await client.schedule(due, reply=far, id="far", payload=b"far")
    await client.schedule(due, reply=far, payload=b"volatile")
    for id_, when, to in (("s", "* * * * * *", second), ("m", "@every 60s", minute)):
        await client.send({"Gozo-When": when, "Gozo-Id": id_}, reply=to.subject)
    await second.wait()
    clock.set(HOUR)
    await daemon.event("clock.wrong")
    said, before = time.monotonic(), len(second.all)
    await client.schedule("+14", reply=delayed, payload=b"delayed")
    await client.confirm()
    asked = time.monotonic()
    await far.wait(2, timeout=allow(15))
    assert time.monotonic() - said > 9
    assert len(second.all) - before <= 2
    assert sorted(far.payloads) == [b"far", b"volatile"]
    assert abs(float((await daemon.event("clock.trusted")).fields["ahead_s"]) - HOUR) < 1
    assert delayed.all == []
    await delayed.wait(1)
    assert time.monotonic() - asked > 13.9
    await minute.wait()
    await second.wait(len(second.all) + 2)
    mark = daemon.mark()
    clock.set(0.0)
    for id_ in ("s", "m"):
        await daemon.event("schedule.recomputed", since=mark, id=id_)
    await second.wait(len(second.all) + 2)
    js = client.nats.jetstream()
    headers = (await js.get_last_msg("KV_gozo", "$KV.gozo.m")).headers or {}
    assert time.time() < float(headers["Gozo-Due"]) < time.time() + 61


async def test_a_clock_that_is_wrong_for_a_moment(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """An hour ahead for three seconds: nothing is early, and what recurs goes on."""
    server = servers.start()
    clock = WallClock(tmp_path)
    daemon = daemons.start("serve", "--address", server.url, variables=clock.variables)
    await daemon.ready()
    client = await clients.connect(server)
    every, cron, rare, single = [await client.arrivals() for _ in range(4)]
    for id_, when, to in (
        ("e", "@every 1s", every),
        ("c", "* * * * * *", cron),
        ("r", "@every 10m", rare),
    ):
        await client.send({"Gozo-When": when, "Gozo-Id": id_}, reply=to.subject)
    due = round(time.time() + 6, 6)
    await client.schedule(due, reply=single, id="single")
    await cron.wait(1)
    await every.wait(1)
    clock.set(HOUR)
    await daemon.event("clock.wrong")
    await wall_clock(time.time() + 3)  # it is about how long that is
    counts = len(every.all), len(cron.all)
    clock.set(0.0)
    await every.wait(counts[0] + 2)
    await cron.wait(counts[1] + 2)
    await single.wait()
    assert rare.all == []
    assert single.all[0].at >= due
    for arrival in (*every.all, *cron.all):
        assert arrival.at >= datetime.fromisoformat(arrival.headers["Gozo-Due"]).timestamp()


async def test_what_a_clock_that_ran_ahead_left_behind(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """What an earlier leader stored by such a clock goes on at once; what was put off stays so."""
    server = servers.start()
    first = await daemons.serve(server)
    client = await clients.connect(server)
    assert await first.terminate() == 0
    now = time.time()
    entries = {
        "every": ("@every 1s", {"Gozo-Last": f"{now + HOUR - 1:.6f}"}),
        "cron": ("* * * * * *", {"Gozo-Last": f"{int(now + HOUR) - 1}"}),
        "skipped": ("@every 1s", {"Gozo-Reckoned": f"{now + HOUR - 1:.6f}"}),
        "put-off": ("@every 1s", {"Gozo-Last": f"{now - 1:.6f}"}),
    }
    arrivals = {id_: await client.arrivals() for id_ in entries}
    for id_, (when, more) in entries.items():
        headers = {
            "Gozo-Format": "1",
            "Gozo-When": when,
            "Gozo-Subject": arrivals[id_].subject,
            "Gozo-Due": f"{int(now + HOUR)}.000000",
            "Gozo-Created": f"{now - 60:.6f}",
            "Gozo-Occurred": "5",
            "Gozo-Extended": "Yes",
        }
        await client.nats.jetstream().publish(f"$KV.gozo.{id_}", b"", headers=headers | more)
    second = await daemons.serve(server)
    for id_ in ("every", "cron", "skipped"):
        await arrivals[id_].wait(2)
        await second.event("schedule.recomputed", id=id_)
        for arrival in arrivals[id_].all:
            assert arrival.at >= datetime.fromisoformat(arrival.headers["Gozo-Due"]).timestamp()
    assert arrivals["put-off"].all == []
    put_off = (await client.nats.jetstream().get_last_msg("KV_gozo", "$KV.gozo.put-off")).headers
    assert float((put_off or {})["Gozo-Due"]) == int(now + HOUR)


class OtherTime(Proxy):
    """To the daemon, the clock of the server is set as its own is, and some seconds besides."""

    def __init__(self, port: int, clock: WallClock) -> None:
        super().__init__(port)
        self._clock = clock
        self.ahead = 0.0

    def _answered(self, data: bytes) -> bytes:
        return re.sub(rb'(?<="ts":")[0-9T:-]{19}', self._shifted, data)

    def _shifted(self, shown: re.Match[bytes]) -> bytes:
        moment = datetime.fromisoformat(shown[0].decode()) + timedelta(
            seconds=self._clock.offset + self.ahead
        )
        return moment.isoformat().encode()


async def test_the_servers_clock_is_set_as_well(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """Where the server agrees with the new time, the daemon goes on by it at once.

    And a server whose clock alone is set is no reason to stop: this host's ran on.
    """
    server = servers.start()
    clock = WallClock(tmp_path)
    async with OtherTime(server.port, clock) as link:
        daemon = daemons.start("serve", "--address", link.url, variables=clock.variables)
        await daemon.ready()
        client = await clients.connect(server)
        arrivals = await client.arrivals()
        due = round(clock.time() + 60, 6)
        await client.schedule(due, reply=arrivals, id="near")
        await client.schedule(due, reply=arrivals)
        await client.confirm()
        for count, offset in ((2, 100.0), (3, 0.0)):
            mark = daemon.mark()
            clock.set(offset)
            assert (
                abs(float((await daemon.event("clock.trusted", since=mark)).fields["ahead_s"])) < 1
            )
            if not offset:
                await client.schedule("+0.1", reply=arrivals)
            await arrivals.wait(count)
        assert daemon.events("clock.wrong") == []
        link.ahead = 100.0
        link.cut()  # they are compared once the link is back
        await daemon.event("clock.wrong")
        await client.schedule("+0.1", reply=arrivals, id="on")
        await arrivals.wait(4)
        assert daemon.events("lease.lost") == []


async def test_offers_are_repeated_by_the_steady_clock(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """However the clock is set, an unclaimed offer is repeated every two seconds."""
    server = servers.start()
    clock = WallClock(tmp_path)
    async with OtherTime(server.port, clock) as link:
        daemon = daemons.start("serve", "--address", link.url, variables=clock.variables)
        await daemon.ready()
        client = await clients.connect(server)
        receiver = await Receiver.start(client.nats, *[None] * 100)
        headers = {"Gozo-When": "+0", "Gozo-Id": "job", "Gozo-Confirm": "claim"}
        await client.send(headers, reply=receiver.subject)
        await receiver.wait()
        for offset in (100.0, 0.0):
            mark = daemon.mark()
            clock.set(offset)
            await daemon.event("clock.trusted", since=mark)
            await receiver.wait(len(receiver.all) + 2)
    gaps = [later.at - sooner.at for sooner, later in pairwise(receiver.all)]
    assert min(gaps) > 1.5
    assert max(gaps) < allow(4)


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
    due = round(clock.time() + 0.5, 6)
    for id_ in ("b", None):
        await client.schedule(due, reply=arrivals, id=id_)
    await client.confirm()
    clock.set(-1.7)
    await arrivals.wait(3)
    assert all(arrival.at + clock.offset >= due for arrival in arrivals.all[1:])
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
