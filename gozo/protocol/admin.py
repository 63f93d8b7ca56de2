"""The verbs of administrators: what each is asked, as JSON. Pure."""

from __future__ import annotations

import json
from typing import NamedTuple

from gozo.errors import Refusal, RequestError
from gozo.protocol.ids import read_id
from gozo.protocol.receipts import RESULT
from gozo.schedule.model import LONGEST_REASON

MOST_IDS = 1_000
"""Ids that one call of a verb for many takes, such as `admin.cancel`."""

MOST_KEYS = 5_000
"""Keys that one answer of `admin.keys` has at most."""


def result_size(id_: str) -> int:
    """How many bytes the result for an id takes in the answer of a verb for many."""
    return len(json.dumps(id_)) + RESULT


def parse_ids(payload: bytes, max_payload: int) -> list[str]:
    """Read the ids that a verb is for: `{"ids": ["a", "b"]}`.

    Raises:
        RequestError: `invalid_request` or `invalid_id`; `too_large`, where the answer would be.
    """
    ids = _object(payload).get("ids")
    if not isinstance(ids, list) or not 0 < len(ids) <= MOST_IDS:
        raise RequestError(Refusal.INVALID_REQUEST, f"give ids, a list of 1 to {MOST_IDS} of them")
    checked = [_text_id(id_) for id_ in ids]
    if sum(map(result_size, checked)) > max_payload - RESULT:
        raise RequestError(
            Refusal.TOO_LARGE, "the answer would not fit into one message: give fewer ids at once"
        )
    return checked


def parse_note(payload: bytes) -> str:
    """Read the note that `admin.pause` is given, `{"ids": ["a"], "note": "why"}`; "": none.

    Raises:
        RequestError: `invalid_request`.
    """
    note = _object(payload).get("note", "")
    if not isinstance(note, str):
        raise RequestError(Refusal.INVALID_REQUEST, f"{str(note)[:80]!r} is no note: give a text")
    return read_note(note)


def read_note(text: str) -> str:
    """Return a note as it is stored, on one line.

    Raises:
        RequestError: `invalid_request`, where it is too long or no text.
    """
    note = " ".join(text.split())
    if len(note) > LONGEST_REASON:
        raise RequestError(
            Refusal.INVALID_REQUEST,
            f"the note has {len(note)} characters; the most is {LONGEST_REASON}: shorten it",
        )
    if "\0" in note or any("\ud800" <= character <= "\udfff" for character in note):
        raise RequestError(Refusal.INVALID_REQUEST, "the note is no text of UTF-8: mend it")
    return note


def parse_reschedule(payload: bytes) -> tuple[str, str]:
    """Read what `admin.reschedule` is asked: `{"id": "a", "when": "+10"}`; id and expression.

    The expression is any text.

    Raises:
        RequestError: `invalid_request`, `invalid_id` or `invalid_when`.
    """
    asked = _object(payload)
    text = asked.get("when")
    if not isinstance(text, str):
        raise RequestError(Refusal.INVALID_WHEN, "give when, an expression as in Gozo-When")
    return _text_id(asked.get("id")), text


class KeysAsked(NamedTuple):
    """What `admin.keys` is asked."""

    prefix: str
    """How the keys begin."""
    after: str
    """The last key of the page before; empty for the first page."""
    limit: int
    """How many keys are answered at most; 0: none."""
    counts: bool
    """Whether schedules are counted by state besides."""


def parse_keys(payload: bytes) -> KeysAsked:
    """Read what `admin.keys` is asked: `{"prefix": "a", "after": "ab", "limit": 100}`.

    All of it may be omitted.

    Raises:
        RequestError: `invalid_request`.
    """
    asked = _object(payload) if payload else {}
    prefix, after = asked.get("prefix", ""), asked.get("after", "")
    limit, counts = asked.get("limit", MOST_KEYS), asked.get("counts", False)
    if not isinstance(prefix, str) or not isinstance(after, str):
        raise RequestError(
            Refusal.INVALID_REQUEST, "give prefix and after as strings, or omit them"
        )
    if not isinstance(limit, int) or not isinstance(counts, bool) or limit < 0:
        raise RequestError(
            Refusal.INVALID_REQUEST,
            "give limit as a whole number from 0, and counts as true or false, or omit them",
        )
    return KeysAsked(prefix, after, min(limit, MOST_KEYS), counts)


def _object(payload: bytes) -> dict[str, object]:
    try:
        asked = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise RequestError(Refusal.INVALID_REQUEST, f"the payload is not JSON: {error}") from error
    if not isinstance(asked, dict):
        raise RequestError(Refusal.INVALID_REQUEST, "the payload is not a JSON object")
    return asked


def _text_id(value: object) -> str:
    if not isinstance(value, str):
        raise RequestError(Refusal.INVALID_ID, f"{str(value)[:80]!r} is no id: give a text")
    try:
        return read_id(value.encode(), "the id")
    except UnicodeEncodeError as error:
        raise RequestError(Refusal.INVALID_ID, f"{value[:80]!r} is no text of UTF-8") from error
