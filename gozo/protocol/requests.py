"""Requests as they come from the wire. Pure."""

from __future__ import annotations

import re

from gozo.errors import Refusal, RequestError
from gozo.protocol.confirmation import read_confirmation, without_copied
from gozo.protocol.header_names import asked
from gozo.protocol.headers import split
from gozo.protocol.ids import read_id
from gozo.schedule import expression as when
from gozo.schedule.model import (
    CancelRequest,
    Entry,
    Request,
    ScheduleRequest,
)
from gozo.schedule.recurrence import arranged, expression
from gozo.schedule.spec_headers import check_recurs, read_spec

_BASIC_ID = rb"(?:Gozo-Id: ?([A-Za-z0-9_\-/]{1,200})\r\n)?"
_BASIC = re.compile(
    rb"NATS/1\.0\r\n"
    + _BASIC_ID
    + rb"Gozo-When: ?(\+?[0-9]{1,10}(?:\.[0-9]{1,6})?)\r\n"
    + _BASIC_ID
    + rb"\r\n\Z"
)
"""The basic protocol's headers as most clients write them."""


def parse_request(reply: bytes, headers: bytes | None, payload: bytes, received_us: int) -> Request:
    """Read a request as it came from the wire.

    The first due time of a recurring schedule is not computed yet, since that takes longer than
    the rest: see `dated`.

    Raises:
        RequestError: with the code and the message for the client.
    """
    return _basic_request(reply, headers, payload, received_us) or _any_request(
        reply, headers, payload, received_us
    )


def _basic_request(
    reply: bytes, headers: bytes | None, payload: bytes, received_us: int
) -> ScheduleRequest | None:
    """Read the common form of requests, in a third of the time; None for any other form."""
    match = _BASIC.match(headers or b"")
    if match is None:
        return None
    first, text, second = match.groups()
    if first is not None and second is not None:
        return None
    due_us = when.plain_due(text, received_us)
    if due_us > when.LAST_US:
        return None
    id_ = first or second
    told = (
        None if id_ is None else id_.decode(),
        reply.decode("utf-8", "surrogateescape"),
        text.decode(),
        due_us,
        received_us,
    )
    # As `Entry(*told)` and `ScheduleRequest(entry, payload)` do it, in two thirds of the time.
    return _MAKE(ScheduleRequest, (_MAKE(Entry, told + _NO_MORE), payload, None))


_MAKE = tuple.__new__
_NO_MORE = tuple(Entry._field_defaults.values())
"""The other fields of an entry, which such a request does not set."""


def _any_request(reply: bytes, headers: bytes | None, payload: bytes, received_us: int) -> Request:
    own, passed = split(headers)
    given = asked(own)
    when_text = given.get(b"gozo-when")
    cancelled = given.get(b"gozo-del-id")
    wanted = given.get(b"gozo-receipt")
    receipt = None if wanted is None else read_receipt(wanted)
    if cancelled is not None:
        if when_text is not None:
            raise RequestError(
                Refusal.INVALID_REQUEST,
                "the request has both Gozo-When and Gozo-Del-Id: send two requests",
            )
        return CancelRequest(read_id(cancelled, "Gozo-Del-Id"), receipt)
    if when_text is None:
        raise RequestError(
            Refusal.INVALID_REQUEST,
            "the request has neither Gozo-When nor Gozo-Del-Id: give one of them",
        )
    text = when_text.decode("utf-8", "replace")
    due = when.parse(text)
    given_id = given.get(b"gozo-id")
    spec = read_spec(given, due, received_us)
    recurs = spec is not None and spec.recurs
    confirm, attempts, confirmation = read_confirmation(without_copied(given), recurs=recurs)
    id_ = None if given_id is None else read_id(given_id, "Gozo-Id")
    check_recurs(spec, id_)
    entry = Entry(
        id=id_,
        subject=reply.decode("utf-8", "surrogateescape"),
        when=text,
        due_us=when.first_due(due, received_us) if isinstance(due, when.Moment) else 0,
        created_us=received_us,
        headers=passed,
        extended=receipt is not None or confirm or spec is not None or confirmation is not None,
        confirm=confirm,
        attempts=attempts,
        spec=spec,
        confirmation=confirmation,
    )
    return ScheduleRequest(entry, payload, receipt)


def dated(request: ScheduleRequest) -> ScheduleRequest:
    """Return a request with its first due time.

    Raises:
        RequestError: `invalid_when`, if it is never due.
    """
    entry = request.entry
    if not entry.recurs:
        return request
    return request._replace(entry=arranged(entry, expression(entry.when), entry.created_us))


def read_receipt(value: bytes) -> str:
    """Read `Gozo-Receipt`, a subject; whether it is permitted is checked elsewhere.

    Raises:
        RequestError: `forbidden_subject`, if it is empty.
    """
    if not value:
        raise RequestError(
            Refusal.FORBIDDEN_SUBJECT, "Gozo-Receipt is empty: give a subject, or omit it"
        )
    return value.decode("utf-8", "surrogateescape")
