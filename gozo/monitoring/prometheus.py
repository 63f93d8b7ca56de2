"""The daemon's figures as Prometheus reads them. Names and units are part of what users rely on.

All are taken when somebody asks: nothing is counted twice, and nobody who does not ask pays.
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
from gozo.leadership.lease import Role
from gozo.monitoring.health import Health
from gozo.schedule.model import MICROSECONDS
from gozo.telemetry.stats import LIMITS_US


class Metrics(Collector):
    """Reports the health of a daemon."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the text and its type, in the format that an `Accept` header prefers."""
        try:
            return self._encoded(accept)
        except (TypeError, ValueError):  # a version that is no number, such as 1.x
            return self._encoded("")

    def _encoded(self, accept: str) -> tuple[bytes, str]:
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind

    def collect(self) -> Iterator[Metric]:
        """Take the figures now."""
        health = self._health
        stats, parts = health.stats, health.parts
        yield InfoMetricFamily("gozo", "This daemon.", {"version": __version__})
        yield from self._counters()
        yield _lateness(health)
        yield _gauge("schedules_pending", "Schedules that are waited for.", health.pending)
        yield _gauge(
            "schedules_overdue", "Schedules that are due and not being sent.", health.overdue
        )
        yield _gauge("schedules_paused", "Schedules that are kept and not sent.", health.paused)
        yield _gauge(
            "schedules_failed", "Schedules that were given up, and are kept.", health.failed
        )
        yield _gauge("schedules_invalid", "Entries that cannot be served.", health.invalid)
        yield _gauge(
            "leader", "1 where this daemon leads, 0 where not.", health.role is Role.LEADER
        )
        yield _gauge("ready", "1 if it delivers or is ready to take over.", not health.problem())
        yield _gauge(
            "rivals",
            "Daemons that lead on the same request subject with another bucket.",
            len(health.rivals),
        )
        yield _gauge("lateness_max_seconds", "The latest delivery.", stats.latest_us / MICROSECONDS)
        if parts is not None:
            yield _gauge(
                "requests_waiting",
                "Requests that were heard and not acted on.",
                parts.intake.waiting,
            )
            yield _gauge(
                "writes_outstanding",
                "Changes that the bucket has not acknowledged.",
                parts.store.outstanding,
            )
            yield _gauge(
                "follower_lag_messages",
                "Messages of the bucket that were still to come when it was last heard of.",
                parts.follower.behind,
            )
            yield _gauge(
                "follower_following",
                "1 where the whole bucket is known and followed.",
                parts.follower.is_following,
            )
            yield _gauge(
                "clock_ahead_seconds",
                "How far this host's clock is ahead of the server's.",
                parts.follower.clock_ahead_us / MICROSECONDS,
            )
        yield from self._connections()

    def _counters(self) -> Iterator[Metric]:
        stats = self._health.stats
        yield _counter("requests_accepted", "Requests taken.", stats.accepted)
        refused = CounterMetricFamily(
            "gozo_requests_refused",
            "Requests refused, by the code of the reason.",
            labels=["reason"],
        )
        for code in Refusal:  # those that never came as well, so that a first one is a change
            refused.add_metric([code], stats.refused[code])
        yield refused
        yield _counter("deliveries", "Messages that the server has.", stats.delivered)
        yield _counter("deliveries_retried", "Attempts to deliver in vain.", stats.retried)
        yield _counter("deliveries_failed", "Messages given up.", stats.failed)
        yield _counter(
            "deliveries_held_back_seconds",
            "Time for which --max-deliver-rate held back due messages.",
            stats.held_back,
        )
        yield _counter("schedules_missed", "Schedules left out, being too late.", stats.missed)

    def _connections(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("gozo_connected", "1 where the connection is up.", labels=["name"])
        made = CounterMetricFamily(
            "gozo_connections_made", "How often the connection was made.", labels=["name"]
        )
        buffered = GaugeMetricFamily(
            "gozo_connection_buffered_bytes", "Bytes that wait to be sent.", labels=["name"]
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
