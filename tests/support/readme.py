"""Reads marked blocks out of README.md, so that what it shows is what is run.

A block is marked by a comment on the line before it: `<!-- command: tests -->`. As a script
it prints one: `python3 tests/support/readme.py command tests`. `.ci/run` uses it so, with
nothing installed yet: only the standard library here.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"

BLOCK = re.compile(
    r"^<!-- (?P<kind>\w+): (?P<name>\w+) -->\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


def block(kind: str, name: str) -> str:
    """Return the text of the block that is marked `<!-- kind: name -->`."""
    found = blocks(kind)
    if name not in found:
        raise SystemExit(f"{README} has no block marked <!-- {kind}: {name} -->")
    return found[name]


def blocks(kind: str) -> dict[str, str]:
    """Return all blocks of a kind by their names."""
    matches = BLOCK.finditer(README.read_text(encoding="utf-8"))
    return {match["name"]: match["text"] for match in matches if match["kind"] == kind}


if __name__ == "__main__":
    sys.stdout.write(block(*sys.argv[1:3]))
