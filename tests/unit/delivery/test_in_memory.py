"""What lives in the leader's memory only, until it is sent or handed over."""

from __future__ import annotations

from gozo.delivery.in_memory import InMemory, Sent, shown_key
from gozo.protocol.deliveries import triggered
from gozo.runtime.logs import rendered
from gozo.schedule.model import Entry, Misfire, ScheduleRequest, ScheduleSpec, State
from tests.support.heard import heard

NOW_US = 1_763_871_234_000_000


def request(due_us: int, id_: str | None = None) -> ScheduleRequest:
    """A request that is due then."""
    return ScheduleRequest(Entry(id_, "to", "+0", due_us, NOW_US), b"p")


def test_what_is_triggered() -> None:
    """It has the schedule's own id, no occurrence's message id, and nothing of its terms."""
    spec = ScheduleSpec(recurs=True, misfire=Misfire.SKIP, occurred=4)
    headers = b"X: y\r\nnats-msg-id: m\r\n"
    entry = Entry(
        *("a", "to", "@every 90s", NOW_US + 1, NOW_US),
        next_us=NOW_US + 2,
        headers=headers,
        state=State.PAUSED,
        spec=spec,
    )
    sent = triggered(entry, NOW_US + 7)
    assert (sent.id, sent.subject, sent.spec) == ("a", "to", None)
    assert (sent.due_us, sent.wake_us) == (NOW_US + 7, NOW_US + 7)
    assert sent.headers == b"X: y\r\nnats-msg-id: m@2025-11-23T04:13:54.000Z\r\n"


def test_handed_over() -> None:
    """Requests go to whoever leads next, the soonest first; what was triggered is dropped."""
    reported: list[tuple[bytes, int]] = []
    in_memory = InMemory(lambda *handled: reported.append(handled))
    told: list[tuple[Sent, str]] = []
    in_memory.add(request(NOW_US + 2), heard(b"late"))
    in_memory.add(request(NOW_US + 1), heard(b"soon"))
    in_memory.add_triggered(request(NOW_US, "a"), lambda sent, reason: told.append((sent, reason)))
    taken = in_memory.take_all()
    assert [one.heard.payload for one in taken] == [b"soon", b"late"]
    assert told == [(Sent.DROPPED, "")]
    assert (reported, len(in_memory)) == ([], 0)
    in_memory.handed_over(taken[0])
    assert reported == [(taken[0].digest, taken[0].position)]


def test_sent_or_failed() -> None:
    """Who triggered is told what became of it; a request that failed is kept."""
    removed: list[tuple[bytes, int]] = []
    in_memory = InMemory(lambda *handled: removed.append(handled))
    told: list[tuple[Sent, str]] = []
    in_memory.add(request(NOW_US), heard(b"one"))
    for _ in range(2):
        in_memory.add_triggered(
            request(NOW_US, "a"), lambda sent, reason: told.append((sent, reason))
        )
    one, first, second = in_memory.timetable.pop_due(NOW_US, 10)
    assert not in_memory.fail(one, "why")
    assert in_memory.fail(first, "why")
    assert not in_memory.fail(first, "why")
    in_memory.remove(second)
    assert told == [(Sent.FAILED, "why"), (Sent.TRIGGERED, "")]
    assert (removed, len(in_memory)) == ([], 1)
    in_memory.remove(one)
    assert (removed, len(in_memory)) == ([(heard(b"one").digest, 1)], 0)


def test_what_logs_call_it() -> None:
    """Its key begins with what does not print."""
    in_memory = InMemory(lambda digest, position: None)
    in_memory.add(request(NOW_US), heard(b"one"))
    [item] = in_memory.timetable.pop_due(NOW_US, 1)
    assert rendered(shown_key(item.key)) == "memory:1"
