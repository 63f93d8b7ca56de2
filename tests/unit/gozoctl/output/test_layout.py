"""Where a table finds room in a narrow terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gozoctl.output.layout import GAP, Layout, Narrow, lay_out

NARROW = Narrow({"ID": 36, "SUBJECT": 12}, (("ID", "SUBJECT"), ("LEFT",)))
WIDTH = st.integers(1, 200)
BESIDE = (("ID",), ("LEFT",), ("SUBJECT",))


def test_as_much_as_there_is() -> None:
    """What may be folded gives way, the widest first, and nothing more than it has to."""
    wanted = {"ID": 36, "LEFT": 9, "SUBJECT": 30}
    assert lay_out(wanted, NARROW, 79) == Layout(BESIDE, (36, 9, 30))
    assert lay_out(wanted, NARROW, 70) == Layout(BESIDE, (36, 9, 21))
    assert lay_out(wanted, NARROW, 61) == Layout(BESIDE, (36, 9, 12))
    assert lay_out(wanted, NARROW, 60) == Layout(NARROW.stacks, (36, 9))


def test_long_ids() -> None:
    """One that is longer than a UUID may be folded; what is below the first column is set in."""
    wanted = {"ID": 70, "LEFT": 9, "SUBJECT": 40}
    assert lay_out(wanted, NARROW, 60) == Layout(NARROW.stacks, (49, 9))
    assert lay_out(wanted | {"ID": 3}, NARROW, 60) == Layout(BESIDE, (3, 9, 40))
    assert lay_out(wanted | {"ID": 36}, NARROW, 60) == Layout(NARROW.stacks, (42, 9))


@given(id_=WIDTH, left=WIDTH, subject=WIDTH, room=st.integers(1, 300))
def test_it_fits(id_: int, left: int, subject: int, room: int) -> None:
    """No line is longer than the terminal, and what must not be folded is not."""
    layout = lay_out({"ID": id_, "LEFT": left, "SUBJECT": subject}, NARROW, room)
    widths = dict(zip(layout.stacks, layout.widths, strict=False))
    if widths:
        assert sum(widths.values()) + GAP * (len(widths) - 1) <= room
        assert widths["LEFT",] == left
        assert widths[layout.stacks[0]] >= min(id_, 36)
    else:
        assert room < max(min(id_, 36), min(subject, 12)) + left + GAP
