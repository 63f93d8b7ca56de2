"""How a table is laid out in a terminal that is too narrow for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GAP = 2  # cells between columns
INDENT = 2  # cells before what stands below the first column, which is how a row begins


@dataclass(frozen=True, slots=True)
class Narrow:
    """What becomes of the columns of a table that does not fit."""

    least: Mapping[str, int]
    """Columns whose texts may go on in the next line, and how many cells each has at least."""
    stacks: tuple[tuple[str, ...], ...]
    """Which stand below each other where folding is not enough."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns stand below each other."""

    stacks: tuple[tuple[str, ...], ...]
    widths: tuple[int, ...] = ()
    """How many cells each stack has; none where they do not fit."""


def lay_out(wanted: Mapping[str, int], narrow: Narrow, room: int) -> Layout:
    """Fit columns into so many cells, where each wants as many as its longest text has.

    They stand side by side if all can keep what they need at least, else in stacks.
    """
    for stacks in (tuple((name,) for name in wanted), narrow.stacks):
        most = [max(wanted[name] for name in stack) for stack in stacks]
        most[0] = max(most[0], *(wanted[name] + INDENT for name in stacks[0][1:]), 0)
        least = [
            max(min(wanted[name], narrow.least.get(name, wanted[name])) for name in stack)
            for stack in stacks
        ]
        widths = _shrunk(most, least, room - GAP * (len(stacks) - 1))
        if widths is not None:
            return Layout(stacks, tuple(widths))
    return Layout(narrow.stacks)


def _shrunk(most: Sequence[int], least: Sequence[int], room: int) -> list[int] | None:
    """Take from the widest until all fit; None: they do not."""
    if sum(least) > room:
        return None
    widths = list(most)
    while sum(widths) > room:
        can = [number for number, width in enumerate(widths) if width > least[number]]
        widths[max(can, key=widths.__getitem__)] -= 1
    return widths
