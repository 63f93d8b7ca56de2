"""How large files, classes and functions may be, so that each can be read at one sitting."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.readme import ROOT

FILE, TEST_FILE, CLASS, FUNCTION = 400, 600, 350, 60
"""Lines, at most."""
ATTRIBUTES = 20
"""Attributes of a class, at most.

More than 30 (`SHARED_KEYS_MAX_SIZE` in CPython) also cost time: then each object has a dictionary
of its own, and CPython 3.11 looks up every method that is called on it.
"""

PRODUCT = sorted([*ROOT.glob("gozo/**/*.py"), *ROOT.glob("gozoctl/**/*.py")])


def too_large(path: Path) -> Iterator[str]:
    """Name what is larger than it may be."""
    text = path.read_text()
    if (lines := text.count("\n")) > FILE:
        yield f"{path}: {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            is_class = isinstance(node, ast.ClassDef)
            if lines > (CLASS if is_class else FUNCTION):
                yield f"{path}: {node.name} has {lines} lines"
            if is_class and (count := len(attributes(node))) > ATTRIBUTES:
                yield f"{path}: {node.name} has {count} attributes"


def attributes(node: ast.AST) -> set[str]:
    """Return what the methods of a class assign to `self`."""
    return {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute)
        and isinstance(part.ctx, ast.Store)
        and isinstance(part.value, ast.Name)
        and part.value.id == "self"
    }


def test_nothing_is_too_large() -> None:
    """What has to be larger is split, or named here with the reason."""
    assert len(PRODUCT) > 100
    assert [found for path in PRODUCT for found in too_large(path)] == []


def test_no_test_file_is_too_large() -> None:
    """Those of tests may be longer: each test stands for itself."""
    lines = {path: path.read_text().count("\n") for path in ROOT.glob("tests/**/*.py")}
    assert {path: count for path, count in lines.items() if count > TEST_FILE} == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("class A:\n    def b(self):\n" + "        self.c = 1\n" * 30, []),
        ("def f():\n" + "    pass\n" * 60, ["f has 61 lines"]),
        ("class A:\n" + "    x = 1\n" * 350, ["A has 351 lines"]),
        ("x = 1\n" * 401, ["401 lines"]),
        (
            "class A:\n    def b(self):\n" + "".join(f"        self.c{n} = 1\n" for n in range(21)),
            ["A has 21 attributes"],
        ),
    ],
)
def test_what_is_found(tmp_path: Path, text: str, found: list[str]) -> None:
    """Each bound counts."""
    path = tmp_path / "a.py"
    path.write_text(text)
    assert list(too_large(path)) == [f"{path}: {one}" for one in found]
