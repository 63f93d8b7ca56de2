"""How many attributes objects have: Python is quick with no more than 30 of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.support.readme import ROOT

MOST = 30
"""Attributes that objects of a class share the names of (`SHARED_KEYS_MAX_SIZE` in CPython).

With more of them, or with none in slots, each object has a dictionary of its own, and CPython 3.11
looks up every method that is called on it: those on the way of a request took a tenth longer so.
"""


def classes() -> Iterator[ast.ClassDef]:
    """All classes of gozo."""
    for path in ROOT.glob("gozo/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                yield node


def attributes(node: ast.ClassDef) -> set[str]:
    """What the methods of a class assign to `self`."""
    return {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute)
        and isinstance(part.ctx, ast.Store)
        and isinstance(part.value, ast.Name)
        and part.value.id == "self"
    }


def has_slots(node: ast.ClassDef) -> bool:
    """Tell whether a class names its attributes."""
    targets = [
        target for part in node.body if isinstance(part, ast.Assign) for target in part.targets
    ]
    return any(isinstance(target, ast.Name) and target.id == "__slots__" for target in targets)


def test_many_attributes() -> None:
    """A class of more attributes than Python is quick with keeps them in slots."""
    many = {node.name for node in classes() if len(attributes(node)) > MOST and not has_slots(node)}
    assert not many, "add __slots__, or better make two classes of one"
