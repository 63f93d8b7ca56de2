"""The JSON bodies of the administrators' verbs. Pure."""

from __future__ import annotations

import json
from typing import NamedTuple

from gozo.errors import Refusal, RequestError
from gozo.protocol.ids import read_id
from gozo.protocol.receipts import RESULT
from gozo.schedule.model import LONGEST_REASON

MOST_IDS = 1_000
"""Maximum ids in one call of a verb for many ids, such as `admin.cancel`."""

MOST_KEYS = 5_000
"""Maximum keys in one answer of `admin.keys`."""


def result_size(id_: str) -> int:
    """Maximum bytes of the result for an id in the answer of a verb for many ids."""
    return len(json.dumps(id_)) + RESULT


def parse_ids(payload: bytes, max_payload: int) -> list[str]:
    """Read the ids of a call: `{"ids": ["a", "b"]}`.

    Raises:
        RequestError: `invalid_request` or `invalid_id`; `too_large`, if the answer would be.
    """
    ids = _object(payload).get("ids")
    if not isinstance(ids, list) or not 0 < len(ids) <= MOST_IDS:
        raise RequestError(
            Refusal.INVALID_REQUEST,
            f"ids is not a list of 1 to {MOST_IDS} ids: give one",
        )
    checked = [_text_id(id_) for id_ in ids]
    if sum(map(result_size, checked)) > max_payload - RESULT:
        raise RequestError(
            Refusal.TOO_LARGE, "the answer would not fit into one message: give fewer ids"
        )
    return checked


def parse_note(payload: bytes) -> str:
    """Read the note of `admin.pause`, `{"ids": ["a"], "note": "why"}`; "" without one.

    Raises:
        RequestError: `invalid_request`.
    """
    note = _object(payload).get("note", "")
    if not isinstance(note, str):
        raise RequestError(Refusal.INVALID_REQUEST, f"the note {str(note)[:80]!r} is not a string")
    return read_note(note)


def parse_force(payload: bytes) -> bool:
    """Read whether `admin.trigger` is forced, `{"ids": ["a"], "force": true}`.

    Raises:
        RequestError: `invalid_request`.
    """
    force = _object(payload).get("force", False)
    if not isinstance(force, bool):
        raise RequestError(
            Refusal.INVALID_REQUEST, f"force is {str(force)[:80]!r}: give true or false"
        )
    return force


def read_note(text: str) -> str:
    """Return a note as it is stored, on one line.

    Raises:
        RequestError: `invalid_request`, if it is too long or not valid text.
    """
    note = " ".join(text.split())
    if len(note) > LONGEST_REASON:
        raise RequestError(
            Refusal.INVALID_REQUEST,
            f"the note has {len(note)} characters; the maximum is {LONGEST_REASON}: shorten it",
        )
    if "\0" in note or any("\ud800" <= character <= "\udfff" for character in note):
        raise RequestError(Refusal.INVALID_REQUEST, "the note is not valid UTF-8 text: fix it")
    return note


def parse_reschedule(payload: bytes) -> tuple[str, str]:
    """Read the body of `admin.reschedule`, `{"id": "a", "when": "+10"}`; id and expression.

    The expression is not checked.

    Raises:
        RequestError: `invalid_request`, `invalid_id` or `invalid_when`.
    """
    asked = _object(payload)
    text = asked.get("when")
    if not isinstance(text, str):
        raise RequestError(
            Refusal.INVALID_WHEN, "when is not a string: give an expression as in Gozo-When"
        )
    return _text_id(asked.get("id")), text


class KeysAsked(NamedTuple):
    """The body of `admin.keys`."""

    prefix: str
    """The prefix of the keys."""
    after: str
    """The last key of the previous page; empty for the first page."""
    limit: int
    """Maximum keys in the answer; 0: none."""
    counts: bool
    """Whether the answer also counts schedules by state."""


def parse_keys(payload: bytes) -> KeysAsked:
    """Read the body of `admin.keys`: `{"prefix": "a", "after": "ab", "limit": 100}`.

    Everything in it is optional.

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
        raise RequestError(Refusal.INVALID_ID, f"the id {str(value)[:80]!r} is not a string")
    try:
        return read_id(value.encode(), "the id")
    except UnicodeEncodeError as error:
        raise RequestError(Refusal.INVALID_ID, f"the id {value[:80]!r} is not UTF-8") from error
