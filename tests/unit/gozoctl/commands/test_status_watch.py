"""How quick daemons are, worked out of two looks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gozo.client import Replica
from gozoctl.commands.status_watch import Snapshot, rates

NOW = datetime(2026, 11, 25, tzinfo=UTC)
ONE = Replica(
    name="one",
    version="1",
    role="leader",
    pending=0,
    overdue=0,
    invalid=0,
    delivered=100,
    refused=0,
    lateness_p50_ms=0.1,
    lateness_p99_ms=1.0,
    started=NOW,
    accepted=50,
)


def test_paces() -> None:
    """Per second, and unknown at the first look, for who is new, and after a new start."""
    before = Snapshot(10.0, NOW, (ONE,))
    later = replace(ONE, delivered=300, accepted=51)
    (measured,) = rates(before, Snapshot(12.0, NOW, (later,)))
    assert (measured.accepted, measured.delivered) == (0.5, 100.0)
    for snapshot in (None, Snapshot(10.0, NOW), Snapshot(12.0, NOW, (ONE,))):
        (measured,) = rates(snapshot, Snapshot(12.0, NOW, (later,)))
        assert (measured.accepted, measured.delivered) == (None, None)
    anew = replace(ONE, delivered=5, started=NOW + timedelta(seconds=1))
    (measured,) = rates(before, Snapshot(12.0, NOW, (anew,)))
    assert measured.delivered is None
