"""Ids, their keys, and what makes an id invalid."""

from __future__ import annotations

import pytest

from gozo.errors import Refusal, RequestError
from gozo.protocol.ids import LONGEST_ID, escape_id, is_addressable, read_id, unescape_key


@pytest.mark.parametrize(
    ("id_", "key"),
    [
        ("a-Z/0_9", "a-Z/0_9"),
        ("a.b", "a.b"),
        (".a", "=2Ea"),
        ("a.", "a=2E"),
        ("a...b", "a.=2E=2Eb"),
        (".", "=2E"),
        ("a b", "a=20b"),
        ("=_", "=3D_"),
        ("\u00e4\n", "=C3=A4=0A"),
        ("a\n", "a=0A"),
    ],
)
def test_keys(id_: str, key: str) -> None:
    """Each byte that a key cannot contain becomes two hex digits."""
    assert escape_id(id_) == key
    assert unescape_key(key) == id_


@pytest.mark.parametrize("key", ["", "=", "=2e", "=41", "a b", "\u00e4", "=_x", "a.=2"])
def test_what_is_no_key_of_an_id(key: str) -> None:
    """The error names the key."""
    with pytest.raises(ValueError, match="is not the canonical escape of an id") as error:
        unescape_key(key)
    assert repr(key) in str(error.value)


def test_invalid_utf8_is_no_key_of_an_id() -> None:
    """An id is text."""
    with pytest.raises(ValueError, match="utf-8"):
        unescape_key("=FF")


@pytest.mark.parametrize(
    ("key", "expected"),
    [("a.b", True), ("a*.b>", True), ("a.*", False), (">", False), ("*.a", False), ("a b", False)],
)
def test_which_keys_the_server_takes_for_patterns(key: str, expected: bool) -> None:
    """Those in which a token is a wildcard."""
    assert is_addressable(key) is expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"", "Gozo-Id is empty: omit it, or give an id"),
        (b"a" * (LONGEST_ID + 1), "Gozo-Id has 1025 bytes; the maximum is 1024"),
        (b"a\rb", "Gozo-Id contains a line end or a zero byte"),
        (b"a\nb", "Gozo-Id contains a line end or a zero byte"),
        (b"a\0b", "Gozo-Id contains a line end or a zero byte"),
        (b"a\xff", "Gozo-Id is not UTF-8 at byte 2"),
    ],
)
def test_invalid_ids(value: bytes, words: str) -> None:
    """The message names the header, and what is wrong."""
    with pytest.raises(RequestError, match=words) as refused:
        read_id(value, "Gozo-Id")
    assert refused.value.code is Refusal.INVALID_ID


def test_valid_ids() -> None:
    """Any other text is valid, up to the maximum length."""
    assert read_id(b"a" * LONGEST_ID, "Gozo-Id") == "a" * LONGEST_ID
    assert read_id("\u00e4 \t*".encode(), "Gozo-Id") == "\u00e4 \t*"
