"""The timetable: by example, and against a simple model."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gozo.schedule.model import NEVER, Reason
from gozo.schedule.timetable import Item, Timetable
from gozo.schedule.tombstones import Tombstone

KEYS = st.sampled_from("abcdef")


def test_soonest_first_then_in_order_of_storing() -> None:
    """Due times decide; at the same instant, the order of storing."""
    timetable = Timetable()
    for revision, (key, due_us) in enumerate((("a", 30), ("b", 10), ("c", 10), ("d", 20)), 1):
        timetable.put(key, due_us, revision)
    assert [item.key for item in timetable.pop_due(30, 10)] == ["b", "c", "d", "a"]


def test_an_older_revision_changes_nothing() -> None:
    """What arrives late, or twice, is not taken for news."""
    timetable = Timetable()
    timetable.put("a", 10, 5)
    assert not timetable.put("a", 1, 5)
    assert not timetable.put("a", 1, 4)
    assert not timetable.remove("a", 4)
    assert not timetable.remove("a", 5)
    assert timetable.pop_due(5, 10) == []
    assert timetable.remove("a", 6)
    assert not timetable.remove("a", 6)


def test_a_removed_key_keeps_its_revision_until_its_end() -> None:
    """A tombstone's revision is what the next write must expect."""
    timetable = Timetable(group_bits=0)
    timetable.put("a", 10, 5)
    timetable.remove("a", 6, until_us=100, reason=Reason.CANCELLED)
    assert (timetable.revision("a"), "a" in timetable) == (6, False)
    assert timetable.tombstone("a") == Tombstone(6, 100, Reason.CANCELLED)
    timetable.forget_ended(100, 9)
    assert timetable.revision("a") == 6
    timetable.forget_ended(101, 9)
    assert timetable.revision("a") == 0


def test_a_marker_that_stays_long_keeps_no_other() -> None:
    """Each tombstone is forgotten at its own end, whatever was removed before it."""
    timetable = Timetable(group_bits=0)
    for lasting in (False, True):
        timetable.remove(f"long {lasting}", 1, until_us=1_000, lasting=lasting)
        timetable.remove(f"short {lasting}", 2, until_us=10, lasting=lasting)
    timetable.forget_ended(11, 9)
    assert timetable.pop_lasting(11, 5) == [("short True", 2)]
    assert "short False" not in timetable.tombstones
    assert timetable.revision("long False") == timetable.revision("long True") == 1


def test_markers_are_purged_once_their_time_is_over() -> None:
    """Each once, unless it could not be: then again, if nothing took its place meanwhile."""
    timetable = Timetable(group_bits=0)
    for key in ("stays", "replaced"):
        timetable.remove(key, 1, until_us=10, lasting=True)
    assert timetable.pop_lasting(10, 5) == []
    markers = timetable.pop_lasting(11, 5)
    assert sorted(markers) == [("replaced", 1), ("stays", 1)]
    assert timetable.pop_lasting(11, 5) == []
    timetable.put("replaced", 20, 2)
    timetable.put_back_lasting([*markers, ("never was", 3)])
    assert timetable.pop_lasting(11, 5) == [("stays", 1)]


def test_nothing_is_left_of_a_key_that_is_dropped() -> None:
    """Neither a marker of it, nor a purge, nor that it is out for delivery."""
    timetable = Timetable()
    timetable.remove("removed", 1, 100)
    timetable.purge("purged", 2, 100, Reason.DELIVERED)
    timetable.put("out", 10, 3)
    timetable.pop_due(10, 1)
    for key in ("removed", "purged", "out"):
        timetable.forget(key)
        assert (timetable.seen(key), timetable.tombstone(key)) == (0, None)
    assert timetable.taken == {}


def test_a_held_key_is_not_popped() -> None:
    """While a change of it is being written, a schedule is not delivered."""
    timetable = Timetable()
    timetable.put("a", 10, 1)
    timetable.hold("a")
    assert timetable.pop_due(20, 10) == []
    assert timetable.release("a")
    assert [item.key for item in timetable.pop_due(20, 10)] == ["a"]
    timetable.hold("a")
    assert not timetable.release("a"), "it is out for delivery"
    assert not timetable.release("never was")


def test_what_is_out_for_delivery() -> None:
    """The latest version of a key that was popped, until it is given back, replaced or removed."""
    timetable = Timetable()
    for revision, key in enumerate(("back", "replaced", "removed", "waits"), 1):
        timetable.put(key, 10 * revision, revision)
    back, replaced, removed = timetable.pop_due(30, 9)
    assert all(map(timetable.is_current, (back, replaced, removed)))
    assert not timetable.is_taken("waits")
    assert timetable.rows()[:2] == [(10, 1, "back"), (20, 2, "replaced")]
    assert timetable.due_before(20) == [back]
    timetable.give_back(back)
    timetable.put("replaced", 20, 5)
    timetable.remove("removed", 6)
    for item in (back, replaced, removed):
        assert not timetable.is_current(item)
        assert not timetable.is_taken(item.key)
    assert list(map(timetable.holds, (back, replaced, removed))) == [True, False, False]
    assert timetable.taken == {"replaced": 2}


def test_what_comes_near_is_told_once() -> None:
    """Each schedule crosses the horizon once, so that its message is fetched once."""
    timetable = Timetable()
    timetable.put("a", 10, 1)
    timetable.put("b", 50, 2)
    assert [item.key for item in timetable.approach(20, 10)] == ["a"]
    assert timetable.approach(20, 10) == []
    timetable.put("at the horizon", 20, 70)
    timetable.put("beyond", 90, 3)
    assert timetable.approach(20, 10) == []
    timetable.remove("at the horizon", 71)
    timetable.put("c", 15, 72)
    assert sorted(item.key for item in timetable.approach(60, 10)) == ["b", "c"]


def test_a_crowd_comes_near_in_portions() -> None:
    """So others get their turn meanwhile; what is due is popped in order, wherever it waits."""
    timetable = Timetable()
    for number in range(100):
        timetable.put(f"key{number}", number, number + 1)
    near = [item.due_us for item in timetable.approach(200, 30)]
    assert near == list(range(30))
    assert timetable.lags
    assert timetable.next_due() == 0
    assert [item.due_us for item in timetable.pop_due(49, 100)] == list(range(50))
    assert timetable.next_due() == 50
    timetable.put("between", 60, 1000)
    timetable.give_back(timetable.pop_due(50, 1)[0]._replace(due_us=70))
    later = [item.due_us for item in timetable.pop_due(99, 100)]
    assert later == sorted([*range(51, 100), 60, 70])
    while timetable.lags:
        assert timetable.approach(200, 30) == []


def test_the_next_is_none_that_is_gone() -> None:
    """What was moved or cancelled is not named, wherever it waited."""
    timetable = Timetable()
    timetable.put("later", 90, 1)
    for key, due_us in (("near", 10), ("cancelled", 11)):
        timetable.put(key, due_us, 2)
    timetable.approach(20, 10)
    timetable.put("soon", 5, 3)
    timetable.put("far", 40, 4)
    assert timetable.next_due() == 5
    for key in ("near", "soon", "far"):
        timetable.put(key, 95, 5)
    timetable.remove("cancelled", 6)
    assert timetable.next_due() == 90
    timetable.hold("later")
    assert timetable.next_due() == 95
    timetable.release("later")
    assert timetable.next_due() == 90
    assert [item.key for item in timetable.pop_due(95, 9)] == ["later", "far", "near", "soon"]


def test_many_replacements_leave_no_litter() -> None:
    """Rescheduling one id for ever does not grow the heap for ever."""
    timetable = Timetable()
    for revision in range(1, 20_000):
        timetable.put("a", 1_000_000 + revision, revision)
    assert len(timetable._far) < 2_000
    assert timetable.next_due() is not None


def test_with_the_litter_nothing_is_lost_that_waits() -> None:
    """A key stays though an older item of it is the same, but for being out of date."""
    timetable = Timetable()
    timetable.put("kept", 100, 1)
    timetable.hold("kept")
    timetable.release("kept")
    timetable.give_back(timetable.pop_due(100, 1)[0])
    for revision in range(2, 20_000):
        timetable.put("other", 1_000_000 + revision, revision)
    assert [item.key for item in timetable.pop_due(100, 10)] == ["kept"]


class Model(RuleBasedStateMachine):
    """Random operations, compared with dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.timetable = Timetable()
        self.live: dict[str, Item] = {}
        self.revisions: dict[str, int] = {}
        self.taken: dict[str, Item] = {}
        self.held: set[str] = set()
        self.sequence = 0
        self.now_us = 0

    @rule(key=KEYS, due_us=st.integers(0, 20))
    def put(self, key: str, due_us: int) -> None:
        """Store a version."""
        self.sequence += 1
        self.revisions[key] = self.sequence
        self.live[key] = Item(due_us, self.sequence, key)
        assert self.timetable.put(key, due_us, self.sequence)

    @rule(key=KEYS)
    def remove(self, key: str) -> None:
        """Remove a key."""
        self.sequence += 1
        self.revisions[key] = self.sequence
        self.live.pop(key, None)
        assert self.timetable.remove(key, self.sequence)

    @rule(key=KEYS, due_us=st.integers(0, 20))
    def put_again(self, key: str, due_us: int) -> None:
        """See the latest version once more, as a reload does."""
        assert not self.timetable.put(key, due_us, self.revisions.get(key, 0))

    @rule(key=KEYS)
    def hold(self, key: str) -> None:
        """Begin a change."""
        self.held.add(key)
        self.timetable.hold(key)

    @rule(key=KEYS)
    def release(self, key: str) -> None:
        """End a change."""
        self.held.discard(key)
        self.timetable.release(key)

    @rule(by=st.integers(0, 3), limit=st.integers(1, 5))
    def pop(self, by: int, limit: int) -> None:
        """Let time pass, and take what is due."""
        self.now_us += by
        due = sorted(
            item
            for key, item in self.live.items()
            if item.due_us <= self.now_us and key not in self.held and self.taken.get(key) != item
        )
        popped = self.timetable.pop_due(self.now_us, limit)
        assert popped == due[:limit]
        self.taken.update({item.key: item for item in popped})

    @rule(key=KEYS)
    def give_back(self, key: str) -> None:
        """Fail to deliver."""
        item = self.taken.pop(key, None)
        if item is not None:
            self.timetable.give_back(item)

    @rule(us=st.integers(0, 4), limit=st.integers(1, 3))
    def approach(self, us: int, limit: int) -> None:
        """Move the horizon, a little ahead of now."""
        found = self.timetable.approach(self.now_us + us, limit)
        assert len(found) <= limit
        for item in found:
            assert self.live[item.key] == item

    @invariant()
    def same_revisions(self) -> None:
        """Revisions and live keys are those of the model."""
        assert sorted(self.timetable.keys()) == sorted(self.live)
        for key, revision in self.revisions.items():
            assert self.timetable.revision(key) == revision

    @invariant()
    def next_is_the_soonest(self) -> None:
        """The next due time is that of the soonest that waits, and of none that is gone."""
        waiting = (
            item.due_us
            for key, item in self.live.items()
            if key not in self.held and self.taken.get(key) != item
        )
        assert self.timetable.next_due() == min(waiting, default=None)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=2 * settings().max_examples, stateful_step_count=40)


def test_an_entry_that_cannot_be_delivered_is_never_due() -> None:
    """It is kept, counted, and left alone."""
    timetable = Timetable()
    timetable.put("a", NEVER, 1)
    assert timetable.next_due() is None
    assert timetable.pop_due(NEVER - 1, 5) == []
    assert len(timetable) == 1


def test_what_is_due_is_counted() -> None:
    """Near and far, replaced and given back, each once; not what is out for delivery, or held."""
    timetable = Timetable()
    for number in range(100):
        timetable.put(f"key{number}", number, number + 1)
    timetable.approach(30, 100)
    timetable.put("key1", 500, 1000)
    (taken,) = timetable.pop_due(0, 1)
    assert timetable.count_due(50) == 49
    timetable.give_back(taken)
    timetable.hold("key2")
    timetable.release("key2")
    assert timetable.count_due(50) == 50
    timetable.hold("key3")
    assert timetable.count_due(50) == 49
    assert timetable.count_due(50, but={"key3", "key4", "key99", "none"}) == 48
    assert timetable.count_due(-1) == 0


def test_what_is_near_is_counted_by_its_time() -> None:
    """What is due at that very moment is; its revision says nothing of it."""
    timetable = Timetable()
    for number in range(10):
        timetable.put(f"key{number}", number, 1_000 - number)
    timetable.approach(10, 10)
    assert timetable.count_due(5) == 6


def test_put_off_while_it_was_held() -> None:
    """What is given back for later is not popped before, whoever let it wait meanwhile."""
    timetable = Timetable()
    timetable.put("a", 10, 1)
    (item,) = timetable.pop_due(10, 1)
    timetable.hold("a")
    timetable.give_back(item)
    timetable.release("a")
    timetable.take(item)
    timetable.give_back(item._replace(due_us=20))
    assert timetable.pop_due(19, 1) == []
    assert [item.key for item in timetable.pop_due(20, 1)] == ["a"]


def test_purged() -> None:
    """What was purged is not taken in again, and the next version expects no revision."""
    timetable = Timetable(group_bits=0)
    timetable.put("a", 10, 5)
    timetable.purge("a", 5, 100, Reason.DELIVERED)
    assert (timetable.revision("a"), timetable.seen("a"), len(timetable)) == (0, 5, 0)
    assert not timetable.put("a", 10, 5)
    tombstone = timetable.tombstone("a")
    assert tombstone is not None
    assert tombstone.reason is Reason.DELIVERED
    assert timetable.put("a", 20, 6)
    timetable.purge("a", 5, 100, Reason.DELIVERED)
    assert timetable.revision("a") == 6, "a later version stays"
    timetable.purge("a", 6, 100, Reason.CANCELLED)
    assert timetable.departure("a") is Reason.CANCELLED
    timetable.forget_ended(101, 9)
    assert timetable.tombstone("a") is None
    timetable.purge("a", 7, 200, Reason.CANCELLED)
    timetable.remove("a", 8, 150)
    timetable.forget_ended(151, 9)
    assert timetable.tombstone("a") is None, "a marker took the place of the purge"


def test_what_became_of_a_key_is_known_after_its_tombstone_is_gone() -> None:
    """However that went; and of a key that was there again, only the last."""
    timetable = Timetable(group_bits=0)
    for revision, reason in enumerate((Reason.DELIVERED, Reason.CANCELLED, Reason.DELIVERED)):
        timetable.put("a", 10, 2 * revision + 1)
        timetable.remove("a", 2 * revision + 2, until_us=revision, reason=reason)
        assert timetable.departure("a") is reason
        timetable.forget_ended(revision + 1, 9)
        assert (timetable.tombstone("a"), timetable.departure("a")) == (None, reason)
    timetable.remove("dropped", 20, reason=Reason.DELIVERED)
    timetable.forget("dropped")
    timetable.purge("purged", 21, 100, Reason.DELIVERED)
    timetable.forget_purged()
    assert timetable.departure("dropped") is timetable.departure("purged") is Reason.DELIVERED
    timetable.put("a", 10, 30)
    timetable.forget("a")
    assert timetable.departure("a") is Reason.UNKNOWN, "this one was not delivered"
    timetable.put("b", 10, 31)
    timetable.forget("b")
    assert timetable.departure("b") is None
    timetable.purge("c", 32, 100, Reason.DELIVERED)
    timetable.put("c", 10, 33)
    timetable.forget("c")
    assert timetable.departure("c") is not Reason.DELIVERED, "only an earlier one was"


def test_tombstones_are_forgotten_little_by_little() -> None:
    """It is known how many were, and how many are about to be, replaced ones left out."""
    timetable = Timetable(group_bits=0)
    for number in range(10):
        timetable.put(f"key{number}", 0, number + 1)
        timetable.remove(f"key{number}", number + 100, number, lasting=number >= 6)
    timetable.put("key3", 0, 200)
    timetable.put("key8", 0, 201)
    assert timetable.count_ending(9) == 7
    assert timetable.pop_lasting(9, 1) == [("key6", 106)]
    assert timetable.count_ending(5) == 5, "what is being purged may be gone"
    timetable.put_back_lasting([("key6", 106)])
    assert timetable.count_ending(5) == 4
    assert timetable.forget_ended(5, 2)
    assert len(timetable.tombstones) == 6
    assert not timetable.forget_ended(5, 9)
    assert sorted(timetable.tombstones) == ["key5", "key6", "key7", "key9"]
    assert timetable.count_forgotten(60, 60_999_999) == 4
    assert timetable.count_forgotten(60, 61_000_000) == 0
    timetable.remove("later", 300, 64_000_005)
    timetable.forget_ended(64_000_006, 9)
    assert timetable.count_forgotten(60, 70_000_000) == 2, "the place is taken again"


def test_a_standby_drops_what_others_delivered() -> None:
    """Little by little, and nothing that waits: it pops nothing itself."""
    timetable = Timetable()
    for number in range(10):
        timetable.put(f"key{number}", number, number + 1)
    timetable.approach(3, 9)
    timetable.put("soon", 2, 50)
    for key in ("key0", "key1", "key2", "soon", "key3", "key4", "key6"):
        timetable.remove(key, 100)
    assert timetable.drop_outdated(4)
    assert not timetable.drop_outdated(4)
    assert [len(rows) for rows in (timetable._near, timetable._soon, timetable._far)] == [0, 0, 5]
    assert [item.key for item in timetable.pop_due(9, 9)] == ["key5", "key7", "key8", "key9"]


def test_a_standby_drops_little_at_a_time() -> None:
    """So that others get their turn meanwhile."""
    timetable = Timetable()
    for number in range(10):
        timetable.put(f"key{number}", number, number + 1)
    timetable.approach(20, 10)
    for number in range(10):
        timetable.remove(f"key{number}", 100)
    assert [timetable.drop_outdated(4) for _ in range(3)] == [True, True, False]


def test_what_was_cancelled_goes_although_nothing_is_put() -> None:
    """What is due before it does not keep thousands of cancelled schedules in memory."""
    timetable = Timetable()
    timetable.put("first", 1, 1)
    for number in range(2, 3_000):
        timetable.put(f"key{number}", number, number)
    for number in range(2, 2_999):
        timetable.remove(f"key{number}", number + 3_000)
    assert not timetable.drop_outdated(100)
    assert len(timetable._far) == 2
    assert [item.key for item in timetable.pop_due(9_000, 9)] == ["first", "key2999"]
