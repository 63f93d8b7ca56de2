"""Random faults for an hour: `python -m tests.random_faults --minutes 60 --seed N`.

Two daemons (three with `--replicas 3`), each behind a proxy of its own, share one nats-server, or
with `--cluster` three servers and a bucket with three copies. While faults happen at random, some
at the same time, six loads run, each with `--rate` schedules a second:

- stored: entries of the bucket. They count once the server has acknowledged them.
- with id, without id: requests that all differ. A request counts if a message published after it on
  the same connection comes back on the same link: then the server had the request.
- identical: requests without an id that are the same byte for byte. They are only counted.
- cancelled: stored, then cancelled. They count if the receipt said `cancelled` before they were
  due: then they must not arrive at all.
- recurring: schedules with `Gozo-Misfire: all`; each occurrence counts, by its number and due time.

Nothing may be lost, early, revived, or later than half a minute. These may arrive twice:

- what was due, or first arrived, within a second of a crash, pause or broken connection of the
  leader, of a restart of a server, or of the deletion of the lease; or, while the leader can send
  but hears nothing, for as long as a lease lasts
- what was requested within a second of that deletion: two replicas lead for a moment, and both
  take it
- with `--cluster`, where requests are confirmed and so stored: what has no id and was requested
  within a second of a crash, pause or broken connection

Nothing may arrive twice because of a SIGTERM, a reload, a step-down, or anything that happens to a
standby. A request counts as unheard, not as lost, if the leader's connection was broken when it was
sent, from a second before until requests are answered again: the README says as much.

So that nothing is lost that was only in memory, a replica ends or dies only if another one has
heard all requests for longer than any of them waits (its link whole, its process never ended), and
not within 15 s of another such end. A stopped replica does not count as hearing. None is stopped
within these 15 s, and no server is restarted while one is stopped: what it has not read would be
lost.

If this process is held up for half a second, by a busy machine, that is a fault too: all links go
through it.

SIGINT or SIGTERM ends a run early, with its account. Each finding is printed with its times and the
faults near it; the exit code is 1 then, and the logs of daemons and servers are kept. `--only`
selects causes: SIGTERM, SIGKILL, SIGSTOP, link, reload, server, lease, guest, step-down.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from tests.random_faults.causes import Cause, Causes
from tests.random_faults.replica import Replica
from tests.support.account import Account, Fault, Faults, Finding
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.load import Load
from tests.support.requests import Cancels, Identical, Kind, Recurring, Requests
from tests.support.server import NatsServer

BEFORE, AFTER = 20.0, 5.0  # seconds around a finding in which faults are shown with it
MOST_SHOWN = 10  # findings near the same faults
LATEST = 30.0  # seconds: the longest fault and a lease, and some
OVERLAP = 0.3  # how often the next fault does not wait for the one before
LOOK, HELD_UP = (
    0.1,
    0.5,
)  # seconds between looks whether this process runs, and of a lag that counts
LAST = 5.0  # seconds for what is still to come at the end, on an idle machine


def main() -> int:
    """Run; the exit code is 1 where anything was found."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.random_faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--replicas", type=int, default=2, choices=[2, 3])
    parser.add_argument("--cluster", action="store_true", help="three servers instead of one")
    parser.add_argument("--rate", type=float, default=20, help="a second, of each load")
    parser.add_argument("--only", nargs="+", metavar="CAUSE", help="choose among these causes")
    return asyncio.run(run(parser.parse_args()))


async def run(options: argparse.Namespace) -> int:
    """Cause faults under load, and account."""
    print(f"seed {options.seed}", flush=True)
    rng = random.Random(options.seed)
    faults = Faults(latest=LATEST)
    async with AsyncExitStack() as stack:
        cluster = stack.enter_context(Cluster()) if options.cluster else None
        servers = cluster.servers if cluster else [stack.enter_context(NatsServer())]
        if cluster:
            await cluster.ready()
        copies = ("--replicas", str(len(servers)))
        guests: list[Replica] = []
        names = count(1)

        def guest() -> Replica:
            guests.append(Replica(f"guest{next(names)}", servers, copies))
            return guests[-1]

        residents = []
        for name in ("A", "B", "C")[: options.replicas]:
            residents.append(await stack.enter_async_context(Replica(name, servers, copies)))
            await residents[-1].start()
        clients = [
            await stack.enter_async_context(await Client.connect(servers[n % len(servers)].url))
            for n in range(13)
        ]
        causes = Causes(
            rng, faults, list(residents), servers, cluster, control=clients.pop(), guest=guest
        )
        loads = make_loads(options, faults, clients, is_cluster=cluster is not None)
        for load in loads.values():
            await stack.enter_async_context(load)
        printing = asyncio.create_task(report(faults, loads))
        watching = asyncio.create_task(watch(faults))
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await strike(causes, rng, options, stop)
        await causes.serves()
        await asyncio.gather(*(load.finish(LAST) for load in loads.values()))
        await asyncio.sleep(AFTER)  # what comes twice may come late
        printing.cancel()
        watching.cancel()
        for load in loads.values():
            await load.look()
        accounts = {name: load.account() for name, load in loads.items()}
        replicas = [*residents, *guests]
        findings = causes.findings + [
            Finding("traceback", name, time.time()) for one in replicas for name in one.tracebacks
        ]
        found = show(accounts, findings, faults.all)
        if found:
            print(f"\nlogs: {save_logs(replicas, servers)}")
    return int(found)


def make_loads(
    options: argparse.Namespace, faults: Faults, clients: list[Client], *, is_cluster: bool
) -> dict[str, Load]:
    """Make the loads, each with connections of its own."""
    mixed: dict[str, Any] = {"rate": options.rate, "ahead": 0.5, "spread": 7.5}

    def of(name: str) -> dict[str, Any]:
        """The connections; in a cluster what arrives goes into a stream, which none can miss."""
        into: dict[str, Any] = (
            {"into": f"arrived-{name.replace(' ', '-')}", "replicas": 3} if is_cluster else {}
        )
        return {"sender": clients.pop(), "receiver": clients.pop(), "faults": faults, **into}

    return {
        "stored": Load(**of("stored"), **mixed),
        "with id": Requests(kinds=[Kind.WITH_ID], **of("with id"), **mixed),
        "without id": Requests(kinds=[Kind.WITHOUT_ID], **of("without id"), **mixed),
        "identical": Identical(rate=options.rate, ahead=3.0, **of("identical")),
        "cancelled": Cancels(rate=options.rate, ahead=4.0, spread=4.0, **of("cancelled")),
        "recurring": Recurring(schedules=round(options.rate), **of("recurring")),
    }


async def strike(
    causes: Causes, rng: random.Random, options: argparse.Namespace, stop: asyncio.Event
) -> None:
    """Cause one fault after the other, now and then two at a time, until the end or a signal."""
    end = time.time() + 60 * options.minutes
    chosen = {
        name: cause
        for name, cause in causes.all.items()
        if options.only is None or name in options.only
    }
    weights = [weight for weight, _ in chosen.values()]
    under_way: set[asyncio.Task[bool]] = set()
    await asyncio.sleep(1)
    while time.time() < end and not causes.is_hopeless and not stop.is_set():
        (name,) = rng.choices(list(chosen), weights)
        task = asyncio.create_task(cause_one(chosen[name][1]))
        under_way.add(task)
        if rng.random() < OVERLAP and len(under_way) < 3:
            await asyncio.sleep(rng.uniform(0.5, 4))
        else:
            await asyncio.wait(under_way)
            await causes.serves()
            await asyncio.sleep(rng.uniform(0.5, 6))
        for task in [task for task in under_way if task.done()]:
            under_way.discard(task)
            task.result()
    await asyncio.gather(*under_way)


async def cause_one(cause: Cause) -> bool:
    """Cause a fault."""
    return await cause()


async def watch(faults: Faults) -> None:
    """Note as a fault of all links where this process, their proxy, was held up itself."""
    while True:
        before = time.time()
        await asyncio.sleep(LOOK)
        if time.time() > before + LOOK + HELD_UP:
            fault = faults.note("all links: this test was held up by the machine", deaf=True)
            fault.begin = before


async def report(faults: Faults, loads: Mapping[str, Load]) -> None:
    """Print faults as they happen, and take in what arrives."""
    shown = 0
    while True:
        for fault in faults.all[shown:]:
            if fault.what:
                print(f"{clock(fault.begin)} {fault.what}", flush=True)
        shown = len(faults.all)
        for load in loads.values():
            await load.look()
        await asyncio.sleep(1)


def show(accounts: Mapping[str, Account], findings: Iterable[Finding], faults: list[Fault]) -> bool:
    """Print the accounts and what was found; tell whether anything was."""
    print()
    for name, account in accounts.items():
        print(f"{name:12} {account}")
    everything = [("daemon", finding) for finding in findings]
    everything += [(name, one) for name, account in accounts.items() for one in account.findings]
    everything.sort(key=lambda found: found[1].due)
    near: list[Fault] = []
    shown = 0
    for name, finding in everything:
        now_near = [
            fault
            for fault in faults
            if finding.due - BEFORE < fault.begin < finding.due + AFTER and fault.what
        ]
        if now_near != near:
            near, shown = now_near, 0
            print()
            for fault in near:
                print(f"    {clock(fault.begin)} {fault.what}")
        shown += 1
        if shown <= MOST_SHOWN:
            came = ", ".join(map(clock, finding.arrived[:MOST_SHOWN])) or "never"
            print(f"{name}: {finding.kind} {finding.what}, due {clock(finding.due)}, came {came}")
        elif shown == MOST_SHOWN + 1:
            print("and more")
    return bool(everything) or not all(account.is_sound for account in accounts.values())


def save_logs(replicas: Iterable[Replica], servers: Iterable[NatsServer]) -> Path:
    """Keep what daemons and servers said."""
    folder = Path(tempfile.mkdtemp(prefix="gozo-random-"))
    for replica in replicas:
        replica.save_logs(folder)
    for server in servers:
        with contextlib.suppress(OSError):
            shutil.copy(server.folder / "log", folder / f"{server.name}.log")
    return folder


def clock(moment: float) -> str:
    """Print a time as the logs do, without the date."""
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S.%f")[:-3]


if __name__ == "__main__":
    sys.exit(main())
