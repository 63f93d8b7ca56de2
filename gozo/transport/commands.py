"""The publishing commands of the NATS client protocol, and the replies to them. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

OnReply = Callable[[bytes | None, bytes | None], None]
"""Takes a reply's header block and payload; the payload is None if the link was lost."""


class Reply(NamedTuple):
    """A reply to a request."""

    headers: bytes | None
    payload: bytes

    @property
    def status(self) -> int:
        """The status that the server put in the first line (ADR-4), such as 503; 0 without one."""
        return status_of(self.headers)


def publication(subject: bytes, payload: bytes, headers: bytes = b"", reply: bytes = b"") -> bytes:
    """Return the command that publishes a message (PUB or HPUB)."""
    if reply:
        subject = b"%b %b" % (subject, reply)
    if headers:
        size = len(headers)
        return b"HPUB %b %d %d\r\n%b%b\r\n" % (
            subject,
            size,
            size + len(payload),
            headers,
            payload,
        )
    return b"PUB %b %d\r\n%b\r\n" % (subject, len(payload), payload)


def status_of(headers: bytes | None) -> int:
    """Return the status in the first line of a header block (ADR-4); 0 without one."""
    if headers is None or not headers.startswith(b"NATS/1.0 "):
        return 0
    digits = headers[9:12]
    return int(digits) if digits.isdigit() else 0


def keeper_of(payload: bytes | None) -> str:
    """Return the stream that acknowledges a message with this payload (PubAck, ADR-1); else "".

    A stream that captures a subject acknowledges each message on its reply subject, usually before
    any other receiver can answer.
    """
    if payload is None or b'"stream"' not in payload or b'"seq"' not in payload:
        return ""
    try:
        ack = json.loads(payload)
        stream, sequence = ack["stream"], ack["seq"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return stream if isinstance(stream, str) and isinstance(sequence, int) else ""
