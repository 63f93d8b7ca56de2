"""Lays out a table in a terminal that is too narrow for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GAP = 2  # cells between columns
INDENT = 2  # cells before texts stacked below the first column, which begins a row


@dataclass(frozen=True, slots=True)
class Narrow:
    """How the columns of a table that does not fit are laid out."""

    least: Mapping[str, int]
    """Columns whose texts may wrap, and the least width of each, in cells."""
    stacks: tuple[tuple[str, ...], ...]
    """Columns to stack if wrapping is not enough."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns are stacked."""

    stacks: tuple[tuple[str, ...], ...]
    widths: tuple[int, ...] = ()
    """The width of each stack in cells; empty if they do not fit."""


def lay_out(wanted: Mapping[str, int], narrow: Narrow, room: int) -> Layout:
    """Fit columns into `room` cells; `wanted` is the width of the longest text of each.

    They stand side by side if each can have its least width, else in stacks.
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
    """Shrink the widest columns until all fit; None if they cannot."""
    if sum(least) > room:
        return None
    widths = list(most)
    while sum(widths) > room:
        can = [number for number, width in enumerate(widths) if width > least[number]]
        widths[max(can, key=widths.__getitem__)] -= 1
    return widths
