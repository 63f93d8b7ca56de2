"""Runs a scenario for a contender, and returns what came of it."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tests.benchmarks.aged import measure_aged
from tests.benchmarks.confirmed import measure_confirmed, measure_running
from tests.benchmarks.contenders import Contender
from tests.benchmarks.load import NANOSECONDS, Plan, payload_of, process, receive, send, trickle
from tests.benchmarks.processes import cpu_seconds, memory_mb, peak_memory_mb
from tests.benchmarks.result import Outcome, evaluate
from tests.benchmarks.scenarios import Kind, Scenario
from tests.support.patience import allow
from tests.support.raw import RawClient

LOOK = 0.02  # seconds between two looks at how much is taken
SINGLE_TIME = 15.0  # seconds after which no further single request is sent
REST = 2.0  # seconds between the filling of an idle scheduler and the watch over it
WRITES = 2  # messages in the stream that a schedule causes: it, and what becomes of it


def measure(scenario: Scenario, contender: Contender, url: str, run: str) -> Outcome:
    """Run a scenario; `run` is a word that no other run on this server has."""
    if scenario.kind is Kind.IDLE:
        return _idle(scenario, contender)
    plan = Plan(
        url,
        contender.way(scenario, run),
        contender.listen(run),
        scenario.count,
        scenario.rate,
        scenario.size,
        scenario.lead_time,
    )
    match scenario.kind:
        case Kind.SPREAD:
            return _spread(scenario, contender, plan, run)
        case Kind.SINGLE:
            return _single(plan)
        case Kind.RESTART:
            return _restart(contender, plan)
        case Kind.AGED:
            return measure_aged(contender, plan)
        case Kind.CONFIRMED:
            return measure_confirmed(scenario, contender, plan, run)
        case Kind.RUNNING:
            return measure_running(scenario, contender, plan)


# Sent ahead, due later


def _spread(scenario: Scenario, contender: Contender, plan: Plan, run: str) -> Outcome:
    before = contender.taken(scenario)
    with process(receive, plan) as receiver:
        receiver.recv()  # it listens
        with process(send, plan) as sender:
            began_ns, first_ns = sender.recv()
            stored_per_s = _watch(scenario, contender, before, began_ns, first_ns)
            sender.recv()  # it is done
        with _besides(scenario, contender, plan, run, first_ns) as besides:
            _sleep_until(first_ns)
            cpu = cpu_seconds(contender.pid)
            numbers, dues, arrivals = receiver.recv()
            used = _cpu_since(cpu, contender)
    outcome = evaluate(plan.count, numbers, dues, arrivals)
    more = {
        "stored_per_s": stored_per_s,
        "cpu_us": None if used is None else used / plan.count * 1e6,
        "memory_mb": memory_mb(contender.pid),
        "peak_mb": peak_memory_mb(contender.pid),
    }
    if besides:
        expected = before + plan.count * WRITES + besides
        outcome = replace(outcome, lost=outcome.lost + _missing(scenario, contender, expected))
    return replace(outcome, figures=outcome.figures | more)


def _watch(
    scenario: Scenario, contender: Contender, before: int, began_ns: int, first_ns: int
) -> float | None:
    """Return how many were taken per second, if all are before the first is due."""
    while (now := time.time_ns()) < first_ns:
        if contender.taken(scenario) - before >= scenario.count:
            return scenario.count * NANOSECONDS / (now - began_ns)
        time.sleep(LOOK)
    return None


@contextmanager
def _besides(
    scenario: Scenario, contender: Contender, plan: Plan, run: str, first_ns: int
) -> Iterator[int]:
    """Send the requests that come in while others are due; yields how many they are."""
    count = round(scenario.requests * plan.duration)
    if not count:
        yield 0
        return
    way = contender.way(scenario, f"{run}-besides")
    lead = max(0.0, first_ns / NANOSECONDS - time.time())
    with process(
        trickle, replace(plan, way=way, count=count, rate=scenario.requests, lead=lead)
    ) as sender:
        sender.recv()  # it is about to begin
        yield count


def _missing(scenario: Scenario, contender: Contender, expected: int) -> int:
    """Wait until so many messages were written, and return how many were not in the end."""
    deadline = time.monotonic() + allow(5)
    while (missing := expected - contender.taken(scenario)) > 0 and time.monotonic() < deadline:
        time.sleep(LOOK)
    return max(0, missing)


# One after the other


def _single(plan: Plan) -> Outcome:
    numbers, dues, arrivals = array("q"), array("q"), array("q")
    deadline = time.monotonic() + SINGLE_TIME
    with RawClient(plan.url) as client:
        client.subscribe(plan.subject)
        sent = 0
        while sent < plan.count and time.monotonic() < deadline:
            now_us = time.time_ns() // 1000
            payload = payload_of(sent, now_us, plan.size)
            client.send(plan.way.publication(sent, None, payload))
            sent += 1
            for message in client.receive():
                number, due_us, _ = message.payload.split(b" ", 2)
                numbers.append(int(number))
                dues.append(int(due_us))
                arrivals.append(message.at_ns)
    return evaluate(sent, numbers, dues, arrivals)


# Due while nobody delivers


def _restart(contender: Contender, plan: Plan) -> Outcome:
    with process(send, plan) as sender:
        _, first_ns = sender.recv()
        sender.recv()  # all is stored
    contender.stop()
    _sleep_until(first_ns)
    if contender.keeps:
        began_ns = time.time_ns()
        contender.start()
        with process(receive, plan) as receiver:
            receiver.recv()
            numbers, dues, arrivals = receiver.recv()
    else:
        with process(receive, plan) as receiver:
            receiver.recv()  # it listens
            began_ns = time.time_ns()
            contender.start()
            numbers, dues, arrivals = receiver.recv()
    outcome = evaluate(plan.count, numbers, dues, arrivals)
    more = {
        "restart_s": (max(arrivals) - began_ns) / NANOSECONDS if arrivals else None,
        "memory_mb": memory_mb(contender.pid),
        "peak_mb": peak_memory_mb(contender.pid),
    }
    return replace(outcome, figures=outcome.figures | more)


# Nothing due


def _idle(scenario: Scenario, contender: Contender) -> Outcome:
    time.sleep(REST)
    cpu = cpu_seconds(contender.pid)
    time.sleep(scenario.duration)
    used = _cpu_since(cpu, contender)
    share = None if used is None else used / scenario.duration * 100
    return Outcome({"cpu_percent": share, "memory_mb": memory_mb(contender.pid)})


def _cpu_since(before: float | None, contender: Contender) -> float | None:
    now = cpu_seconds(contender.pid)
    return None if now is None or before is None else now - before


def _sleep_until(moment_ns: int) -> None:
    time.sleep(max(0.0, moment_ns / NANOSECONDS - time.time()))
