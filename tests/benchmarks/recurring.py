"""Measure recurring schedules: `python -m tests.benchmarks.recurring --count 100000 --minutes 2`.

Each is a cron expression that is due once a minute, at a second of its own or, with
`--at-once`, all at the same. What counts is how late the occurrences of whole minutes are, and
how long after the last of them the bucket has the next due time of each.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from array import array
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.connection import Connection

from tests.benchmarks.load import CHUNK, NANOSECONDS, process
from tests.benchmarks.result import Outcome, evaluate
from tests.support.daemon import Daemon
from tests.support.raw import RawClient, request
from tests.support.server import NatsServer

SUBJECT = "benchmark.recurring"
INBOX = "benchmark.answer"
LOOK = 0.02  # seconds between two looks at how much is stored
MINUTE = 60
PATIENCE = 30  # seconds to wait for what is late
QUIET = 2.0  # seconds without a message after the last, to see what comes twice


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be sent."""

    url: str
    count: int
    begin: int
    """When the first minute begins that counts: Unix epoch, seconds."""
    minutes: int

    @property
    def end(self) -> int:
        """When the last minute is over."""
        return self.begin + self.minutes * MINUTE


def main() -> int:
    """Run the benchmark; the exit code is 1 when anything was lost, sent twice or early."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.recurring")
    parser.add_argument("--count", type=int, default=100_000, help="schedules")
    parser.add_argument("--minutes", type=int, default=2, help="minutes that count")
    parser.add_argument("--size", type=int, default=100, help="bytes of payload")
    parser.add_argument("--at-once", action="store_true", help="all due at the same second")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    options = parser.parse_args()
    with NatsServer() as server:
        daemon = Daemon("serve", "--address", server.url).start()
        try:
            asyncio.run(daemon.ready())
            create(server.url, options.count, options.size, at_once=options.at_once)
            begin = (int(time.time()) // MINUTE + 1) * MINUTE
            result, behind = run(Plan(server.url, options.count, begin, options.minutes))
            asyncio.run(daemon.terminate())
        finally:
            daemon.close()
    if options.json:
        counts = {"lost": result.lost, "twice": result.twice, "early": result.early}
        print(json.dumps(result.figures | counts | {"behind_s": behind}))
    else:
        print(
            f"{options.count:,} recurring schedules, each due once a minute, "
            f"{'all at once' if options.at_once else 'spread over it'}, {options.minutes} minutes\n"
            f"lateness   p50 {result.figures['p50_ms']:.2f} ms, "
            f"p99 {result.figures['p99_ms']:.2f} ms, max {result.figures['max_ms']:.2f} ms\n"
            f"stored     the last next due time {behind:.2f} s after its occurrence was due\n"
            f"lost {result.lost}, twice {result.twice}, early {result.early}"
        )
    return 0 if result.is_sound else 1


def create(url: str, count: int, size: int, *, at_once: bool) -> None:
    """Create the schedules, and wait until all are stored."""
    with RawClient(url) as client:
        client.subscribe(INBOX)
        before = written(client)
        for start in range(0, count, CHUNK):
            numbers = range(start, min(start + CHUNK, count))
            client.send(
                b"".join(
                    _request(number, 30 if at_once else number % 60, size) for number in numbers
                )
            )
            client.confirm()
        while written(client) - before < count:
            time.sleep(LOOK)


def written(client: RawClient) -> int:
    """Return how many messages were ever written to the bucket."""
    client.send(request(b"$JS.API.STREAM.INFO.KV_gozo", reply=INBOX.encode()))
    return int(json.loads(client.receive()[0].payload)["state"]["last_seq"])


def _request(number: int, second: int, size: int) -> bytes:
    headers = b"NATS/1.0\r\nGozo-When: %d * * * * *\r\nGozo-Id: %d\r\n\r\n" % (second, number)
    return request(b"gozo", reply=SUBJECT.encode(), headers=headers, payload=b"." * size)


def run(plan: Plan) -> tuple[Outcome, float]:
    """Take what arrives in the minutes that count; returns how far behind the bucket was too."""
    with process(receive, plan) as receiver, RawClient(plan.url) as client:
        receiver.recv()  # it listens
        client.subscribe(INBOX)
        time.sleep(max(0.0, plan.begin - time.time()))
        before = written(client)
        expected = plan.count * plan.minutes
        while written(client) - before < expected and time.time() < plan.end + PATIENCE:
            time.sleep(LOOK)
        done = time.time()
        numbers, dues, arrivals = receiver.recv()
    behind = done - max(dues, default=0) / 1_000_000
    return evaluate(expected, numbers, dues, arrivals), behind


def receive(plan: Plan, report: Connection) -> None:
    """Take what arrives until after the last minute; report what counts in three arrays."""
    messages = []
    gc.disable()
    with RawClient(plan.url) as client:
        client.subscribe(SUBJECT)
        report.send(True)
        while time.time() < plan.end + QUIET:
            try:
                messages += client.receive(QUIET)
            except TimeoutError:
                continue
    numbers, dues, arrivals = array("q"), array("q"), array("q")
    for message in messages:
        lines = message.headers.decode().split("\r\n")
        given = dict(line.split(": ", 1) for line in lines if ": " in line)
        due = round(datetime.fromisoformat(given["Gozo-Due"]).timestamp())
        minute = (due - plan.begin) // MINUTE
        if 0 <= minute < plan.minutes:
            numbers.append(minute * plan.count + int(given["Gozo-Id"]))
            dues.append(due * NANOSECONDS // 1_000)
            arrivals.append(message.at_ns)
    report.send((numbers, dues, arrivals))


if __name__ == "__main__":
    sys.exit(main())
