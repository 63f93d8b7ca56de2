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


def test_a_busy_bucket_holds_no_more_than_short_lives_explain() -> None:
    """The markers of its first seconds live long, but no later ones do."""
    rate, life, ends = 2_000, SAFE, [0] * 1_000
    kept: list[int] = []
    for second in range(1_000 - SAFE):
        life = USUAL_LIFE.chosen(1_000, sum(ends[second:]), before=life)
        ends[second + life] += rate
        kept.append(sum(ends[second + 1 :]))
    assert max(kept[:SAFE]) > FEW
    assert max(kept[SAFE + 2 * SHORTEST :]) <= rate * SHORTEST


def test_markers_live_long_again_when_half_as_many_are_left() -> None:
    """This is not sooner, and lasts until there are too many again."""
    assert USUAL_LIFE.chosen(0, FEW // 2, before=SHORTEST) == SHORTEST
    assert USUAL_LIFE.chosen(0, FEW // 2 - 1, before=SHORTEST) == SAFE
    assert USUAL_LIFE.chosen(0, FEW - 1, before=SAFE) == SAFE


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
