"""How objects get what they need: by their constructors, and everything they get is used."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from typing import TypeGuard

import pytest

from tests.support.readme import ROOT

Function = ast.FunctionDef | ast.AsyncFunctionDef

FOREIGN = {
    "gozo/cli/app.py: ctx.obj": "typer's own place for what commands share",
    "gozo/cli/completion.py: lexer.commenters": "shlex has no arguments for its settings",
    "gozo/cli/completion.py: lexer.whitespace_split": "shlex has no arguments for its settings",
    "gozo/cli/usage.py: error.message": "an error of click, worded as gozo's are",
    "gozo/cli/usage.py: error.possibilities": "an error of click, worded as gozo's are",
    "gozo/client/typed.py: cast(Any, awaited).__signature__": "what inspect shows of a function",
    "gozo/client/typed.py: cast(Any, called).__signature__": "what inspect shows of a function",
    "gozo/embedded/server.py: prctl.argtypes": "how ctypes declares a function of C",
    "gozo/runtime/clock.py: self._spec.value.nanoseconds": "a structure of C, kept for speed",
    "gozo/transport/client.py: self._socket.get_protocol()._over_ssl": "a flag of asyncio's own",
    "gozoctl/app.py: ctx.obj": "typer's own place for what commands share",
}
"""Objects that are not gozo's, and why they are assigned to."""

OWN = {
    "gozo/requests/handler.py: self._in_progress.size": "counted for each request, without a call",
    "gozo/requests/request_loop.py: in_progress.size": "counted for each request, without a call",
    "gozo/store/change_writer.py: change.replaces": "a change is a record; its writer notes that",
    "gozo/store/change_writer.py: change.sent": "a change is a record; its writer notes that",
    "gozo/store/handover.py: change.dropped": "a change is a record; whoever drops it notes that",
}
"""State of gozo's objects that is set from outside all the same, and why: no collaborators."""


@functools.cache
def modules() -> dict[str, ast.Module]:
    """All modules of gozo and gozoctl, by path."""
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text())
        for package in ("gozo", "gozoctl")
        for path in sorted(ROOT.glob(f"{package}/**/*.py"))
    }


@functools.cache
def nodes() -> list[tuple[str, ast.AST]]:
    """All nodes of their trees, with the path."""
    return [(path, node) for path, tree in modules().items() for node in ast.walk(tree)]


def is_record(node: ast.ClassDef) -> bool:
    """Tell whether a class is data, which whoever holds it may change: it does nothing itself."""
    methods = [part.name for part in node.body if isinstance(part, Function)]
    is_dataclass = any("dataclass" in ast.unparse(one) for one in node.decorator_list)
    return is_dataclass or methods == ["__init__"]


def record_fields() -> set[str]:
    """The names of the fields of all records."""
    fields = set()
    for _, node in nodes():
        if isinstance(node, ast.ClassDef) and is_record(node):
            fields |= annotated(node)
            fields |= {part.attr for part in ast.walk(node) if is_stored(part)}
    return fields


def annotated(node: ast.ClassDef) -> set[str]:
    """The attributes that a class declares."""
    return {
        part.target.id
        for part in node.body
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
    }


def is_stored(node: ast.AST) -> TypeGuard[ast.Attribute]:
    """Tell whether this assigns to an attribute."""
    return isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)


def is_read(node: ast.AST) -> TypeGuard[ast.Attribute]:
    """Tell whether this reads an attribute."""
    return isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)


def assigned_from_outside() -> dict[str, bool]:
    """What is assigned to an attribute of another object than `self`: whether it is just data."""
    records, private = record_fields(), private_attributes()
    return {
        f"{path}: {ast.unparse(node)}": not node.attr.startswith("on_")
        and node.attr in records | private.get(path, set())
        for path, node in nodes()
        if is_stored(node)
        if ast.unparse(node.value) not in ("self", "cls")
    }


def private_attributes() -> dict[str, set[str]]:
    """The attributes of each module's private classes, which nobody else can reach."""
    found: dict[str, set[str]] = {}
    for path, node in nodes():
        if isinstance(node, ast.ClassDef) and node.name.startswith("_"):
            stored = {part.attr for part in ast.walk(node) if is_stored(part)}
            found.setdefault(path, set()).update(stored)
    return found


def constructors() -> Iterator[tuple[str, ast.ClassDef, Function]]:
    """All constructors, with a name for each."""
    for path, node in nodes():
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, Function) and part.name == "__init__":
                    yield f"{path}: {node.name}", node, part


def names_read(node: ast.AST) -> set[str]:
    """The variables that are read somewhere in a piece of code."""
    return {
        part.id
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)
    }


def test_no_attribute_is_assigned_from_outside() -> None:
    """A collaborator that is forgotten makes no call fail at once: the constructor demands it."""
    found = assigned_from_outside()
    exceptions = FOREIGN | OWN
    assert {one for one, is_data in found.items() if not is_data} <= exceptions.keys()
    assert exceptions.keys() <= found.keys(), "an exception is not needed any more"


def test_every_argument_of_a_constructor_is_used() -> None:
    """What is demanded is needed."""
    unused = set()
    for name, _, init in constructors():
        arguments = {one.arg for one in (*init.args.args, *init.args.kwonlyargs)} - {"self"}
        unused |= {f"{name}({one})" for one in arguments - names_read(init)}
    assert not unused


def test_every_private_attribute_is_read() -> None:
    """What a constructor keeps for the class itself, the class uses, or one that inherits it."""
    inherited = read_by_heirs()
    unread = set()
    for name, node, init in constructors():
        kept = {part.attr for part in ast.walk(init) if is_stored(part)}
        read = {part.attr for part in ast.walk(node) if is_read(part)} | inherited
        unread |= {f"{name}.{one}" for one in kept - read if one.startswith("_")}
    assert not unread


def read_by_heirs() -> set[str]:
    """The attributes that classes read which inherit from one of gozo's."""
    classes = [node for _, node in nodes() if isinstance(node, ast.ClassDef)]
    names = {node.name for node in classes}
    heirs = [node for node in classes if names & set(map(ast.unparse, node.bases))]
    return {part.attr for node in heirs for part in ast.walk(node) if is_read(part)}


@pytest.mark.parametrize("module", ["basis", "components"])
def test_everything_that_is_built_is_used(module: str) -> None:
    """No part is made for nothing: each variable is read, and each field."""
    read = {
        node.attr for path, node in nodes() if path.startswith("gozo/daemon/") and is_read(node)
    }
    for path, node in nodes():
        if path == f"gozo/daemon/{module}.py" and isinstance(node, Function):
            stored = {part for part in ast.walk(node) if isinstance(part, ast.Name)}
            made = {part.id for part in stored if isinstance(part.ctx, ast.Store)}
            assert made <= names_read(node), node.name
        if path == f"gozo/daemon/{module}.py" and isinstance(node, ast.ClassDef):
            assert annotated(node) <= read, node.name
