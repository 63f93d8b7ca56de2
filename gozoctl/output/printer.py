"""Prints tables, JSON and plain text on stdout, and messages for people on stderr.

Ids, subjects and payloads are untrusted: unprintable characters are escaped in every format, so
that they cannot control a terminal or forge a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from gozo.cli.options import tell
from gozo.runtime.logs import visible
from gozoctl.output import times
from gozoctl.output.layout import GAP, INDENT, Layout, Narrow, lay_out

T = TypeVar("T")

Cell = str | tuple[str, str]
"""A text, or a text with its style."""


@dataclass(frozen=True, slots=True)
class TableSpec(Generic[T]):
    """How one kind of thing is printed."""

    heads: tuple[str, ...]
    cells: Callable[[T], Sequence[Cell]]
    """For people: local time, units."""
    fields: Callable[[T], Sequence[str]]
    """For scripts, tab-separated."""
    record: Callable[[T], Mapping[str, Any]]
    """For JSON."""
    name: Callable[[T], str | None]
    """For `-o id`; None prints nothing."""
    columns: tuple[str, ...] = ()
    """The headings for people, if they differ from those for scripts."""
    whole: frozenset[str] = frozenset()
    """Columns never to fold in a narrow terminal; if there are any, the gaps are smaller."""
    narrow: Narrow | None = None
    """How to lay out a table that is too wide for the terminal; None: fold the longest column."""


class Output:
    """The chosen format, and both streams."""

    def __init__(self, chosen: str | None, *, quiet: bool = False, header: bool = True) -> None:
        self.is_terminal = _is_terminal(sys.stdout)
        self.format = chosen or "table"
        if self.format == "table" and not self.is_terminal:
            self.format = "tsv"
        self.quiet = quiet
        self.header = header

    @property
    def is_for_people(self) -> bool:
        """Whether a person reads it in a terminal."""
        return self.format == "table"

    @property
    def is_json(self) -> bool:
        """Whether programs read it as JSON."""
        return self.format in ("json", "jsonl")

    def say(self, message: str) -> None:
        """Print a message for people, unless --quiet."""
        if not self.quiet:
            tell(message)

    def fail(self, message: str) -> None:
        """Print an error, even with --quiet."""
        tell(f"gozoctl: {message}")

    def write(self, text: str) -> None:
        """Write a line of data, escaped."""
        sys.stdout.write(visible(text) + "\n")

    def moment(self, moment: datetime) -> str:
        """Format a moment: for people in local time, with how far away it is, else in UTC."""
        if not self.is_for_people:
            return times.utc(moment)
        return f"{times.local(moment, with_zone=True)}, {times.left(moment, datetime.now(UTC))}"

    def flush(self) -> None:
        """Flush the output."""
        sys.stdout.flush()

    def write_fields(self, *fields: str) -> None:
        """Write a line of tab-separated fields, each escaped."""
        sys.stdout.write("\t".join(map(visible, fields)) + "\n")

    def array(self, records: Iterable[Any]) -> None:
        """Write a JSON array, one element per line."""
        elements = Elements()
        for one in records:
            elements.put(one)
        elements.end()

    def json(self, record: Any) -> None:
        """Write a JSON value on a line."""
        self.write(_json(record))

    def one(self, sheet: TableSpec[T], item: T) -> None:
        """Print one item: an object in JSON, else a list of one."""
        if self.is_json:
            self.json(sheet.record(item))
        else:
            self.all(sheet, [item])

    def all(self, sheet: TableSpec[T], items: Iterable[T]) -> None:
        """Print all items."""
        match self.format:
            case "table":
                self._table(sheet, items)
            case "json":
                self.array(map(sheet.record, items))
            case _:
                lines = Lines(self, sheet)
                lines.begin()
                for item in items:
                    lines.put(item)

    def _table(self, sheet: TableSpec[T], items: Iterable[T]) -> None:
        items = list(items)
        if items:
            screen = console()
            screen.print(table(sheet, items, screen.width, header=self.header))


class Elements:
    """Writes a JSON array, one line per element, as the elements arrive."""

    def __init__(self) -> None:
        self._before = "["

    def put(self, record: Any) -> None:
        """Write an element."""
        sys.stdout.write(self._before + "\n  " + visible(_json(record)))
        self._before = ","

    def end(self) -> None:
        """Close the array."""
        sys.stdout.write("[]\n" if self._before == "[" else "\n]\n")


class Lines(Generic[T]):
    """Prints items one by one as they arrive; for people, in columns that grow as needed."""

    def __init__(self, out: Output, sheet: TableSpec[T]) -> None:
        self._out = out
        self._sheet = sheet
        self._head = out.header and out.format in ("tsv", "table")
        self._widths = [0] * len(sheet.heads)

    def begin(self) -> None:
        """Write the headings; for people, `put` does so with the first line."""
        if self._head and not self._out.is_for_people:
            self._head = False
            sys.stdout.write("\t".join(self._sheet.heads).replace(" ", "_") + "\n")

    def put(self, item: T) -> None:
        """Print one item."""
        out, sheet = self._out, self._sheet
        if out.is_json:
            out.json(sheet.record(item))
        elif out.format == "id":
            name = sheet.name(item)
            if name is not None:
                out.write(name)
        elif out.is_for_people:
            cells = sheet.cells(item)
            self._align([cell if isinstance(cell, str) else cell[0] for cell in cells])
        else:
            self.begin()
            out.write_fields(*sheet.fields(item))

    def _align(self, texts: list[str]) -> None:
        from rich.cells import cell_len  # noqa: PLC0415  # for a terminal only

        rows = [[visible(text) for text in texts]]
        if self._head:
            self._head = False
            rows.insert(0, list(self._sheet.heads))
        for row in rows:
            self._widths = list(map(max, self._widths, map(cell_len, row)))
        for row in rows:
            padded = (
                text + " " * (width - cell_len(text))
                for text, width in zip(row, self._widths, strict=True)
            )
            sys.stdout.write("  ".join(padded).rstrip() + "\n")


def table(
    sheet: TableSpec[T], items: Iterable[T], room: int | None = None, *, header: bool = True
) -> Any:
    """Make a Rich table; a text too long for its column continues on the next line.

    `room` is the width of a line in cells, for sheets with a layout for narrow terminals.
    """
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415  # 20 ms, for a terminal only
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    heads = sheet.columns or sheet.heads
    rows = []
    for item in items:
        cells = ((cell, "") if isinstance(cell, str) else cell for cell in sheet.cells(item))
        rows.append([Text(visible(text), style) for text, style in cells])
    padding = (0, 1, 0, 0) if sheet.whole else (0, 1)
    layout = Layout(tuple((head,) for head in heads))
    if sheet.narrow is not None and room is not None:
        lines = [[Text(head) for head in heads], *rows] if header else rows
        wanted = {head: max(line[n].cell_len for line in lines) for n, head in enumerate(heads)}
        if sum(wanted.values()) + (len(heads) - 1) * (1 + sum(padding)) > room:
            layout, padding = lay_out(wanted, sheet.narrow, room), (0, GAP - 1, 0, 0)
    made = Table(
        box=SIMPLE_HEAD, show_header=header, pad_edge=False, show_edge=False, padding=padding
    )
    joints = ["\n" + " " * INDENT, *["\n"] * (len(layout.stacks) - 1)]
    widths = layout.widths or [None] * len(layout.stacks)
    height = max(map(len, layout.stacks))
    for stack, joint, width in zip(layout.stacks, joints, widths, strict=True):
        head = joint.join(stack) + "\n" * (height - len(stack))  # else Rich moves it down
        is_whole = sheet.whole.issuperset(stack)
        made.add_column(head, overflow="fold", no_wrap=is_whole, width=width)
    for row in rows:
        texts = dict(zip(heads, row, strict=True))
        stacked = zip(layout.stacks, joints, strict=True)
        made.add_row(*(Text(joint).join(texts[head] for head in stack) for stack, joint in stacked))
    return made


def facts(lines: Iterable[tuple[str, Cell]]) -> Any:
    """Make lines of a name and a text, which wraps within its column."""
    from rich.table import Table  # noqa: PLC0415  # for a terminal only
    from rich.text import Text  # noqa: PLC0415

    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", justify="right", no_wrap=True)
    made.add_column(overflow="fold")
    for name, cell in lines:
        text, style = (cell, "") if isinstance(cell, str) else cell
        made.add_row(name, Text(visible(text), style))
    return made


@contextlib.contextmanager
def live(screen: Any) -> Iterator[Callable[[Any], None]]:
    """Show one thing after another in the same place of a terminal, a Rich console."""
    from rich.live import Live  # noqa: PLC0415  # for a terminal only

    size = screen.size
    with Live(console=screen, auto_refresh=False) as view:

        def show(made: Any) -> None:
            nonlocal size
            if screen.size != size:
                # The terminal has rewrapped its lines: where the view begins is unknown.
                size = screen.size
                screen.clear()
            view.update(made, refresh=True)

        yield show


def console() -> Any:
    """Make a Rich console on stdout; without escape sequences where they are unwanted."""
    from rich.console import Console  # noqa: PLC0415  # 20 ms, for a terminal only

    return Console(color_system="auto" if has_escapes() else None, highlight=False, markup=False)


def has_escapes() -> bool:
    """Return whether to send escape sequences to the terminal (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown", "", None)
    return _is_terminal(sys.stdout) and not plain


def can_ask() -> bool:
    """Return whether there is a person to ask."""
    return _is_terminal(sys.stdin) and _is_terminal(sys.stderr)


def ask(question: str) -> bool:
    """Ask a person on stderr; anything but yes means no."""
    sys.stderr.write(visible(question) + " [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _is_terminal(stream: Any) -> bool:
    return stream is not None and not stream.closed and bool(stream.isatty())


_json = json.JSONEncoder(ensure_ascii=False).encode
