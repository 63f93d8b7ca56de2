"""The JSON bodies of administrative requests, and what is wrong with invalid ones."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from gozo.errors import Refusal, RequestError
from gozo.protocol.admin import (
    MOST_IDS,
    MOST_KEYS,
    KeysAsked,
    parse_ids,
    parse_keys,
    parse_note,
    parse_reschedule,
    read_note,
    result_size,
)
from gozo.protocol.ids import LONGEST_ID
from gozo.protocol.receipts import RESULT
from gozo.schedule.model import LONGEST_REASON

MAX_PAYLOAD = 1024 * 1024


def refused(code: Refusal, words: str, parse: Callable[..., object], *given: object) -> None:
    """Check the code and the message of a refusal."""
    with pytest.raises(RequestError, match=words) as caught:
        parse(*given)
    assert caught.value.code is code


@pytest.mark.parametrize("payload", [b"{}", b'{"ids": "a"}', b'{"ids": []}'])
def test_what_is_no_list_of_ids_is_refused_with_its_bounds(payload: bytes) -> None:
    """No list, an empty one, or none at all: the sentence says how many ids there may be."""
    words = "ids is not a list of 1 to 1000 ids"
    refused(Refusal.INVALID_REQUEST, words, parse_ids, payload, MAX_PAYLOAD)


def test_ids_come_in_their_order() -> None:
    """There may be 1 to 1000."""
    assert parse_ids(b'{"ids": ["a"]}', MAX_PAYLOAD) == ["a"]
    ids = [f"\u00e4{number}" for number in range(MOST_IDS)]
    assert parse_ids(json.dumps({"ids": ids}).encode(), MAX_PAYLOAD) == ids
    more = json.dumps({"ids": [*ids, "b"]}).encode()
    refused(Refusal.INVALID_REQUEST, "1 to 1000 ids", parse_ids, more, MAX_PAYLOAD)


def test_ids_whose_results_would_not_fit_are_refused() -> None:
    """The results are JSON, in which one letter may take six bytes."""
    payload = json.dumps({"ids": ["a", "\u00e4"]}).encode()
    assert result_size("a") == RESULT + 3
    assert result_size("\u00e4") == RESULT + 8
    most = 2 * RESULT + 3 + 8 + RESULT
    assert parse_ids(payload, most) == ["a", "\u00e4"]
    refused(Refusal.TOO_LARGE, "give fewer ids", parse_ids, payload, most - 1)


@pytest.mark.parametrize(
    ("id_", "words"),
    [
        ("7", "the id '7' is not a string"),
        ('"\\ud800"', r"the id '\\ud800' is not UTF-8"),
        ('""', "the id is empty"),
        (json.dumps("a" * (LONGEST_ID + 1)), "the id has 1025 bytes"),
        (json.dumps([*range(99)]), r"the id '\[0, 1[^]]*' is not"),
    ],
)
def test_what_is_no_id_is_refused(id_: str, words: str) -> None:
    """The message shows the beginning of the invalid id."""
    ids, one = f'{{"ids": ["a", {id_}]}}'.encode(), f'{{"id": {id_}, "when": "+1"}}'.encode()
    refused(Refusal.INVALID_ID, words, parse_ids, ids, MAX_PAYLOAD)
    refused(Refusal.INVALID_ID, words, parse_reschedule, one)


@pytest.mark.parametrize("payload", [b'{"id": "a"}', b'{"id": "a", "when": 10}'])
def test_a_reschedule_needs_an_expression(payload: bytes) -> None:
    """One that is missing, or a number: the sentence says what is expected."""
    words = "when is not a string: give an expression"
    refused(Refusal.INVALID_WHEN, words, parse_reschedule, payload)


def test_a_reschedule() -> None:
    """The expression is not parsed yet."""
    assert parse_reschedule(b'{"id": "a", "when": "soon"}') == ("a", "soon")


@pytest.mark.parametrize(
    ("payload", "asked"),
    [
        (b"", KeysAsked("", "", MOST_KEYS, False)),
        (b"{}", KeysAsked("", "", MOST_KEYS, False)),
        (
            b'{"prefix": "a", "after": "ab", "limit": 100, "counts": true}',
            KeysAsked("a", "ab", 100, True),
        ),
        (b'{"limit": 0}', KeysAsked("", "", 0, False)),
        (b'{"limit": 5001}', KeysAsked("", "", MOST_KEYS, False)),
    ],
)
def test_keys(payload: bytes, asked: KeysAsked) -> None:
    """Every member may be omitted, and the limit is limited."""
    assert parse_keys(payload) == asked


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b'{"prefix": 1}', "give prefix and after as strings"),
        (b'{"after": 1}', "give prefix and after as strings"),
        (b'{"limit": "1"}', "give limit as a whole number from 0"),
        (b'{"limit": -1}', "give limit as a whole number from 0"),
        (b'{"counts": 1}', "and counts as true or false"),
        (b"[]", "the payload is not a JSON object"),
        (b"{", "the payload is not JSON"),
        (b"[" * 100_000, "the payload is not JSON"),
    ],
)
def test_what_asks_for_no_keys_is_refused(payload: bytes, words: str) -> None:
    """The message says what is expected."""
    refused(Refusal.INVALID_REQUEST, words, parse_keys, payload)


def test_a_note_has_bounds() -> None:
    """It is valid text, of limited length."""
    assert read_note("a" * LONGEST_REASON) == "a" * LONGEST_REASON
    assert read_note("\ud7ff\ue000") == "\ud7ff\ue000"
    for bad in ("a\0b", "\ud800", "\udfff"):
        refused(Refusal.INVALID_REQUEST, "not valid UTF-8 text", read_note, bad)
    words = "the note has 201 characters; the maximum is 200: shorten it"
    refused(Refusal.INVALID_REQUEST, words, read_note, "a" * 201)
    note = json.dumps({"note": [*range(99)]}).encode()
    words = r"the note '\[0, 1[^]]*' is not a string"
    refused(Refusal.INVALID_REQUEST, words, parse_note, note)
