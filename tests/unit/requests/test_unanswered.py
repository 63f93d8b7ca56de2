"""Requests that wait for their receipt, and how long."""

from __future__ import annotations

from gozo.requests.unanswered import LEAST_TIME, RECEIPT_TIME, Waiting


def test_each_is_answered_once_and_in_time() -> None:
    """What is settled is not late; what is late is not settled any more."""
    waiting = Waiting()
    first = waiting.add("r.1", "a", "stored", age=0.0, now=10.0)
    second = waiting.add("r.2", None, "cancelled", age=0.0, now=11.0)
    third = waiting.add("r.3", "c", "stored", age=0.0, now=12.0)
    assert waiting.settle(second)
    assert not waiting.settle(second)
    assert list(waiting.late(9.9 + RECEIPT_TIME)) == []
    assert [one.receipt for one in waiting.late(10.0 + RECEIPT_TIME)] == ["r.1"]
    assert not waiting.settle(first)
    assert [one.id for one in waiting.late(float("inf"))] == ["c"]
    assert not waiting.settle(third)


def test_from_when_it_was_heard() -> None:
    """One that waited for a leader has less time left, but some."""
    waiting = Waiting()
    young = waiting.add("r.1", None, "stored", age=2.0, now=10.0)
    old = waiting.add("r.2", None, "stored", age=60.0, now=10.0)
    assert waiting.until(young) == 10.0 + RECEIPT_TIME - 2.0
    assert waiting.until(old) == 10.0 + LEAST_TIME
