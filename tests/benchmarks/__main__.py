"""The command line of the benchmarks: `python -m tests.benchmarks`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from typing import Any

from tests.benchmarks.lateness import Load, measure
from tests.support.daemon import Daemon
from tests.support.raw import RawClient, request
from tests.support.server import NatsServer


def main() -> None:
    """Start a server and a daemon, put a load on them, and print what came of it."""
    load, as_json = _arguments()
    with NatsServer() as server:
        daemon = Daemon("serve", "--address", server.url).start()
        try:
            asyncio.run(daemon.ready())
            figures: dict[str, Any] = measure(server.url, load).as_dict()
            figures["stored_per_second"] = _storing(server.url, load)
        finally:
            daemon.close()
        version = server.version
    if as_json:
        print(json.dumps(figures))
        return
    print(
        f"{load.count} schedules with ids, {load.size} bytes each, {load.rate:g} due per second; "
        f"nats-server {version}, default sync interval, {os.cpu_count()} cores"
    )
    print(
        "lateness ms: p50 {p50:.3f}  p99 {p99:.3f}  max {max:.3f}\n"
        "per second:  sent {sent_per_second:.0f}  stored {stored_per_second:.0f}  "
        "delivered {delivered_per_second:.0f}\n"
        "lost {lost}  twice {twice}  early {early}".format(**figures)
    )


def _arguments() -> tuple[Load, bool]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="how many schedules")
    parser.add_argument("--rate", type=float, default=2_000, help="how many are due per second")
    parser.add_argument("--size", type=int, default=100, help="bytes of payload, 12 at least")
    parser.add_argument("--lead", type=float, default=5, help="seconds before the first is due")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    return Load(given.count, given.rate, max(given.size, 12), given.lead), given.json


def _storing(url: str, load: Load) -> float:
    """Return how many requests a second are taken and stored, none of them due."""
    headers = b"NATS/1.0\r\nGozo-When: 9999999999\r\nGozo-Id: far-%d\r\n\r\n"
    payload = b"." * load.size
    data = b"".join(
        request(b"gozo", reply=b"bench.far", headers=headers % number, payload=payload)
        for number in range(load.count)
    )
    with RawClient(url) as client:
        client.subscribe("bench.done")
        began = time.monotonic()
        client.send(data)
        # Requests are acted on in order, so when this one is delivered, those before it have
        # been taken; writing is pipelined, in order as well.
        client.send(
            request(
                b"gozo",
                reply=b"bench.done",
                headers=b"NATS/1.0\r\nGozo-When: 0\r\nGozo-Id: done\r\n\r\n",
            )
        )
        client.receive(120)
        return load.count / (time.monotonic() - began)


if __name__ == "__main__":
    main()
