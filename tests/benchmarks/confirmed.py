"""Confirmed deliveries: how late they are sent, and how soon they are settled.

The receiver answers at once, and asks gozo to say when the bucket has its answer.
"""

from __future__ import annotations

import gc
import time
from array import array
from dataclasses import replace
from multiprocessing.connection import Connection

from tests.benchmarks.contenders import Contender
from tests.benchmarks.load import NANOSECONDS, Plan, process, receive, send
from tests.benchmarks.processes import cpu_seconds, memory_mb
from tests.benchmarks.result import MILLISECOND, Outcome, evaluate, percentile
from tests.benchmarks.scenarios import Kind, Scenario
from tests.support.patience import allow
from tests.support.raw import RawClient, RawMessage

SETTLED = b"benchmark.settled"
"""What the subjects begin with on which gozo says that an answer is in the bucket."""
SIGN_EVERY = 10.0  # seconds between two signs of life of a receiver at work
SLICE = 250  # signs of life sent at once


def measure_confirmed(scenario: Scenario, contender: Contender, plan: Plan, run: str) -> Outcome:
    """Measure confirmed deliveries at a steady rate, or plain ones beside them."""
    beside = scenario.confirmed_beside
    if not beside:
        return _measure(contender, plan)
    way = contender.way(replace(scenario, kind=Kind.SPREAD), f"{run}-plain")
    ours = replace(plan, way=way, subject=contender.listen(f"{run}-plain"))
    theirs = replace(plan, count=round(plan.count * beside / plan.rate), rate=beside)
    with process(answer, theirs) as receiver:
        receiver.recv()
        with process(send, theirs) as sender:
            sender.recv()
            outcome = _measure_plain(ours)
            sender.recv()
        numbers, dues, arrivals, _ = receiver.recv()
    others = evaluate(theirs.count, numbers, dues, arrivals)
    return replace(outcome, lost=outcome.lost + others.lost, twice=outcome.twice + others.twice)


def _measure_plain(plan: Plan) -> Outcome:
    with process(receive, plan) as receiver:
        receiver.recv()
        with process(send, plan) as sender:
            sender.recv()
            sender.recv()
        numbers, dues, arrivals = receiver.recv()
    return evaluate(plan.count, numbers, dues, arrivals)


def _measure(contender: Contender, plan: Plan) -> Outcome:
    with process(answer, plan) as receiver:
        receiver.recv()  # it listens
        with process(send, plan) as sender:
            _, first_ns = sender.recv()
            sender.recv()  # it is done
        time.sleep(max(0.0, first_ns / NANOSECONDS - time.time()))
        before = cpu_seconds(contender.pid)
        numbers, dues, arrivals, settled = receiver.recv()
        after = cpu_seconds(contender.pid)
    outcome = evaluate(plan.count, numbers, dues, arrivals)
    settled = sorted(settled)
    p99 = percentile(settled, 0.99)
    figures: dict[str, float | None] = {
        "settled_p99_ms": None if p99 is None else p99 / MILLISECOND,
        "cpu_us": None,
    }
    if before is not None and after is not None:
        figures["cpu_us"] = (after - before) / plan.count * 1e6
    lost = max(outcome.lost, plan.count - len(settled))
    return replace(outcome, figures=outcome.figures | figures, lost=lost)


def answer(plan: Plan, report: Connection) -> None:
    """Answer what arrives; report numbers, due times, arrivals, and times until settled."""
    numbers, dues, arrivals, settled = array("q"), array("q"), array("q"), array("q")
    answered: dict[int, int] = {}
    patience = plan.lead + plan.duration + plan.count / 10_000 + allow(20)
    gc.disable()
    with RawClient(plan.url) as client:
        client.subscribe(plan.subject)
        client.subscribe(f"{SETTLED.decode()}.{plan.subject}.*")
        report.send(True)
        while len(settled) < plan.count:
            try:
                messages = client.receive(patience)
            except TimeoutError:
                break
            now = time.time_ns()
            answers: list[bytes] = []
            for message in messages:
                if message.subject.startswith(SETTLED):
                    number = int(message.subject.rpartition(b".")[2])
                    settled.append(message.at_ns - answered[number])
                    continue
                number, due_us = _read(message)
                numbers.append(number)
                dues.append(due_us)
                arrivals.append(message.at_ns)
                answered[number] = now
                to = b"%b.%b.%d" % (SETTLED, plan.subject.encode(), number)
                answers.append(b"PUB %b %b 4\r\n+ACK\r\n" % (message.reply, to))
            if answers:
                client.send(b"".join(answers))
    report.send((numbers, dues, arrivals, settled))


# In progress


def measure_running(scenario: Scenario, contender: Contender, plan: Plan) -> Outcome:
    """Keep many in progress, with signs of life every ten seconds, and watch the daemon."""
    memory_before = memory_mb(contender.pid)
    with process(work, replace(plan, lead=scenario.duration)) as receiver:
        receiver.recv()  # it listens
        with process(send, plan) as sender:
            sender.recv()
            sender.recv()
        receiver.recv()  # all are at work
        before, began = cpu_seconds(contender.pid), time.monotonic()
        receiver.recv()  # they are about to answer
        after, took = cpu_seconds(contender.pid), time.monotonic() - began
        memory = memory_mb(contender.pid)
        numbers, dues, arrivals = receiver.recv()
    outcome = evaluate(plan.count, numbers, dues, arrivals)
    figures: dict[str, float | None] = {"cpu_percent": None, "memory_more": None}
    if before is not None and after is not None:
        figures["cpu_percent"] = (after - before) / took * 100
    if memory is not None and memory_before is not None:
        figures["memory_more"] = memory - memory_before
    return Outcome(figures, lost=outcome.lost, twice=outcome.twice, early=outcome.early)


def work(plan: Plan, report: Connection) -> None:
    """Receive all, send signs of life for `lead` seconds, then confirm them."""
    numbers, dues, arrivals = array("q"), array("q"), array("q")
    replies: list[bytes] = []
    with RawClient(plan.url) as client:
        client.subscribe(plan.subject)
        report.send(True)
        while len(replies) < plan.count:
            for message in client.receive(allow(60)):
                number, due_us = _read(message)
                numbers.append(number)
                dues.append(due_us)
                arrivals.append(message.at_ns)
                replies.append(message.reply)
        report.send(True)
        until = time.monotonic() + plan.lead
        slices = [replies[at : at + SLICE] for at in range(0, len(replies), SLICE)]
        while time.monotonic() < until:
            for some in slices:
                client.send(b"".join(b"PUB %b 4\r\n+WPI\r\n" % reply for reply in some))
                client.confirm()
                time.sleep(SIGN_EVERY / len(slices))
        report.send(True)
        for some in slices:
            client.send(b"".join(b"PUB %b 4\r\n+ACK\r\n" % reply for reply in some))
        client.confirm()
        numbers += _come_again(client)
    report.send((numbers, dues + array("q", [0] * (len(numbers) - len(dues))), arrivals))


def _come_again(client: RawClient) -> array[int]:
    """Take what is sent once more, for a moment."""
    numbers = array("q")
    try:
        while True:
            numbers.extend(_read(message)[0] for message in client.receive(1.0))
    except TimeoutError:
        return numbers


def _read(message: RawMessage) -> tuple[int, int]:
    number, due_us, _ = message.payload.split(b" ", 2)
    return int(number), int(due_us)
