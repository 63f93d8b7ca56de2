"""Header blocks: which fields are read, which lines are passed on, and their limits."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gozo.errors import Refusal, RequestError
from gozo.protocol.headers import (
    FIRST_LINE,
    MOST_LINES,
    block,
    check_block,
    fields,
    find,
    is_long,
    pack,
    split,
    unpack,
)
from gozo.protocol.subject_policy import LARGEST_BLOCK


def lines(count: int) -> bytes:
    """Return a block with this many lines."""
    return FIRST_LINE + b"a: b\r\n" * (count - 2) + b"\r\n"


def refusal(block_: bytes) -> RequestError:
    """Return the refusal of a block."""
    with pytest.raises(RequestError) as refused:
        split(block_)
    return refused.value


def test_a_block_has_an_empty_line_at_its_end() -> None:
    """It may have the revision that a write expects."""
    assert block(b"A: b\r\n") == b"NATS/1.0\r\nA: b\r\n\r\n"
    assert block(b"A: b\r\n", 0) == (
        b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\nA: b\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("block_", "expected"),
    [
        (None, []),
        (b"", []),
        (b"NATS/1.0 503", []),
        (b"NATS/1.0 100: x\r\n\r\n", []),
        (
            FIRST_LINE + b"A:b:c\r\nno colon\r\n \tXD \t: \te\x0b\t \r\n\r\n",
            [(b"a", b"b:c"), (b"xd", b"e\x0b")],
        ),
    ],
)
def test_fields(block_: bytes | None, expected: list[tuple[bytes, bytes]]) -> None:
    """Names are in lower case, values without surrounding white space."""
    assert fields(block_) == expected


def test_fields_beyond_the_limits_are_ignored() -> None:
    """Splitting any message takes no longer than splitting the longest valid one."""
    many = b"".join(b"a: %d\r\n" % number for number in range(MOST_LINES + 5))
    assert fields(FIRST_LINE + many) == [(b"a", b"%d" % number) for number in range(MOST_LINES)]
    start = FIRST_LINE + b"a: b\r\nc: "
    room = LARGEST_BLOCK - len(start)
    assert fields(start + b"x" * (room + 9))[1] == (b"c", b"x" * room)


NAMES = st.sampled_from([b"a", b"Bc", b"bC", b"c"])


@given(
    given_=st.dictionaries(
        NAMES, st.from_regex(rb"[ \t]{0,2}[a-zX:]{0,3}[ \t]{0,2}", fullmatch=True)
    ),
    ends=st.booleans(),
)
@example(given_={b"a": b"\tX:X "}, ends=False)
def test_what_is_found_is_what_is_split(given_: dict[bytes, bytes], *, ends: bool) -> None:
    """Finding fields in a long block is the same as splitting it; the first of each name counts."""
    made = FIRST_LINE + b"\r\n".join(b"%b:%b" % one for one in given_.items())
    found = find(made + (b"\r\n\r\n" if ends else b""), b"a", b"bc", b"d")
    expected = dict(reversed(fields(made)))
    assert found == {name: expected[name] for name in (b"a", b"bc") if name in expected}


def test_limits() -> None:
    """Bytes and lines are limited; a block at the limit is read."""
    for good in (lines(MOST_LINES), FIRST_LINE + b"a" * (LARGEST_BLOCK - len(FIRST_LINE))):
        check_block(good)
        assert not is_long(good)
    for bad, words in (
        (lines(MOST_LINES + 1), "the headers have 501 lines; the maximum is 500"),
        (b"x" * (LARGEST_BLOCK + 1), "the headers have 65536 bytes; the maximum is 65535"),
    ):
        assert is_long(bad)
        assert words in str(refusal(bad))
        assert refusal(bad).code is Refusal.TOO_LARGE


@pytest.mark.parametrize(
    ("given_", "own", "passed"),
    [
        (b"Gozo-When :\t+1 \r\ngozo-id:\r\n", {b"gozo-when": b"+1", b"gozo-id": b""}, b""),
        (b"NATS-TTL: 5s\r\nnats-MSG-id:x\r\n", {}, b"nats-MSG-id: x\r\n"),
        (b"A \t:\t b:c \r\nA:\r\n", {}, b"A: b:c\r\nA: \r\n"),
        (b"A: b\r\n  c\r\n\t\t d\r\nB: e\r\n", {}, b"A: b c d\r\nB: e\r\n"),
        (b"A: XbX\x0b\r\n", {}, b"A: XbX\x0b\r\n"),
        (b"A: X\r\n", {}, b"A: X\r\n"),
        (b"A: b\r\n\tc\r\n", {}, b"A: b c\r\n"),
        (b"A: b\r\n\r\nC: d\r\n", {}, b"A: b\r\nC: d\r\n"),
    ],
)
def test_split(given_: bytes, own: dict[bytes, bytes], passed: bytes) -> None:
    """Fields of gozo are returned by name, and the lines to pass on as they are."""
    assert split(FIRST_LINE + given_ + b"\r\n") == (own, passed)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (b"gozo-x: 1\r\nGOZO-X: 2", Refusal.INVALID_REQUEST, "the header 'Gozo-X' occurs twice"),
        (b"gozo-\xff: 1\r\ngozo-\xff: 1", Refusal.INVALID_REQUEST, "'Gozo-\ufffd' occurs twice"),
        (b"no \xff colon", Refusal.INVALID_HEADER, "line 'no \ufffd colon' is invalid"),
        (b"x" * 100, Refusal.INVALID_HEADER, f"line '{'x' * 80}' is invalid"),
        (b"a: b\0", Refusal.INVALID_HEADER, "is invalid"),
        (b"a: b\rc", Refusal.INVALID_HEADER, "is invalid"),
    ],
)
def test_malformed_blocks_are_refused(line: bytes, code: Refusal, words: str) -> None:
    """The message shows the beginning of the line, whatever its encoding."""
    refused = refusal(FIRST_LINE + line + b"\r\n\r\n")
    assert words in str(refused)
    assert refused.code is code


def test_packing() -> None:
    """Only line ends and the percent sign are encoded."""
    assert pack(b"A: 50%\r\nB: %0D\r\n") == b"A: 50%25%0D%0AB: %250D%0D%0A"
    assert unpack(b"") == b""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"A: b", "its Gozo-Headers are not complete lines"),
        (b"A: b%0D%0AB", "its Gozo-Headers are not complete lines"),
        (b"Nats-Rollup: all%0D%0A", "its Gozo-Headers contain other headers"),
        (b"A:b%0D%0A", "its Gozo-Headers contain other headers"),
    ],
)
def test_what_was_not_packed_is_refused(value: bytes, words: str) -> None:
    """The message says why."""
    with pytest.raises(RequestError, match=words) as refused:
        unpack(value)
    assert refused.value.code is Refusal.INVALID_HEADER
