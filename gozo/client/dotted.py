"""Finds dotted keys in TOML that are too long to parse. Pure.

`tomllib` stores each prefix of a dotted key: one with 20,000 parts, 40 KB of text, takes 1.5 GB. A
file of schedules needs at most three parts.
"""

from __future__ import annotations

import re

MOST_PARTS = 16

_TEXT = r'"(?:[^"\\\n]|\\.)*+"' + r"|'[^'\n]*+'"
_FOUND = re.compile(
    rf"(?P<long>(?:\.[ \t]*+(?:[A-Za-z0-9_-]++|{_TEXT})[ \t]*+){{{MOST_PARTS}}})"
    r'|"""(?:[^"\\]|\\.|"{1,2}(?!"))*+"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*+'{3,5}"
    rf"|{_TEXT}|#[^\n]*+",
    re.DOTALL,
)
"""A key with too many parts, or a string or comment, which may look like one."""


def line_of_long_key(text: str) -> int | None:
    """Return the number of the first line with a key of more than `MOST_PARTS`, if any."""
    for found in _FOUND.finditer(text):
        if found["long"] is not None:
            return text.count("\n", 0, found.start()) + 1
    return None
