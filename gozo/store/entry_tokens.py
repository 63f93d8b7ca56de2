"""Tokens of entries: they tell who wrote one, and when, so that a writer knows its own. Pure."""

from __future__ import annotations

import re
import secrets

from gozo.protocol.headers import FIRST_LINE, fields

_CREATE = FIRST_LINE + b"Nats-Expected-Last-Subject-Sequence: 0\r\n"
"""The first header lines of an entry that was written as a new one."""
_DATED = re.compile(rb"[0-9a-f]++-[0-9a-f]++-([0-9a-f]{9,11}+)\Z")
"""A token that says when a create was written."""
_SPARES_RUNS = b"resume"


def is_of_daemon(token: bytes) -> bool:
    """Tell whether a daemon wrote an entry with this token; clients' tokens have no hyphen."""
    return b"-" in token


def client_token(*, spares_runs: bool = False) -> bytes:
    """Return a new token of a client; with `spares_runs`, runs are tried as before."""
    return (_SPARES_RUNS if spares_runs else b"") + secrets.token_hex(6).encode()


def spares_runs(token: bytes) -> bool:
    """Tell whether the runs of a schedule that a client has changed are tried as before."""
    return token.startswith(_SPARES_RUNS)


def dated(token: bytes, written: float) -> bytes:
    """Add to a token when a create was written, in epoch seconds of the server's clock."""
    return b"%b-%x" % (token, int(written * 1_000))


def token_of(headers: bytes | None) -> bytes:
    """Return the token of an entry, readable or not; empty without a token."""
    return dict(fields(headers)).get(b"gozo-request", b"")


def written_us(headers: bytes | None, token: bytes) -> int:
    """Return when an entry was written as a new one, by the server's clock; 0: undated.

    An entry that replaces another one is not dated: once that is gone, it cannot be stored.
    """
    if headers is None or not headers.startswith(_CREATE):
        return 0
    match = _DATED.match(token)
    return 0 if match is None else int(match[1], 16) * 1_000
