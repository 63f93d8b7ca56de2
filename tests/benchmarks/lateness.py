"""How late deliveries are: a sender, a receiver, a daemon and a server, each its own process.

Payloads carry the number and the due time, so the receiver alone can tell what was lost, what
came twice, what came early and how late each was. Sender and receiver run on this host, so
all times are of one wall clock.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
import struct
import time
from dataclasses import asdict, dataclass
from multiprocessing.queues import Queue

from tests.support.raw import RawClient, request

HEAD = struct.Struct(">IQ")
"""What a payload begins with: its number, and when it is due in microseconds."""

CHUNK = 500  # requests sent at once


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the daemon."""

    count: int
    rate: float
    """Schedules due per second."""
    size: int
    """Bytes of payload."""
    lead: float
    """Seconds from the first request to the first due time."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of it. Times in milliseconds, rates per second."""

    sent: int
    lost: int
    twice: int
    early: int
    p50: float
    p99: float
    max: float
    sent_per_second: float
    delivered_per_second: float

    def as_dict(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)


def measure(url: str, load: Load) -> Figures:
    """Send the load to the daemon behind `url` and wait for its deliveries."""
    results: Queue[list[tuple[int, int, int]]] = multiprocessing.Queue()
    listening = multiprocessing.Event()
    first_due_us = time.time_ns() // 1000 + int(load.lead * 1_000_000)
    receiver = multiprocessing.Process(
        target=_receive, args=(url, load, first_due_us, listening, results)
    )
    receiver.start()
    listening.wait()
    seconds: Queue[float] = multiprocessing.Queue()
    sender = multiprocessing.Process(target=_send, args=(url, load, first_due_us, seconds))
    sender.start()
    took = seconds.get()
    arrivals = results.get()
    sender.join()
    receiver.join()
    return _account(load, took, arrivals)


def _send(url: str, load: Load, first_due_us: int, seconds: Queue[float]) -> None:
    began = time.monotonic()
    with RawClient(url) as client:
        for start in range(0, load.count, CHUNK):
            numbers = range(start, min(start + CHUNK, load.count))
            client.send(b"".join(_request(load, number, first_due_us) for number in numbers))
        client.confirm()
    seconds.put(time.monotonic() - began)


def _request(load: Load, number: int, first_due_us: int) -> bytes:
    due_us = first_due_us + int(number * 1_000_000 / load.rate)
    headers = b"NATS/1.0\r\nGozo-When: %d.%06d\r\nGozo-Id: bench-%d\r\n\r\n" % (
        *divmod(due_us, 1_000_000),
        number,
    )
    payload = HEAD.pack(number, due_us).ljust(load.size, b".")
    return request(b"gozo", reply=b"bench.due", headers=headers, payload=payload)


def _receive(
    url: str,
    load: Load,
    first_due_us: int,
    listening: multiprocessing.synchronize.Event,
    results: Queue[list[tuple[int, int, int]]],
) -> None:
    """Note number, due time and arrival (nanoseconds) of each delivery."""
    arrivals: list[tuple[int, int, int]] = []
    seen: set[int] = set()
    last_due = first_due_us / 1_000_000 + load.count / load.rate
    with RawClient(url) as client:
        client.subscribe("bench.due")
        listening.set()
        try:
            while len(seen) < load.count:
                patience = max(0.0, last_due - time.time()) + 20
                for message in client.receive(patience):
                    number, due_us = HEAD.unpack_from(message.payload)
                    seen.add(number)
                    arrivals.append((number, due_us, message.at_ns))
            while True:  # whatever else comes came twice
                for message in client.receive(0.5):
                    number, due_us = HEAD.unpack_from(message.payload)
                    arrivals.append((number, due_us, message.at_ns))
        except TimeoutError:
            pass
    results.put(arrivals)


def _account(load: Load, took: float, arrivals: list[tuple[int, int, int]]) -> Figures:
    late_ms = sorted((at_ns / 1000 - due_us) / 1000 for _, due_us, at_ns in arrivals)
    numbers = {number for number, _, _ in arrivals}
    span = (arrivals[-1][2] - arrivals[0][2]) / 1e9 if len(arrivals) > 1 else 0.0
    return Figures(
        sent=load.count,
        lost=load.count - len(numbers),
        twice=len(arrivals) - len(numbers),
        early=sum(late < 0 for late in late_ms),
        p50=_quantile(late_ms, 0.50),
        p99=_quantile(late_ms, 0.99),
        max=_quantile(late_ms, 1.0),
        sent_per_second=load.count / took,
        delivered_per_second=len(arrivals) / span if span else 0.0,
    )


def _quantile(ordered: list[float], share: float) -> float:
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
