"""The sender and the receiver, each in a process of its own, on plain sockets.

Both add as little as they can to what is measured: the sender makes its bytes before it begins,
and the receiver notes the time as soon as it has read, before it looks at what it has read.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TypeVar

from tests.benchmarks.ways import Way
from tests.support.patience import allow
from tests.support.raw import RawClient

NANOSECONDS = 1_000_000_000
CHUNK = 500  # publications handed to the socket at once
CHUNK_BYTES = 4_000_000  # at most, of payload
FLIGHT = 4  # chunks whose last message is not acknowledged yet
MAKING = 50_000  # publications that a sender makes per second, at the least
QUIET = 1.0  # seconds without a message after the last, to see what comes twice
ANSWERS = "benchmark.answers"
BEAT = 0.01  # seconds between two portions of a steady stream
FAR = 30 * 24 * 3600 * 1_000_000  # microseconds until what is far off is due
STRIDE_US = 7_919_000_000  # far-off times lie so far apart, modulo
WHEEL_US = 10**13  # this: neither in the order of their numbers nor all the same

P = TypeVar("P")
"""What a process is told to do."""

spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be sent, and where it is to arrive."""

    url: str
    way: Way
    subject: str
    """Where the receiver listens."""
    count: int
    rate: float
    """Schedules due per second; 0: all at one instant."""
    size: int
    """Bytes of payload."""
    lead: float
    """Seconds from the first request to the first due time."""

    @property
    def duration(self) -> float:
        """Seconds from the first due time to the last."""
        return self.count / self.rate if self.rate else 0.0


@contextmanager
def process(target: Callable[[P, Connection], None], plan: P) -> Iterator[Connection]:
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


def send(plan: Plan, report: Connection) -> None:
    """Send every request at full speed; report when it began and the first due time (ns)."""
    step = NANOSECONDS / plan.rate if plan.rate else 0.0
    first = time.time_ns() + round((plan.lead + plan.count / MAKING) * NANOSECONDS)
    dues = ((first + round(number * step)) // 1000 for number in range(plan.count))
    chunks = list(_chunks(plan, enumerate(dues)))
    with RawClient(plan.url) as client:
        report.send((time.time_ns(), first))
        _send_all(client, plan, chunks)
    report.send(time.time_ns())


def fill(plan: Plan) -> None:
    """Store far-off schedules, and return once all are."""
    base = time.time_ns() // 1000 + FAR
    dues = (base + number * STRIDE_US % WHEEL_US for number in range(plan.count))
    with RawClient(plan.url) as client:
        _send_all(client, plan, _chunks(plan, enumerate(dues)))


def trickle(plan: Plan, report: Connection) -> None:
    """Send requests for far-off schedules at a steady rate, from `lead` seconds on."""
    due = time.time_ns() // 1000 + FAR
    with RawClient(plan.url) as client:
        report.send(True)
        began = time.monotonic() + plan.lead
        sent = 0
        while sent < plan.count:
            wanted = min(plan.count, int((time.monotonic() - began) * plan.rate))
            if wanted > sent:
                client.send(b"".join(_publication(plan, n, due) for n in range(sent, wanted)))
                sent = wanted
            time.sleep(BEAT)
        client.confirm()
    report.send(True)


def stream(plan: Plan, report: Connection) -> None:
    """Send each request `lead` seconds before it is due; report the first due time (ns)."""
    step = NANOSECONDS / plan.rate
    first = time.time_ns() + round((plan.lead + 1) * NANOSECONDS)
    ahead = round(plan.lead * NANOSECONDS)
    report.send(first)
    with RawClient(plan.url) as client:
        sent = 0
        while sent < plan.count:
            wanted = min(plan.count, int((time.time_ns() + ahead - first) / step) + 1)
            if wanted > sent:
                numbers = range(sent, wanted)
                dues = ((n, (first + round(n * step)) // 1000) for n in numbers)
                client.send(b"".join(_publication(plan, n, due_us) for n, due_us in dues))
                sent = wanted
            time.sleep(BEAT)
        client.confirm()
    report.send(True)


def receive(plan: Plan, report: Connection) -> None:
    """Take what arrives until all has come and then nothing more; report it in three arrays."""
    numbers, dues, arrivals = array("q"), array("q"), array("q")
    gc.disable()
    with RawClient(plan.url) as client:
        client.subscribe(plan.subject)
        report.send(True)
        patience = plan.lead + plan.duration + plan.count / MAKING + allow(10)
        while True:
            try:
                messages = client.receive(QUIET if len(numbers) >= plan.count else patience)
            except TimeoutError:
                break
            for message in messages:
                number, due_us, _ = message.payload.split(b" ", 2)
                numbers.append(int(number))
                dues.append(int(due_us))
                arrivals.append(message.at_ns)
    report.send((numbers, dues, arrivals))


def payload_of(number: int, due_us: int, size: int) -> bytes:
    """Return the payload by which the receiver knows what it is and when it was due."""
    return (b"%d %d " % (number, due_us)).ljust(size, b".")


def _publication(plan: Plan, number: int, due_us: int, answer: bytes = b"") -> bytes:
    payload = payload_of(number, due_us, plan.size)
    return plan.way.publication(number, due_us, payload, answer)


def _chunks(plan: Plan, numbered: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """Return all publications in chunks; the last of each asks for an answer, if there is any."""
    length = max(1, min(CHUNK, CHUNK_BYTES // max(1, plan.size)))
    chunk: list[bytes] = []
    for number, due_us in numbered:
        is_last = len(chunk) == length - 1 or number == plan.count - 1
        answer = ANSWERS.encode() if is_last and plan.way.acknowledged else b""
        chunk.append(_publication(plan, number, due_us, answer))
        if is_last:
            yield b"".join(chunk)
            chunk.clear()


def _send_all(client: RawClient, plan: Plan, chunks: Iterable[bytes]) -> None:
    """Send at full speed, or as fast as JetStream acknowledges: a stream stores in order."""
    if plan.way.acknowledged:
        client.subscribe(ANSWERS)
    flying = 0
    for chunk in chunks:
        client.send(chunk)
        if not plan.way.acknowledged:
            continue
        flying += 1
        while flying >= FLIGHT:
            flying -= _acknowledged(client)
    while flying:
        flying -= _acknowledged(client)
    client.confirm()


def _acknowledged(client: RawClient) -> int:
    answers = client.receive()
    for answer in answers:
        if b'"error"' in answer.payload:
            raise RuntimeError(f"the server refused what was sent: {answer.payload.decode()}")
    return len(answers)
