"""Where answers to gozo come: subjects that clients cannot have it publish to. Pure.

A daemon's inboxes are below `_GOZO_INBOX`, apart from those of clients, so that a server's
permissions can tell them apart. Whatever they are below, a token of theirs is `_GOZO_INBOX`, and
no schedule, receipt or answer goes there.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator

OWN = "_GOZO_INBOX"
"""A token of each subject on which a daemon hears answers."""
SHARED = "_INBOX"
"""What the inboxes of clients are below."""
PEERS = "peers"
"""The token behind `OWN` where daemons hear what others answer: not acknowledgements."""

PORTION = 512  # tokens made at a time
SIZE, LENGTH = 9, 12  # bytes of a token, and its characters in base64


def prefix_for(chosen: str | None, *, private: bool) -> str:
    """Return what inboxes are below; `private` are those of daemons."""
    if not private:
        return chosen or SHARED
    return f"{chosen}.{OWN}" if chosen else OWN


def tokens() -> Iterator[bytes]:
    """Make up tokens for answers, for ever.

    Who sees one cannot guess the next: 72 random bits each, of which many are made at once.
    """
    while True:
        some = base64.urlsafe_b64encode(secrets.token_bytes(SIZE * PORTION))
        for at in range(0, len(some), LENGTH):
            yield some[at : at + LENGTH]
