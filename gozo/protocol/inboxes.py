"""The subjects on which gozo receives answers; clients cannot make it publish there. Pure.

A daemon's inboxes are below `_GOZO_INBOX`, so that a server's permissions can distinguish them
from those of clients. Whatever their prefix, one of their tokens is `_GOZO_INBOX`, and no
schedule, receipt or answer is sent there.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from itertools import chain

OWN = "_GOZO_INBOX"
"""A token of every subject on which a daemon receives answers."""
SHARED = "_INBOX"
"""The prefix of the inboxes of clients."""
PEERS = "peers"
"""The token after `OWN` for answers of other daemons, not acknowledgements."""

PORTION = 512  # tokens made at once
SIZE, LENGTH = 9, 12  # bytes of a token, and its characters in base64


def prefix_for(chosen: str | None, *, private: bool) -> str:
    """Return the prefix of inboxes; `private` ones are those of daemons."""
    if not private:
        return chosen or SHARED
    return f"{chosen}.{OWN}" if chosen else OWN


def tokens() -> Iterator[bytes]:
    """Generate tokens for inboxes, without end.

    One does not help to guess the next: each has 72 random bits. Many are made at once, since
    every write needs one.
    """
    return chain.from_iterable(iter(_portion, []))


def _portion() -> list[bytes]:
    some = base64.urlsafe_b64encode(secrets.token_bytes(SIZE * PORTION))
    return [some[at : at + LENGTH] for at in range(0, len(some), LENGTH)]
