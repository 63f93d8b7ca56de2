"""When the garbage collector looks at what."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from gozo.runtime.gc_control import LEISURE_INTERVAL, LONGEST_INTERVAL, YOUNG, GcControl


class Circle:
    """Holds on to itself, so that only the collector can free it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def garbage() -> Iterator[GcControl]:
    """Have everything loaded at second 0; the collector is as it was afterwards."""
    thresholds = gc.get_threshold()
    garbage = GcControl()
    garbage.begin_loading()
    garbage.end_loading(0.0)
    yield garbage
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def fill() -> list[list[int]]:
    """Make as many objects as are looked at together."""
    return [[number] for number in range(2 * YOUNG)]


def test_what_is_new_is_looked_at(garbage: GcControl) -> None:
    """A circle that nobody needs any more goes soon."""
    circle = weakref.ref(Circle())
    fill()
    assert circle() is None


def test_what_is_old_is_left_alone_until_there_is_leisure(garbage: GcControl) -> None:
    """However much is new meanwhile."""
    old = Circle()
    kept = [fill() for _ in range(30)]
    circle = weakref.ref(old)
    del old
    kept += [fill() for _ in range(30)]
    assert circle() is not None
    garbage.look_at_old(1.0, links=0)
    assert circle() is None


def test_what_a_lost_link_leaves_is_freed_though_it_was_there_from_the_beginning() -> None:
    """What was loaded is looked at where a link was lost, and only there."""
    old = Circle()
    thresholds = gc.get_threshold()
    garbage = GcControl()
    try:
        garbage.end_loading(0.0)
        circle = weakref.ref(old)
        del old
        garbage.look_at_old(1.0, links=0)
        assert circle() is not None
        garbage.look_at_old(2.0, links=1)
        assert circle() is None
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


def test_leisure_is_waited_for_but_not_for_ever(garbage: GcControl) -> None:
    """Times count from the last look."""
    assert not garbage.is_due(LEISURE_INTERVAL, leisure=True)
    assert garbage.is_due(LEISURE_INTERVAL + 1, leisure=True)
    assert not garbage.is_due(LEISURE_INTERVAL + 1, leisure=False)
    assert garbage.is_due(LONGEST_INTERVAL + 1, leisure=False)
    garbage.look_at_old(LONGEST_INTERVAL + 1, links=0)
    assert not garbage.is_due(LONGEST_INTERVAL + 2, leisure=True)
