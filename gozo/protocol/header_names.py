"""The names of gozo's own headers, and what becomes of those that this version does not know. Pure.

A header that is new to requests is one more line in `REQUEST`; the manual names it too.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import lru_cache

from gozo.errors import Refusal, RequestError

PREFIX = b"gozo-"

REQUEST = (
    "Gozo-Ack-Wait",
    "Gozo-Attempts",
    "Gozo-Backoff",
    "Gozo-Confirm",
    "Gozo-Count",
    "Gozo-Dead-Letter",
    "Gozo-Del-Id",
    "Gozo-Expect",
    "Gozo-Id",
    "Gozo-Jitter",
    "Gozo-Keep-Output",
    "Gozo-Max-Age",
    "Gozo-Misfire",
    "Gozo-Misfire-Grace",
    "Gozo-Overlap",
    "Gozo-Receipt",
    "Gozo-Start",
    "Gozo-TTL",
    "Gozo-Time-Zone",
    "Gozo-Until",
    "Gozo-When",
)
"""What a request may ask for."""

IGNORED = (
    "Gozo-Attempt",
    "Gozo-Awaited",
    "Gozo-Created",
    "Gozo-Due",
    "Gozo-Extended",
    "Gozo-Format",
    "Gozo-Give-Up",
    "Gozo-Headers",
    "Gozo-Holder",
    "Gozo-Last",
    "Gozo-Last-Attempt",
    "Gozo-Next",
    "Gozo-Occurred",
    "Gozo-Occurrence",
    "Gozo-Origin",
    "Gozo-Original",
    "Gozo-Outcome",
    "Gozo-Overdue",
    "Gozo-Owner",
    "Gozo-Reason",
    "Gozo-Reckoned",
    "Gozo-Reply",
    "Gozo-Request",
    "Gozo-Sent",
    "Gozo-Set",
    "Gozo-State",
    "Gozo-Subject",
    "Gozo-Succeeded",
    "Gozo-Token",
    "Gozo-Tried",
)
"""What deliveries, dead letters, entries and markers say; without effect in a request, since
clients schedule again what they received."""

REFUSED = ("Gozo-Protect",)
"""What only an entry may say; a request is refused with a reason of its own."""

ANSWERS = ("Gozo-Answer", "Gozo-Duration", "Gozo-Exit-Status", "Gozo-Host", "Gozo-Started")
"""What only answers of receivers say: unknown in requests, where they would have no effect."""

_ALL = REQUEST + IGNORED + REFUSED
KNOWN = frozenset(name.lower().encode() for name in _ALL)
_REQUEST = frozenset(name.lower().encode() for name in REQUEST)
_USUAL = KNOWN | {b"nats-expected-last-subject-sequence", b"nats-msg-size"}
"""All that most entries have: this spares them a look at each."""

SHOWN = 60
"""Maximum bytes of a header's name in a message."""


def asked(given: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """Return what a request asks for, of gozo's headers by lower-case name.

    Raises:
        RequestError: `unknown_header`, for the first name that this version does not know;
            `invalid_request`, for one that no request may have.
    """
    if _REQUEST.issuperset(given):
        return given
    for name in given:
        if name not in KNOWN:
            raise RequestError(Refusal.UNKNOWN_HEADER, explain(shown(name), REQUEST))
    if b"gozo-protect" in given:
        raise RequestError(
            Refusal.INVALID_REQUEST,
            "requests cannot have Gozo-Protect: administrators protect a schedule with "
            "gozoctl create --protect",
        )
    return {name: value for name, value in given.items() if name in _REQUEST}


def unknown_lines(given: Mapping[bytes, bytes]) -> bytes:
    """Return the lines of an entry's headers that this version does not know.

    `given` has all of its headers, by lower-case name.
    """
    if _USUAL.issuperset(given):
        return b""
    return b"".join(
        b"%b: %b\r\n" % (name.title(), value)
        for name, value in given.items()
        if name not in KNOWN and name.startswith(PREFIX)
    )


def names(lines: bytes) -> tuple[str, ...]:
    """Return the names of such lines, as they are shown."""
    return tuple(shown(line.partition(b":")[0]) for line in lines.split(b"\r\n") if line)


def shown(name: bytes) -> str:
    """Return a name for people, of limited length and in the usual case."""
    text = name[:SHOWN].title().decode("utf-8", "replace")
    return text if len(name) <= SHOWN else f"{text}..."


def explain(name: str, among: tuple[str, ...] = _ALL) -> str:
    """Return a sentence about an unknown name, with the nearest of the names in `among`."""
    near = nearest(name, among)
    if near is None:
        return f"the header {name!r} is unknown to this version of gozo: omit it"
    return f"the header {name!r} is unknown: did you mean {near}?"


@lru_cache(maxsize=256)
def nearest(name: str, among: tuple[str, ...] = _ALL) -> str | None:
    """Return the name in `among` that is most like another one; None if none is like it."""
    # Without the prefix, which makes all of them alike.
    rests = {known.lower().removeprefix("gozo-"): known for known in among}
    found = difflib.get_close_matches(name.lower().removeprefix("gozo-"), rests, 1)
    return rests[found[0]] if found else None
