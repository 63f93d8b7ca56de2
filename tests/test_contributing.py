"""CONTRIBUTING.md keeps its word: its map is that of the contracts, and what it names is there."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.support.readme import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
CONTRACTS = {"gozo": "packages", "gozoctl": "gozoctl"}
"""The contract of import-linter that each map shows, by the map's name."""


def drawn(name: str) -> list[set[str]]:
    """Return the layers of a map, from top to bottom."""
    _, _, rest = TEXT.partition(f"<!-- map: {name} -->\n```\n")
    layers: list[set[str]] = []
    for line in rest.partition("```")[0].splitlines():
        bar, package = line[0], line[2:].split()[0]
        if bar == "|":
            layers[-1].add(package)
        else:
            layers.append({package})
    return layers


@pytest.mark.parametrize("name", CONTRACTS)
def test_map(name: str) -> None:
    """The picture shows the layers that the contract holds, in their order."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = {one["id"]: one for one in project["tool"]["importlinter"]["contracts"]}
    layers = contracts[CONTRACTS[name]]["layers"]
    assert drawn(name) == [set(re.split(r"[ |:]+", layer)) for layer in layers]


def test_paths() -> None:
    """Each file and folder that it names is there."""
    named = re.findall(r"`((?:gozo|gozoctl|tests|man)/[\w./-]*)`", TEXT)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_tasks() -> None:
    """Each task that it names is one of noxfile.py."""
    tasks = set(
        re.findall(r"^def (\w+)\(|name=\"(\w+)\"", (ROOT / "noxfile.py").read_text(), re.MULTILINE)
    )
    named = re.findall(r"nox -s (\w+)", TEXT)
    assert named
    assert set(named) <= {one or other for one, other in tasks}
