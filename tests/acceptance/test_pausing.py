"""A schedule that runs again and again is paused, resumed and triggered, with real processes."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from tests.support.client import Arrival, Arrivals
from tests.support.gozoctl import Gozoctl
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers


def occurrences(arrivals: Arrivals) -> list[int]:
    """Return which occurrences have arrived; what was triggered is none."""
    found = [arrival.headers.get("Gozo-Occurrence") for arrival in arrivals.all]
    return [int(one) for one in found if one is not None]


def due(arrival: Arrival) -> datetime:
    """Return the nominal time of a delivery."""
    return datetime.fromisoformat(arrival.headers["Gozo-Due"])


async def test_while_it_runs(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """Paused it stays silent, triggered it comes at once, resumed it goes on with its count.

    With `skip` nothing of what was missed comes; the times keep their distance. A trigger
    counts for nothing, and a restart in between changes nothing.
    """
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    client = await clients.connect(server)
    ticks, others = await client.arrivals("tick"), await client.arrivals("other")
    daemon = await daemons.serve(server)

    async def ctl_ok(*arguments: str) -> None:
        await asyncio.to_thread(ctl.ok, *arguments)

    skip = ("--misfire", "skip", "--misfire-grace", "200ms")
    await ctl_ok("create", "tick", "tick", "x", "--every", "300ms", *skip)
    await ctl_ok("create", "other", "other", "x", "--every", "300ms")
    await ticks.wait(2)
    await ctl_ok("trigger", "tick")
    await until(lambda: len(ticks.all) > len(occurrences(ticks)), "what was triggered came")
    await ctl_ok("pause", "tick", "--note", "for a while")
    silent, heard = len(ticks.all), len(others.all)
    await others.wait(heard + 3)
    assert await daemon.terminate() == 0
    await daemons.serve(server)
    heard = len(others.all)
    await others.wait(heard + 2)
    assert len(ticks.all) == silent
    await ctl_ok("trigger", "tick")
    await ticks.wait(silent + 1)
    assert "Gozo-Occurrence" not in ticks.all[-1].headers
    await ctl_ok("resume", "tick")
    await ticks.wait(silent + 4)
    await ctl_ok("cancel", "tick", "other")
    count = len(occurrences(ticks))
    assert occurrences(ticks) == list(range(1, count + 1))
    assert len(ticks.all) == count + 2
    nominal = [due(one) for one in ticks.all if "Gozo-Occurrence" in one.headers]
    spans = [later - sooner for sooner, later in pairwise(nominal)]
    assert max(spans) >= timedelta(seconds=1.5)
    assert {span % timedelta(seconds=0.3) for span in spans} == {timedelta(0)}
    assert all(one.at >= due(one).timestamp() for one in ticks.all)
    numbers = occurrences(others)
    assert numbers == list(range(1, len(numbers) + 1))


async def test_what_was_missed(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """Resumed, `all` sends each that was missed, in order; `once` sends one for all."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    client = await clients.connect(server)
    every, once = await client.arrivals("all"), await client.arrivals("once")
    pace = await client.arrivals("pace")
    await daemons.serve(server)
    grace = ("--misfire-grace", "100ms")
    for policy in ("all", "once"):
        await asyncio.to_thread(
            ctl.ok, "create", policy, policy, "--every", "500ms", "--misfire", policy, *grace
        )
    await asyncio.to_thread(ctl.ok, "create", "pace", "pace", "--every", "500ms")
    await every.wait(1)
    await once.wait(1)
    await asyncio.to_thread(ctl.ok, "pause", "all", "once")
    counts = len(every.all), len(once.all)
    await pace.wait(len(pace.all) + 6)
    assert (len(every.all), len(once.all)) == counts
    await asyncio.to_thread(ctl.ok, "resume", "all", "once")
    await every.wait(counts[0] + 7)
    await once.wait(counts[1] + 2)
    await asyncio.to_thread(ctl.ok, "cancel", "all", "once", "pace")
    for arrivals in (every, once):
        numbers = occurrences(arrivals)
        assert numbers == list(range(1, len(numbers) + 1))
    spans = {(due(later) - due(sooner)).total_seconds() for sooner, later in pairwise(every.all)}
    assert spans == {0.5}
    assert max((due(b) - due(a)).total_seconds() for a, b in pairwise(once.all)) >= 2
