"""The changes that can be made to the bucket, and their possible results. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import count
from typing import ClassVar

from gozo.protocol.heard import Heard
from gozo.protocol.ids import escape_id
from gozo.schedule.model import Entry, Reason
from gozo.store.entry_codec import ORIGINAL, entry_headers
from gozo.store.entry_tokens import dated

NO_DEADLINE = float("inf")
"""No deadline, on the steady clock."""


class Result(StrEnum):
    """How a change ended."""

    STORED = "stored"
    REPLACED = "replaced"
    """Stored in place of an earlier version."""
    SETTLED = "settled"
    CANCELLED = "cancelled"
    ALREADY_DELIVERED = "already_delivered"
    NOT_FOUND = "not_found"
    SUPERSEDED = "superseded"
    """Another writer changed the key meanwhile; that version stands."""
    REFUSED = "refused"
    NEWER_FORMAT = "newer_format"
    """The entry was written by a later version of gozo, and is left alone."""
    UNCHANGED = "unchanged"
    """The schedule exists, and was not changed."""
    INVALID = "invalid"
    """The entry is invalid, or must not be delivered; it can be replaced or removed."""
    PROTECTED = "protected"
    """Administrators have protected the schedule from requests."""
    UNAVAILABLE = "unavailable"
    """The server could not store anything until the deadline."""
    DROPPED = "dropped"
    """Another leader has the request, and handles it."""


WRITTEN = frozenset({Result.STORED, Result.REPLACED, Result.SETTLED, Result.CANCELLED})
GONE = frozenset({Result.ALREADY_DELIVERED, Result.NOT_FOUND})
"""There is no such schedule."""
NOT_MADE = frozenset(
    {
        *(Result.REFUSED, Result.UNAVAILABLE, Result.NEWER_FORMAT, Result.PROTECTED),
        *(Result.SUPERSEDED, Result.INVALID, Result.DROPPED),
    }
)

Alter = Callable[[Entry], Entry | None]
"""Makes a new version of a schedule from the present one; None leaves it as it is.

It may raise `RequestError`, and may be called repeatedly, each time with a later version.
"""

Look = Callable[[Entry, bytes], None]
"""Takes the stored schedule and its payload."""

OnResult = Callable[[Result, str], None]
"""Takes the result, and the server's error message if it refused."""


class Put:
    """Store an entry: a new one, or another version of an existing one."""

    __slots__ = (
        *("alter", "deadline", "done", "entry", "holder", "key", "look", "on_result", "parked"),
        *("may_yield", "payload", "replaces", "revision", "sent", "token", "unsure", "wait"),
        *("by_request", "dropped", "origin"),
    )
    spares_runs: ClassVar[bool] = False
    """Whether the runs of the schedule are tried as before; otherwise a request ends them."""

    def __init__(
        self,
        key: str,
        token: bytes,
        on_result: OnResult,
        *,
        entry: Entry | None = None,
        payload: bytes = b"",
        alter: Alter | None = None,
        look: Look | None = None,
        revision: int = 0,
        deadline: float = NO_DEADLINE,
        holder: Occupied | None = None,
        may_yield: Callable[[], bool] | None = None,
        by_request: bool = False,
        origin: Heard | None = None,
    ) -> None:
        self.key = key
        self.token = token
        self.on_result = on_result
        self.alter = alter
        """Makes the entry to be stored from the stored one; None: `entry` is stored."""
        self.look = look
        """Called with the stored schedule, before it is altered."""
        self.revision = revision
        """The version to alter or replace; 0: any."""
        self.holder = holder
        """The reservation of the key, which continues once this change is done."""
        self.deadline = deadline
        """When to give up if the server cannot store it, on the steady clock."""
        self.may_yield = may_yield
        """Tells whether a cancel may overtake this; None: the key is not reserved."""
        self.wait = 0.0
        """Seconds between the last two attempts; 0: it never waited."""
        self.parked = False
        """Whether it waits for a retry."""
        self.unsure = False
        """Whether an attempt without a positive answer may have stored it."""
        self.by_request = by_request
        """Whether a request asked for it, not an administrator: requests cannot change protected
        schedules."""
        self.origin = origin
        """The request or call that asked for it, which standbys have received as well."""
        self.dropped = False
        """Whether another leader handles the request now."""
        self.replaces = False
        self.done = False
        self.sent = 0.0
        """When the last attempt to create it was made, on the steady clock; 0: never."""
        if entry is not None:
            self.entry = entry
            self.payload = payload

    def become(self, entry: Entry, payload: bytes) -> None:
        """Set the entry and payload to be stored."""
        self.entry = entry
        self.payload = payload

    def lines(self, written: float = 0.0) -> bytes:
        """Return its header lines; `written` dates a create, see `entry_tokens.dated`."""
        key, entry, token = self.key, self.entry, self.token
        lines = entry_headers(entry, dated(token, written) if written else token)
        if "=" in key and entry.id == key and escape_id(key) != key:
            lines += ORIGINAL
        return lines

    def owns(self, token: bytes) -> bool:
        """Tell whether an entry with this token comes from an attempt to store this."""
        return token.startswith(self.token) and token[len(self.token) :][:1] in b"-"


class SparingPut(Put):
    """One that changes nothing for the runs of the schedule."""

    __slots__ = ()
    spares_runs = True


class Remove:
    """Replace an entry by a delete marker, or purge it if there is no room for a marker."""

    __slots__ = (
        *("by_request", "done", "expected", "key", "life", "on_result", "origin", "parked"),
        *("purged", "reason", "revision", "wait"),
    )
    deadline: ClassVar[float] = NO_DEADLINE
    spares_runs: ClassVar[bool] = False

    def __init__(
        self,
        key: str,
        revision: int,
        reason: Reason,
        on_result: OnResult,
        *,
        by_request: bool = False,
        origin: Heard | None = None,
    ) -> None:
        self.key = key
        self.revision = revision
        """The version to remove; 0: any."""
        self.reason = reason
        self.on_result = on_result
        self.expected = 0
        """The version that the last attempt tried to remove; 0: no attempt was made."""
        self.life = 0
        """How long the marker of the last attempt lives, in seconds."""
        self.purged = False
        """Whether the server was asked to purge it."""
        self.wait = 0.0
        """As for `Put`."""
        self.parked = False
        self.by_request = by_request
        """As for `Put`."""
        self.origin = origin
        """As for `Put`."""
        self.done = False


class Occupied:
    """A reservation: keeps other changes of a key waiting while occurrences are sent."""

    __slots__ = ("done", "key", "on_result", "revision")

    def __init__(self, key: str, revision: int) -> None:
        self.key = key
        self.revision = revision
        """The version that `Reservations.advance` will replace next."""
        self.on_result: OnResult = nothing
        self.done = False


class Note:
    """Changes nothing: its result comes when all changes before it are done."""

    __slots__ = ("done", "key", "on_result")

    def __init__(self, key: str, on_result: OnResult) -> None:
        self.key = key
        self.on_result = on_result
        self.done = False


def nothing(result: Result, words: str) -> None:
    """Ignore a result."""


def gives_way(change: Change, later: Change) -> bool:
    """Tell whether a change that waits for the bucket can be dropped in favour of a later one.

    It can if the later one makes it obsolete: a cancel, or a schedule that replaces it. While
    occurrences are being sent only a cancel does, since it needs no record of them.
    """
    if not isinstance(change, Put) or not change.parked or change.unsure:
        return False
    if isinstance(later, Remove):
        leaves_nothing = not later.revision
        return leaves_nothing and (change.may_yield is None or change.may_yield())
    is_whole = isinstance(later, Put) and later.alter is None and not later.revision
    return is_whole and change.holder is None


def request_tokens() -> Iterator[bytes]:
    """Generate tokens, unique to this run; by their hyphen `is_of_daemon` recognizes them."""
    run = secrets.token_hex(5).encode()
    return (b"%b-%x" % (run, number) for number in count(1))


Write = Put | Remove
Change = Write | Note | Occupied
WRITES_NOTHING = (Note, Occupied)
