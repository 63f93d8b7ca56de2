"""Requests that wait: in order, and without those that are struck out."""

from __future__ import annotations

from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from gozo.protocol.heard import DIGEST, OVERHEAD, Heard, HeardCount, Verb, hear
from gozo.requests.backlog import Backlog


def heard(name: int, received_us: int = 0, payload: bytes = b"", position: int = 1) -> Heard:
    """Make a request that its payload tells from others."""
    return hear(Verb.REQUEST, position, received_us, b"gozo", b"%d" % name, None, payload)


def names(backlog: Backlog) -> list[int]:
    """Take all out."""
    return [int(backlog.take().reply) for _ in range(len(backlog))]


def test_what_is_heard_is_whole() -> None:
    """It is made in a shorter way than by its name."""
    made = heard(1, 2, b"x")
    assert made == Heard(*made)
    assert len(made) == len(Heard._fields)


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "take", "strike", "index"]), st.integers(0, 3)),
        max_size=60,
    )
)
def test_it_is_a_list_from_which_the_first_that_is_alike_is_removed(
    steps: list[tuple[str, int]],
) -> None:
    """Whatever is done, in whatever order."""
    backlog, model = Backlog(), list[int]()
    backlog.index(True)
    for what, name in steps:
        match what:
            case "add":
                backlog.add(heard(name))
                model.append(name)
            case "take" if model:
                assert int(backlog.take().reply) == model.pop(0)
            case "strike":
                assert backlog.strike(heard(name).digest, 1) == (name in model)
                if name in model:
                    model.remove(name)
            case "index":
                backlog.index(False)
                backlog.index(True)
        assert len(backlog) == len(model)
        assert backlog.size == sum(heard(name).size for name in model)
    assert names(backlog) == model


def test_the_old_and_what_is_too_much_is_taken_from_the_front() -> None:
    """By age, or by the memory that they take."""
    backlog = Backlog()
    for name in range(6):
        backlog.add(heard(name, received_us=name, payload=b"x" * 1000))
    assert [int(old.reply) for old in backlog.take_before(2)] == [0, 1]
    assert backlog.shrink(2 * (OVERHEAD + 1000)) == 2
    assert names(backlog) == [4, 5]


def test_what_was_dropped_strikes_out_no_later_one() -> None:
    """That may be the same byte for byte."""
    backlog = Backlog()
    backlog.index(True)
    for position in (1, 2, 3):
        backlog.add(heard(0, payload=b"x", position=position))
    backlog.shrink(2 * (OVERHEAD + 1))
    assert not backlog.strike(heard(0, payload=b"x").digest, 1)
    assert backlog.strike(heard(0, payload=b"x").digest, 2)
    assert len(backlog) == 1


def test_all_can_be_moved_to_another() -> None:
    """Behind what is there."""
    backlog, other = Backlog(), Backlog()
    for name in range(4):
        (other if name < 2 else backlog).add(heard(name))
    backlog.move_to(other)
    assert len(backlog) == backlog.size == 0
    assert names(other) == [0, 1, 2, 3]


def test_every_part_of_a_request_tells_it_from_others() -> None:
    """The subject, the reply subject, the headers and the payload."""
    each = (
        (b"gozo", b"a", b"h", b"p"),
        (b"gozo.admin.cancel", b"a", b"h", b"p"),
        (b"gozo", b"b", b"h", b"p"),
        (b"gozo", b"a", b"i", b"p"),
        (b"gozo", b"a", b"h", b"q"),
        (b"gozo", b"a", None, b"hp"),
    )
    digests = {hear(Verb.REQUEST, 1, 0, *parts).digest for parts in each}
    assert len(digests) == len(each)


def test_the_clock_was_set() -> None:
    """All are as old as before, and in the same order; they can still be struck out."""
    backlog = Backlog()
    backlog.index(True)
    for name in (1, 2, 3):
        backlog.add(heard(name, received_us=name))
    backlog.shift(-10)
    assert backlog.strike(heard(2).digest, heard(2).position)
    assert [(int(one.reply), one.received_us) for one in (backlog.take(), backlog.take())] == [
        (1, -9),
        (3, -7),
    ]


def test_positions() -> None:
    """Requests are found between two positions, and dropped up to one."""
    backlog = Backlog()
    backlog.index(True)
    for position in range(1, 6):
        backlog.add(heard(position % 2, position=position))
    assert [one.position for one in backlog.between(2, 4)] == [3, 4]
    assert (backlog.copies(heard(1).digest), backlog.copies(heard(9).digest)) == (3, 0)
    backlog.forget(2)
    assert [one.position for one in backlog.requests] == [3, 4, 5]
    assert backlog.size == 3 * OVERHEAD
    assert backlog.copies(heard(1).digest) == 2
    assert backlog.strike(heard(1).digest, 1)
    assert [one.position for one in backlog.requests] == [4, 5]


def test_numbers() -> None:
    """In an empty backlog, the first number is one above the last."""
    backlog = Backlog()
    assert (backlog.first, backlog.last) == (1, 0)
    for name in range(3):
        backlog.add(heard(name))
    backlog.take()
    assert (backlog.first, backlog.last) == (2, 3)
    names(backlog)
    assert (backlog.first, backlog.last) == (4, 3)


def test_without_an_index_nothing_is_struck_out() -> None:
    """Everything else works without an index."""
    backlog = Backlog()
    for name in range(4):
        backlog.add(heard(name, position=name))
    backlog.take()
    backlog.forget(1)
    assert not backlog.strike(heard(2).digest, 5)
    assert backlog.copies(heard(2).digest) == 0
    backlog.index(True)
    assert backlog.strike(heard(2).digest, 5)
    backlog.index(False)
    assert not backlog.strike(heard(3).digest, 5)
    assert names(backlog) == [3]


def test_what_was_dropped_elsewhere_strikes_out_no_later_one() -> None:
    """Up to the last dropped position, reports have no effect."""
    backlog = Backlog()
    backlog.index(True)
    for _ in range(2):
        backlog.add(heard(0))
    assert backlog.strike(heard(0).digest, 0)
    backlog.note_dropped(7)
    assert not backlog.strike(heard(0).digest, 7)
    assert backlog.strike(heard(0).digest, 8)


def test_only_what_takes_too_much_is_dropped() -> None:
    """A backlog of exactly the maximum size stays as it is."""
    backlog = Backlog()
    for name in range(2):
        backlog.add(heard(name, received_us=name, position=name + 5))
    assert backlog.shrink(2 * OVERHEAD) == 0
    assert backlog.dropped == -1
    assert backlog.take_before(0) == []
    assert backlog.shrink(2 * OVERHEAD - 1) == 1
    assert backlog.dropped == 5
    assert backlog.shrink(0) == 1
    assert backlog.shrink(0) == 0


def test_nothing_is_left_after_clearing() -> None:
    """Requests, their size and the index are all cleared."""
    backlog = Backlog()
    backlog.index(True)
    backlog.add(heard(0))
    backlog.clear()
    assert (len(backlog), backlog.size) == (0, 0)
    assert not backlog.strike(heard(0).digest, 1)
    backlog.add(heard(0))
    assert backlog.strike(heard(0).digest, 1)


def test_the_digest_of_a_request() -> None:
    """It must be the same on replicas of every version."""
    for headers, text in ((b"h", b"gozo\nto\nh\np"), (None, b"gozo\nto\n\np")):
        made = hear(Verb.REQUEST, 1, 0, b"gozo", b"to", headers, b"p")
        assert made.digest == blake2b(text, digest_size=8).digest()
    assert HeardCount().value == 0


def test_the_size_of_a_request() -> None:
    """It is that of headers and payload, and a fixed overhead."""
    assert hear(Verb.REQUEST, 1, 0, b"gozo", b"to", b"abc", b"de").size == OVERHEAD + 5
    assert hear(Verb.REQUEST, 1, 0, b"gozo", b"to", None, b"de").size == OVERHEAD + 2
    assert len(heard(0).digest) == DIGEST
    made = hear(Verb.CANCEL, 7, 8, b"gozo", b"to", b"h", b"p")
    assert (made.verb, made.position, made.received_us) == (Verb.CANCEL, 7, 8)
    assert (made.reply, made.headers, made.payload) == (b"to", b"h", b"p")
