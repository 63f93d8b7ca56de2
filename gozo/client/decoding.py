"""Decodes entries of the bucket into schedules, readable or not. Pure."""

from __future__ import annotations

import re

from gozo.client.arguments import header_pairs, moment
from gozo.client.confirming import ConfirmedBy
from gozo.client.models import Schedule
from gozo.client.outcome_model import outcome_model
from gozo.errors import Refusal, RequestError, invalid_value
from gozo.protocol.header_names import names, unknown_lines
from gozo.protocol.headers import fields
from gozo.protocol.ids import RESERVED, escape_id, unescape_key
from gozo.protocol.subject_policy import Policy, expression
from gozo.schedule.model import NEVER, OVERDUE_US, Confirm, Entry, Marker, Run, State
from gozo.schedule.record import overdue_us
from gozo.store.entry_codec import (
    APPLY_KEY,
    BARRIER_KEY,
    PROTECT,
    BareEntryError,
    EntryError,
    check_room,
    parse_entry,
)
from gozo.store.legacy_codec import parse_whole

_RAW_KEY = re.compile(r"[A-Za-z0-9_=/-]+(?:\.[A-Za-z0-9_=/-]+)*\Z")
_PLAIN_START = re.compile(r"[A-Za-z0-9_/-]*(?:\.[A-Za-z0-9_/-]+)*")
_COUNT = re.compile(rb"[0-9]{1,9}\Z")
STATES = (*map(str, State), "overdue", "invalid")
"""The states of schedules, as readers see them."""


def keys_of(id_: str) -> list[str]:
    """Return the key of an id and, if it differs, the one used by the original gozo."""
    key = escape_id(id_)
    return [key, id_] if id_ != key and _RAW_KEY.match(id_) else [key]


def key_prefix(id_prefix: str) -> str:
    """Return the common prefix of the keys of all ids with a prefix, old and new ones."""
    return _PLAIN_START.match(id_prefix)[0]  # type: ignore[index]  # it matches any string


def schedule_or_marker(
    policy: Policy,
    key: str,
    revision: int,
    stored_us: int,
    headers: bytes | None,
    value: bytes | None,
    now_us: int,
    max_payload: int,
) -> Schedule | Marker | None:
    """Decode a message of the bucket; without its `value`, None means that it is needed."""
    try:
        if value is None:
            entry = parse_entry(key, headers, stored_us)
        else:
            entry, value = parse_whole(key, headers, value, stored_us)
    except BareEntryError:
        return None
    except EntryError as error:
        return _invalid(key, revision, stored_us, headers, value, str(error))
    if isinstance(entry, Marker):
        return entry
    size = entry.size if value is None else len(value)
    state, reason = str(entry.state), entry.reason
    try:
        policy.check_entry(entry)
        if headers:  # entries of the original gozo have no headers
            check_room(entry, headers, max_payload)
    except RequestError as error:
        state, reason = "invalid", str(error)
    run = entry.run
    is_tried = state == State.RETRYING or (state == State.FAILED and entry.is_dead_letter)
    if state == State.PENDING and run is None and entry.wake_us < now_us - OVERDUE_US:
        state = "overdue"
    found = Schedule(
        id=entry.id,
        key=key,
        subject=entry.subject,
        when=entry.when,
        due=moment(entry.due_us),
        created=moment(entry.created_us),
        size=size,
        headers=header_pairs(entry.headers),
        state=state,
        reason=reason,
        revision=revision,
        payload=value,
        confirm=_confirmed_by(entry),
        attempts=entry.attempts,
        spec=entry.spec,
        managed_by=entry.managed_by,
        tried=entry.tried,
        next=moment(entry.next_us) if entry.next_us and is_tried else None,
        protected=entry.protected,
        confirmation=entry.confirmation,
        unknown_headers=names(entry.unknown),
    )
    return found if entry.confirmation is None else _confirmed(found, entry)


def _confirmed_by(entry: Entry) -> ConfirmedBy:
    if entry.confirmation is None or entry.confirmation.by is Confirm.STREAM:
        return entry.confirm
    return "claim" if entry.confirmation.by is Confirm.CLAIM else "reply"


def _confirmed(found: Schedule, entry: Entry) -> Schedule:
    """Add what only entries with a `Confirmation` have."""
    last = None if entry.record is None else entry.record.last
    at_us = overdue_us(entry)
    found = found._replace(
        outcome=None if last is None else outcome_model(last),
        overdue_at=None if at_us == NEVER else moment(at_us),
    )
    return found if entry.run is None else _run(found, entry.run)


def _run(found: Schedule, run: Run) -> Schedule:
    return found._replace(
        occurrence=run.occurrence,
        attempt=run.tokens[0][0] if run.tokens else 0,
        sent=moment(run.sent_us) if run.sent_us else None,
        claimed=bool(run.owner),
        give_up=None if run.give_up_us == NEVER else moment(run.give_up_us),
        last_attempt=run.is_last,
    )


def is_hidden(key: str) -> bool:
    """Return whether a key is gozo's own and not of a schedule."""
    return key in (BARRIER_KEY, APPLY_KEY)


def id_of(key: str) -> str | None:
    """Return the id of a key; None for a reserved or invalid key."""
    if key.startswith(RESERVED):
        return None
    try:
        return unescape_key(key)
    except ValueError:
        return None


def _invalid(
    key: str,
    revision: int,
    stored_us: int,
    headers: bytes | None,
    value: bytes | None,
    reason: str,
) -> Schedule:
    given = dict(fields(headers))
    told = given.get(b"nats-msg-size", b"")
    size = int(told) if _COUNT.match(told) else 0
    return Schedule(
        id=id_of(key),
        key=key,
        subject=given.get(b"gozo-subject", b"").decode("utf-8", "replace"),
        when=given.get(b"gozo-when", b"").decode("utf-8", "replace"),
        due=moment(stored_us),
        created=moment(stored_us),
        size=size if value is None else len(value),
        state="invalid",
        reason=reason,
        revision=revision,
        payload=value,
        protected=PROTECT in given,
        unknown_headers=names(unknown_lines(given)),
    )


def check_state(state: str | None) -> None:
    """Make sure that a state is one that schedules may have.

    Raises:
        RequestError: `invalid_request`.
    """
    if state is not None and state not in STATES:
        *others, last = STATES
        raise RequestError(
            Refusal.INVALID_REQUEST,
            f"the state is {state!r}: give {', '.join(others)} or {last}",
        )


def matcher(pattern: str) -> re.Pattern[str]:
    """Return an expression for the subjects that a NATS pattern matches.

    Raises:
        RequestError: `invalid_request`, if the pattern is invalid.
    """
    tokens = pattern.split(".")
    if not all(tokens) or ">" in tokens[:-1] or re.search(r"\s", pattern):
        raise RequestError(
            Refusal.INVALID_REQUEST,
            invalid_value(
                "subject",
                pattern,
                "expected no white space, no empty tokens, and > only as the last token",
            ),
        )
    return expression((pattern,))


def entry_of(key: str, headers: bytes | None, value: bytes, stored_us: int) -> tuple[Entry, bytes]:
    """Read a schedule in order to change it; returns entry and payload.

    Raises:
        RequestError: `invalid_request`, if it cannot be read.
    """
    try:
        entry, payload = parse_whole(key, headers, value, stored_us)
    except EntryError as error:
        raise RequestError(
            Refusal.INVALID_REQUEST, f"the entry under {key!r} is invalid: {error}"
        ) from error
    if isinstance(entry, Marker):
        raise RequestError(Refusal.INVALID_REQUEST, f"{key!r} is a delete marker")
    return entry, payload
