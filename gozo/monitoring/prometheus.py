"""The daemon's metrics for Prometheus. Users rely on their names and units.

They are read on request only: nothing is counted twice, and they cost nothing otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gozo import __version__
from gozo.errors import Refusal
from gozo.leadership.tenure import Role
from gozo.monitoring.health import Health
from gozo.protocol.answers import Verdict
from gozo.runtime.clock import wall_us
from gozo.schedule.model import MICROSECONDS, State
from gozo.schedule.outcome import Result
from gozo.telemetry.stats import LIMITS_US


class Metrics(Collector):
    """The metrics of one daemon."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their media type, in the format that `Accept` prefers."""
        try:
            return self._encoded(accept)
        except (TypeError, ValueError):  # a version that is not a number, such as 1.x
            return self._encoded("")

    def _encoded(self, accept: str) -> tuple[bytes, str]:
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind

    def collect(self) -> Iterator[Metric]:
        """Read all values now."""
        health = self._health
        bucket = health.bucket
        yield InfoMetricFamily("gozo", "The version of this daemon.", {"version": __version__})
        yield from self._counters()
        yield _lateness(health)
        yield _gauge("schedules_pending", "Schedules waiting for their due time.", bucket.pending)
        yield _gauge(
            "schedules_overdue", "Schedules that are due but not being sent.", bucket.overdue
        )
        yield _gauge("schedules_paused", "Schedules that are paused.", bucket.paused)
        yield _gauge(
            "schedules_failed", "Schedules kept after their delivery was given up.", bucket.failed
        )
        yield _gauge(
            "schedules_invalid", "Entries that are invalid and cannot be delivered.", bucket.invalid
        )
        yield from self._runs()
        yield _gauge("leader", "1 if this daemon leads, else 0.", bucket.role is Role.LEADER)
        yield _gauge("ready", "1 if this daemon can deliver or take over.", not health.problem())
        yield _gauge(
            "rivals",
            "Daemons that lead on the same request subject with another bucket.",
            len(bucket.rivals),
        )
        latest = health.stats.latest_us / MICROSECONDS
        yield _gauge("lateness_max_seconds", "The greatest lateness of any delivery.", latest)
        for gauge in bucket.gauges():
            yield _gauge(gauge.name, gauge.help, gauge.value)
        yield from self._connections()

    def _runs(self) -> Iterator[Metric]:
        bucket = self._health.bucket
        yield _gauge(
            "schedules_failing",
            "Schedules whose last run failed, or that have not succeeded in time.",
            bucket.failing,
        )
        successes = GaugeMetricFamily(
            "gozo_last_success_timestamp_seconds",
            "When the schedules that --metrics-ids names succeeded last.",
            labels=["id"],
        )
        for id_, at_us in bucket.successes:
            successes.add_metric([id_], at_us / MICROSECONDS)
        yield successes
        runs = GaugeMetricFamily(
            "gozo_runs",
            "Occurrences that await their receiver's answer, or failed, by state.",
            labels=["state"],
        )
        for state, number in bucket.runs.items():
            runs.add_metric([state], number)
        yield runs
        running, oldest_us = bucket.runs[State.RUNNING], bucket.oldest_run_us
        yield _gauge("runs_running", "Occurrences that receivers are working on.", running)
        yield _gauge(
            "oldest_run_seconds",
            "Age of the oldest attempt that a receiver is working on; 0 without one.",
            0.0 if oldest_us is None else max(wall_us() - oldest_us, 0) / MICROSECONDS,
        )

    def _counters(self) -> Iterator[Metric]:
        stats = self._health.stats
        yield _counter("requests_accepted", "Requests accepted.", stats.accepted)
        refused = CounterMetricFamily(
            "gozo_requests_refused",
            "Requests refused, by reason.",
            labels=["reason"],
        )
        for code in Refusal:  # also at 0, so that the first one shows as an increase
            refused.add_metric([code], stats.refused[code])
        yield refused
        yield _counter("deliveries", "Messages confirmed by the server.", stats.delivered)
        yield _counter("deliveries_retried", "Delivery attempts that failed.", stats.retried)
        yield _counter("deliveries_failed", "Messages whose delivery was given up.", stats.failed)
        yield _counter(
            "dead_letters",
            "Dead letters that a stream has taken.",
            stats.dead_letters,
        )
        yield _counter(
            "deliveries_held_back_seconds",
            "Time during which --max-deliver-rate held back due messages.",
            stats.held_back,
        )
        yield _counter(
            "schedules_missed", "Schedules skipped because they were too late.", stats.missed
        )
        yield from self._confirmations()

    def _confirmations(self) -> Iterator[Metric]:
        stats = self._health.stats
        answers = CounterMetricFamily(
            "gozo_answers", "Answers of receivers, by what they say.", labels=["answer"]
        )
        for verdict in Verdict:
            answers.add_metric([verdict], stats.answers[verdict])
        yield answers
        outcomes = CounterMetricFamily(
            "gozo_outcomes",
            "Occurrences that receivers have to confirm, by outcome.",
            labels=["outcome"],
        )
        for result in Result:
            outcomes.add_metric([result], stats.outcomes[result])
        yield outcomes
        yield _counter(
            "answer_headers_invalid",
            "Headers of answers that were ignored because their values are invalid.",
            stats.invalid_headers,
        )
        yield _counter(
            "unanswered", "Attempts whose receivers were silent for too long.", stats.unanswered
        )
        yield _counter(
            "runs_skipped",
            "Occurrences skipped because earlier ones were not settled.",
            stats.skipped,
        )

    def _connections(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("gozo_connected", "1 if the connection is up.", labels=["name"])
        made = CounterMetricFamily(
            "gozo_connections_made", "Times the connection was established.", labels=["name"]
        )
        buffered = GaugeMetricFamily(
            "gozo_connection_buffered_bytes", "Bytes waiting to be sent.", labels=["name"]
        )
        for name, connection in self._health.connections.items():
            up.add_metric([name], connection.connected)
            made.add_metric([name], connection.epoch)
            buffered.add_metric([name], connection.backlog)
        yield from (up, made, buffered)


def _lateness(health: Health) -> Metric:
    lateness = health.stats.lateness
    limits = [*(f"{limit / MICROSECONDS:g}" for limit in LIMITS_US), "+Inf"]
    return HistogramMetricFamily(
        "gozo_lateness_seconds",
        "How long after its due time each message was sent.",
        buckets=list(zip(limits, lateness.cumulated(), strict=True)),
        sum_value=lateness.sum_us / MICROSECONDS,
    )


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(f"gozo_{name}", help_, value)


def _counter(name: str, help_: str, value: float) -> Metric:
    return CounterMetricFamily(f"gozo_{name}", help_, value)
