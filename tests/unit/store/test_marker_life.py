"""How long delete markers live."""

from hypothesis import given
from hypothesis import strategies as st

from gozo.store.marker_life import FEW, LONGEST, MARKER_US, SAFE, SHORTEST, USUAL, MarkerLife

USUAL_LIFE = MarkerLife()
LIFE = MarkerLife(few=0)
COUNTS = st.integers(0, 20_000_000)


def test_little_is_stored() -> None:
    """Where a load takes no time a marker lives as short as may be, other settings included."""
    assert LIFE.chosen(0, 0) == LIFE.chosen(1_000, 20_000) == SHORTEST
    assert MarkerLife(shortest=2, few=0).chosen(1_000, 20_000) == 2


def test_few_markers_live_until_the_server_has_written_its_index() -> None:
    """Many do not, and what followers reckon with stays the same."""
    assert USUAL_LIFE.chosen(0, 0) == USUAL_LIFE.chosen(400_000, FEW - 1) == SAFE
    assert USUAL_LIFE.chosen(1_000, FEW) == USUAL_LIFE.shortest_in_use(0, 0) == SHORTEST
    assert USUAL_LIFE.chosen(9_000_000, 0) == 540


def test_loads_take_long() -> None:
    """Where a load takes seconds a marker lives longer, and as long as two loads at least."""
    assert LIFE.chosen(200_000, 0) == 18
    assert LIFE.chosen(400_000, 200_000) == 45
    assert LIFE.chosen(900_000, 0) == USUAL
    assert LIFE.chosen(2_000_000, 0) == 120
    assert LIFE.chosen(200_000, 0, key_us=100.0) == USUAL


@given(COUNTS, COUNTS, st.floats(0, 1_000))
def test_bounds(entries: int, markers: int, key_us: float) -> None:
    """What others reckon with is never more than what was chosen, whatever loads took there."""
    for life in (LIFE, USUAL_LIFE):
        bound = life.shortest_in_use(entries, markers)
        assert SHORTEST <= bound <= life.chosen(entries, markers, key_us) <= LONGEST


def test_markers_do_not_breed() -> None:
    """The more of them there are, the longer they live; that comes to an end."""
    rate, life = 20_000, SHORTEST
    for _ in range(1_000):
        life = LIFE.chosen(0, rate * life)
    assert life == SHORTEST, f"{rate * life * MARKER_US / 1e6} s to load"
