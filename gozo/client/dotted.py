"""Dotted keys of TOML that are too long to be read. Pure.

`tomllib` notes each beginning of a dotted key: one of 20,000 parts, 40 KB of text, takes 1.5 GB.
A file of schedules has no use for more than three.
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
"""A key of too many parts, or whatever may look like one and is a text or a comment."""


def line_of_long_key(text: str) -> int | None:
    """Return the number of the first line with a key of more than `MOST_PARTS`, if there is one."""
    for found in _FOUND.finditer(text):
        if found["long"] is not None:
            return text.count("\n", 0, found.start()) + 1
    return None
