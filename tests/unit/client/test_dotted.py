"""Dotted keys of TOML: what is too long to be read is found, and nothing else is taken for it."""

from __future__ import annotations

import time
import tomllib
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from gozo.client.dotted import MOST_PARTS, line_of_long_key

PARTS = ["a", "1", "-_", '""', '"x.y"', '"\\"."', "'#'", "'\"'"]
TEXTS = st.text(st.sampled_from("ab.#'\"\\\n\t = []"), max_size=80)


def long_key(parts: int, dot: str = ".") -> str:
    """Return a key of so many parts, of every kind."""
    return dot.join(PARTS[number % len(PARTS)] for number in range(parts))


@pytest.mark.parametrize("dot", [".", " . ", "\t.\t"])
@pytest.mark.parametrize("around", ["{} = 1", "[{}]", "[[{}]]", "a = {{{} = 1}}"])
def test_found_wherever_it_stands(dot: str, around: str) -> None:
    """In a line of its own, as a table's name, in a table within a line; and no shorter one."""
    before = 'a1 = """\n\\""".....\n"""" # "\n'
    text = before + around.format(long_key(MOST_PARTS + 1, dot))
    tomllib.loads(text)
    assert line_of_long_key(text) == 4
    assert line_of_long_key(before + around.format(long_key(MOST_PARTS, dot))) is None


@given(st.dictionaries(st.text(max_size=3), TEXTS | st.floats() | st.lists(TEXTS), max_size=5))
def test_texts_are_no_keys(content: dict[str, Any]) -> None:
    """Whatever stands in a text is none, however the text is written."""
    assert line_of_long_key(tomli_w.dumps(content)) is None
    assert line_of_long_key(tomli_w.dumps(content, multiline_strings=True)) is None


def test_literal_texts_and_comments_are_no_keys() -> None:
    """Neither is what stands in those that nothing is escaped in, or in a comment."""
    dots = long_key(100).replace("'", "")
    text = f"a = '{dots}' # {dots}\nb = '''\n{dots}''\n''''' # '\n# \"\"\"\n"
    tomllib.loads(text)
    assert line_of_long_key(text) is None
    assert line_of_long_key(text + long_key(100) + "=1") == text.count("\n") + 1


@pytest.mark.parametrize(
    "text",
    [one * 100_000 for one in (".", '"', "a", ". ", '."', '.a."', "'''", '"""', '.a."b".')],
)
def test_any_text_is_searched_in_no_time(text: str) -> None:
    """The time grows as the text does: seconds of CPU for so many characters are too many."""
    began = time.process_time()
    line_of_long_key(text)
    assert time.process_time() - began < 3
