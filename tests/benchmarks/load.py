"""The sender and the receiver, each in a process of its own, on plain sockets.

Both add as little as they can to what is measured: the receiver notes the time as soon as it
has read, before it looks at what it has read.
"""

from __future__ import annotations

import gc
import time
from array import array
from dataclasses import dataclass
from multiprocessing.connection import Connection

from tests.support.raw import RawClient, request

NANOSECONDS = 1_000_000_000
CHUNK = 500  # requests handed to the socket at once
QUIET = 1.0  # seconds without a message after the last, to see what comes twice


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be sent."""

    url: str
    subject: str
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


def send(plan: Plan, report: Connection) -> None:
    """Send every request at full speed; report when it began and the first due time (ns)."""
    step = NANOSECONDS / plan.rate if plan.rate else 0.0
    reply = plan.subject.encode()
    with RawClient(plan.url) as client:
        began = time.time_ns()
        first = began + round(plan.lead * NANOSECONDS)
        report.send((began, first))
        for start in range(0, plan.count, CHUNK):
            numbers = range(start, min(start + CHUNK, plan.count))
            dues = ((number, (first + round(number * step)) // 1000) for number in numbers)
            client.send(b"".join(_request(number, due, reply, plan.size) for number, due in dues))
        client.confirm()
    report.send(time.time_ns())


def _request(number: int, due_us: int, reply: bytes, size: int) -> bytes:
    when = b"%d.%06d" % divmod(due_us, 1_000_000)
    headers = b"NATS/1.0\r\nGozo-When: %b\r\nGozo-Id: bench-%d\r\n\r\n" % (when, number)
    payload = (b"%d %d " % (number, due_us)).ljust(size, b".")
    return request(b"gozo", reply=reply, headers=headers, payload=payload)


def receive(plan: Plan, report: Connection) -> None:
    """Take what arrives until all has come and then nothing more; report it in three arrays."""
    numbers, dues, arrivals = array("q"), array("q"), array("q")
    gc.disable()
    with RawClient(plan.url) as client:
        client.subscribe(plan.subject)
        report.send(True)
        patience = plan.lead + plan.duration + 20
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
