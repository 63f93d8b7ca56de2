"""Measure lateness and rates: `python -m tests.benchmarks --count 20000 --rate 2000`.

Starts a nats-server and a gozo of its own on loopback, a sender and a receiver. All times are
taken from this machine's one wall clock, so lateness is from the due time to when the
receiver's process had read the message: two ways through the loopback and the server included.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from tests.benchmarks.load import NANOSECONDS, Plan, receive, send
from tests.benchmarks.result import Result, evaluate
from tests.support.daemon import Daemon
from tests.support.raw import RawClient, request
from tests.support.server import NatsServer

SUBJECT = "benchmark.delivered"
INBOX = "benchmark.answer"
LOOK = 0.02  # seconds between two looks at how much is stored

spawn = multiprocessing.get_context("spawn")


def main() -> int:
    """Run the benchmark; the exit code is 1 when anything was lost, sent twice or early."""
    options = parse()
    with NatsServer() as server:
        daemon = Daemon("serve", "--address", server.url).start()
        try:
            asyncio.run(daemon.ready())
            plan = Plan(
                server.url, SUBJECT, options.count, options.rate, options.size, lead_of(options)
            )
            result = run(plan)
            asyncio.run(daemon.terminate())
        finally:
            daemon.close()
        conditions = describe(server, plan)
    if options.json:
        print(json.dumps(conditions | dataclasses.asdict(result)))
    else:
        print_for_people(conditions, result)
    return 0 if result.is_sound else 1


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="schedules")
    parser.add_argument("--rate", type=float, default=2_000, help="due per second; 0: all at once")
    parser.add_argument("--size", type=int, default=100, help="bytes of payload")
    parser.add_argument("--lead", type=float, help="seconds before the first is due")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser.parse_args()


def lead_of(options: argparse.Namespace) -> float:
    """Return the seconds before the first is due: by default enough to store all before."""
    if options.lead is not None:
        return float(options.lead)
    return 2 + float(options.count) / 8_000


def run(plan: Plan) -> Result:
    """Send, wait until all is stored, and take what arrives."""
    with process(receive, plan) as receiver, RawClient(plan.url) as client:
        receiver.recv()  # it listens
        client.subscribe(INBOX)
        before = written(client)
        with process(send, plan) as sender:
            began, first = sender.recv()
            stored_per_s = watch_storing(client, before, plan.count, began, first)
            sender.recv()  # it is done
        numbers, dues, arrivals = receiver.recv()
    return evaluate(plan.count, numbers, dues, arrivals, stored_per_s)


@contextmanager
def process(target: Callable[[Plan, Connection], None], plan: Plan) -> Iterator[Connection]:
    """Run a function in a process of its own; what it reports comes through the connection."""
    ours, theirs = spawn.Pipe()
    worker = spawn.Process(target=target, args=(plan, theirs), daemon=True)
    worker.start()
    theirs.close()
    try:
        yield ours
        worker.join()
    finally:
        worker.kill()
        worker.join()
        worker.close()
        ours.close()


def watch_storing(
    client: RawClient, before: int, count: int, began_ns: int, first_ns: int
) -> float | None:
    """Return how many were stored per second, if all are before the first is due."""
    while (now := time.time_ns()) < first_ns:
        if written(client) - before >= count:
            return count * NANOSECONDS / (now - began_ns)
        time.sleep(LOOK)
    return None


def written(client: RawClient) -> int:
    """Return how many messages were ever written to the bucket."""
    client.send(request(b"$JS.API.STREAM.INFO.KV_gozo", reply=INBOX.encode()))
    state: dict[str, Any] = json.loads(client.receive()[0].payload)["state"]
    return int(state["last_seq"])


def describe(server: NatsServer, plan: Plan) -> dict[str, Any]:
    """Return under which conditions was measured."""
    return {
        "count": plan.count,
        "rate": plan.rate,
        "size": plan.size,
        "nats_server": server.version,
        "sync_interval": "default",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }


def print_for_people(conditions: dict[str, Any], result: Result) -> None:
    """Print the figures."""
    due = f"{conditions['rate']:,.0f} due per second" if conditions["rate"] else "all due at once"
    stored = "not all before the first was due"
    if result.stored_per_s is not None:
        stored = f"{result.stored_per_s:,.0f}/s"
    print(
        f"nats-server {conditions['nats_server']}, file storage, sync_interval: "
        f"{conditions['sync_interval']}; Python {conditions['python']}, "
        f"{conditions['cores']} cores\n"
        f"{conditions['count']:,} schedules with ids and {conditions['size']} bytes, {due}\n"
        f"lateness   p50 {result.p50_ms:.2f} ms, p99 {result.p99_ms:.2f} ms, "
        f"max {result.max_ms:.2f} ms\n"
        f"delivered  {result.delivered_per_s:,.0f}/s\n"
        f"stored     {stored}\n"
        f"lost {result.lost}, twice {result.twice}, early {result.early}"
    )


if __name__ == "__main__":
    sys.exit(main())
