"""Measure gozo beside the server's own schedules: `python -m tests.benchmarks`.

Starts a nats-server and a gozo of its own on loopback, a sender and a receiver, each a process,
and runs scenario after scenario: for gozo, and on the same server for the schedules that
nats-server has itself (2.12 and later). The whole table takes three quarters of an hour, most of it
for `aged`; `--only` chooses scenarios, and `--scale 0.1` runs them with a tenth of the schedules.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmarks.contenders import Contender, Gozo, Server, has_schedules
from tests.benchmarks.measuring import measure
from tests.benchmarks.picture import can_draw, draw
from tests.benchmarks.report import Comparison, as_json, as_text
from tests.benchmarks.result import Outcome, merge
from tests.benchmarks.scenarios import DELIVERED, SCENARIOS, Scenario, custom
from tests.support.server import NatsServer

CUSTOM = ("count", "rate", "size", "lead")
"""Options that describe a scenario of the user's own."""


def main() -> int:
    """Run the benchmark; the exit code is 1 when anything was lost, sent twice or early."""
    options, scenarios = parse()
    conditions: dict[str, Any] = {
        "sync_interval": "default",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": options.rounds,
        "scale": options.scale,
    }
    comparisons: list[Comparison] = []
    for group in grouped(scenarios):
        with NatsServer() as server:
            conditions["nats_server"] = server.version
            alone = options.alone or not has_schedules(server.version)
            comparisons += compare(server, group, options.rounds, alone=alone)
    if options.json:
        print(json.dumps(as_json(conditions, comparisons)))
    else:
        print(as_text(conditions, comparisons))
    if options.picture and (picture := draw(comparisons)):
        options.picture.write_text(picture, encoding="utf-8")
    return 0 if all(one.is_sound for one in comparisons) else 1


def parse() -> tuple[argparse.Namespace, Sequence[Scenario]]:
    """Read the command line, and find the scenarios that it asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="scenarios: " + ", ".join(scenario.name for scenario in SCENARIOS),
    )
    parser.add_argument("--only", metavar="LIST", help="names of scenarios, comma-separated")
    parser.add_argument("--scale", type=float, default=1, help="share of the schedules")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each, of which the medians")
    parser.add_argument("--alone", action="store_true", help="gozo only")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the lateness, as SVG")
    own = parser.add_argument_group("a scenario of your own")
    own.add_argument("--count", type=int, help="schedules (20000)")
    own.add_argument("--rate", type=float, help="due per second; 0: all at once (2000)")
    own.add_argument("--size", type=int, help="bytes of payload (100)")
    own.add_argument("--lead", type=float, help="seconds before the first is due")
    options = parser.parse_args()
    known = {scenario.name for scenario in SCENARIOS}
    unknown = [name for name in (options.only or "").split(",") if name and name not in known]
    if unknown:
        parser.error(f"there is no scenario {unknown[0]!r}: see --help for their names")
    scenarios = chosen(options)
    if options.picture and (options.alone or not any(can_draw(one) for one in scenarios)):
        parser.error("--picture needs a scenario that compares latenesses, such as steady")
    return options, scenarios


def chosen(options: argparse.Namespace) -> Sequence[Scenario]:
    """Return the scenarios that the options ask for."""
    given = {name: getattr(options, name) for name in CUSTOM}
    if any(value is not None for value in given.values()):
        usual = {"count": 20_000, "rate": 2_000.0, "size": 100, "lead": None}
        told = {name: value for name, value in given.items() if value is not None}
        return [custom(**(usual | told))]
    names = options.only.split(",") if options.only else [one.name for one in SCENARIOS]
    return [one.scaled(options.scale) for one in SCENARIOS if one.name in names]


def grouped(scenarios: Sequence[Scenario]) -> Iterator[list[Scenario]]:
    """Bring together what needs the same pending, so that it is prepared once."""

    def pending(scenario: Scenario) -> tuple[int, int]:
        return (scenario.pending, scenario.size if scenario.pending else 0)

    for _, group in itertools.groupby(scenarios, pending):
        yield list(group)


def compare(
    server: NatsServer, group: Sequence[Scenario], rounds: int, *, alone: bool
) -> Iterator[Comparison]:
    """Run scenarios that share a server, for gozo and then for the server's own schedules."""
    gozo = run(Gozo(server), server, group, rounds)
    rivalled = [scenario for scenario in group if scenario.rivalled and not alone]
    rivals = run(Server(server), server, rivalled, rounds)
    for scenario in group:
        yield Comparison(scenario, gozo[scenario.name], rivals.get(scenario.name))


def run(
    contender: Contender, server: NatsServer, group: Sequence[Scenario], rounds: int
) -> dict[str, Outcome]:
    """Run scenarios for one contender, and return what came of each, by name."""
    outcomes: dict[str, Outcome] = {}
    if not group:
        return outcomes
    try:
        contender.start()
        tell(f"{contender.name}: {group[0].pending:,} pending are stored")
        contender.fill(group[0].pending, group[0].size)
        delivered = 0
        for scenario in group:
            tell(f"{contender.name}: {scenario.name}, {scenario.heading}")
            measured = []
            for number in range(rounds):
                one = measure(scenario, contender, server.url, f"{scenario.name}-{number}")
                figures = one.figures | {DELIVERED.key: delivered}
                measured.append(replace(one, figures=figures))
                delivered += scenario.count
            outcomes[scenario.name] = merge(measured)
    finally:
        contender.stop()
    contender.clear()
    return outcomes


def tell(text: str) -> None:
    """Say what goes on, to people only."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
