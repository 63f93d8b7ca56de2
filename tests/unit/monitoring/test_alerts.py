"""The alert rules for Prometheus: their form, and when they fire."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.support.programs import require_program
from tests.support.readme import ROOT

RULES = ROOT / "gozo" / "data" / "prometheus-alerts.yaml"

TEXT = r"(?:[A-Z][^\n#]*|\"[^\"\n]*\")"
"""Text that is YAML without quotation marks, or within them."""

RULE = re.compile(
    r"      - alert: (?P<name>Gozo[A-Za-z]+)\n"
    r"        expr: (?P<expr>[^\n#':]+)\n"
    r"(?:        for: (?P<wait>[1-9][0-9]*[mhdw])\n)?"
    r"        labels:\n"
    r"          severity: (?:critical|warning|info)\n"
    r"        annotations:\n"
    rf"          summary: (?P<summary>{TEXT})\n"
    rf"          description: (?P<description>{TEXT})\n"
)


def test_form() -> None:
    """Each rule has what Prometheus wants of one, and what a person wants to read, once."""
    text = RULES.read_text("utf-8")
    head, _, rules = text.partition("    rules:\n")
    assert re.fullmatch(r"(?:#[^\n]*\n)+groups:\n  - name: gozo\n", head)
    found = list(RULE.finditer(rules))
    assert "".join(one[0] for one in found) == rules
    names = [one["name"] for one in found]
    assert len(set(names)) == len(names) > 10
    for one in found:
        for said in (one["summary"], one["description"]):
            # A colon followed by a blank would be a mapping without quotation marks.
            assert said.startswith('"') or ": " not in said, said
            assert said.strip('"').endswith(".")


FIRES = {
    "GozoNoLeader": ('gozo_leader{job="j"}', "1 1 0x5"),
    "GozoRivals": ('gozo_rivals{job="j"}', "0 0 1x5"),
    "GozoNotReady": ('gozo_ready{job="j"}', "1 1 0x5"),
    "GozoOverdue": ('gozo_schedules_overdue{job="j"}', "0 0 1x5"),
    "GozoDeliveriesFailed": ('gozo_deliveries_failed_total{job="j"}', "0 0 1x5"),
    "GozoSchedulesFailed": ('gozo_schedules_failed{job="j"}', "0 0 1x5"),
    "GozoSchedulesMissed": ('gozo_schedules_missed_total{job="j"}', "0 0 1x5"),
    "GozoSchedulesInvalid": ('gozo_schedules_invalid{job="j"}', "0 0 1x9"),
    "GozoSchedulesPaused": ('gozo_schedules_paused{job="j"}', "0 0 1x169"),
    "GozoRunsFailed": ('gozo_runs{job="j",state="failed"}', "0 0 1x5"),
    "GozoSchedulesFailing": ('gozo_schedules_failing{job="j"}', "0 0 1x5"),
    "GozoNoSuccess": ('gozo_last_success_timestamp_seconds{job="j",id="a"}', "0 0 0x30"),
    "GozoUnanswered": ('gozo_unanswered_total{job="j"}', "0 0 1x5"),
    "GozoRunsSkipped": ('gozo_runs_skipped_total{job="j"}', "0 0 1x5"),
    "GozoRefusing": ('gozo_requests_refused_total{job="j",reason="busy"}', "0 0 1+1x15"),
    "GozoNotFollowing": ('gozo_follower_following{job="j"}', "1 1 0x5"),
    "GozoClockWrong": ('gozo_clock_ahead_seconds{job="j"}', "0 0 -0.7x9"),
    "GozoLate": ('gozo_lateness_seconds_bucket{job="j"', "0 0 0+0x9"),
}
"""Of each alert what it looks at, once a minute: all is well twice, and then no more."""

HOURLY = {"GozoSchedulesPaused", "GozoNoSuccess"}
"""Alerts that wait for days: once an hour is enough, and promtool takes its time."""


def test_when_they_fire(tmp_path: Path) -> None:
    """None fires at first, and each does at the end: by Prometheus's own reckoning."""
    promtool = str(require_program("promtool", package="prometheus"))
    text = RULES.read_text("utf-8")
    assert set(FIRES) == {one["name"] for one in RULE.finditer(text)}
    paths = {unit: tmp_path / f"tests-{unit}.yaml" for unit in ("m", "h")}
    for unit, path in paths.items():
        path.write_text(json.dumps(_tests(text, unit)))  # JSON is YAML
    for verb, files in (("check", [RULES]), ("test", [*paths.values()])):
        command = [promtool, verb, "rules", *map(str, files)]
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def _tests(text: str, unit: str) -> dict[str, object]:
    """Make the tests for promtool: one for each alert that is looked at once in this unit."""
    tests = []
    for name, (series, values) in FIRES.items():
        if (name in HOURLY) != (unit == "h"):
            continue
        last = int(values.rpartition("x")[2]) + 2
        given = [{"series": series, "values": values}]
        if name == "GozoLate":
            ends = {"0.1": "0+0x11", "2": "0 0 1+1x9", "+Inf": "0 0 1+1x9"}
            given = [{"series": f'{series},le="{le}"}}', "values": of} for le, of in ends.items()]
        if name != "GozoNoLeader":
            given.append({"series": 'gozo_leader{job="j"}', "values": f"1x{last}"})
        asked = {"expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'}
        never = f'ALERTS{{alertstate="firing",alertname!="{name}"}}'
        tests.append(
            {
                "interval": f"1{unit}",
                "input_series": given,
                "promql_expr_test": [
                    asked | {"eval_time": f"1{unit}", "exp_samples": []},
                    asked
                    | {
                        "eval_time": f"{last}{unit}",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    },
                    {"expr": never, "eval_time": f"{last}{unit}", "exp_samples": []},
                ],
            }
        )
    return {"rule_files": [str(RULES)], "evaluation_interval": f"1{unit}", "tests": tests}
