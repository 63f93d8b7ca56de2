"""Which subjects schedules and answers may go to, and how large a schedule may be. Pure.

gozo publishes with its own rights on behalf of anyone who may send it a request, so what
it publishes to is checked when a request is taken, when an entry is read from the bucket, and
when its message is fetched to be sent: others can write to the bucket.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from gozo.errors import Refusal, RequestError
from gozo.protocol.inboxes import OWN, PEERS, SHARED

LONGEST_SUBJECT = 3_500
"""Bytes: the server reads control lines of 4,096 bytes, and closes on longer ones."""

ROOM = 4_096
"""Bytes of `max_payload` kept free, so that an entry's and a delivery's headers fit."""

MOST_HEADERS = 8 * 1024
"""Bytes that an entry's headers have at most, where none are passed on and its time is short."""

LEAST_MAX_PAYLOAD = MOST_HEADERS
"""Bytes that a server must take in one message. With less, a schedule that the protocol allows,
with the longest id and subject, does not fit even without a payload."""

LARGEST_BLOCK = 65_535
"""Bytes that the header block of a message may have that JetStream is to store."""

UNLIMITED = 1 << 62

IMPORTED = "_R_."
"""What the server puts before the reply subject of a request that came through the service import
of another account. One message gets through there, and only while the client stays connected and
the server runs."""

IMPORT_LASTS = 60
"""Seconds ahead that a message for such a reply subject may be due."""

SHOWN = 80  # characters of a subject that an error's sentence repeats

_PLAIN = re.compile(r"[A-Za-z0-9_\-/:=+,@#]+(?:\.[A-Za-z0-9_\-/:=+,@#]+)*\Z")


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be targeted by the schedules of the daemon that listens on `request_subject`."""

    request_subject: str
    allow: tuple[str, ...] = ()
    """Patterns, with the wildcards of NATS; where there are any, a target matches one of them."""
    deny: tuple[str, ...] = ()
    """Patterns that no target matches, allowed or not."""
    answers: tuple[str, ...] = ()
    """Patterns; where there are any here or in `allow`, receipts and answers match one of them."""
    api_prefix: str = "$JS.API"
    """What the subjects of JetStream begin with, which need not be a `$`: nothing goes there."""
    inboxes: tuple[str, ...] = (OWN, f"{SHARED}.{OWN}")
    """What the inboxes of daemons are below."""

    def check_target(self, subject: str, what: str = "reply subject") -> None:
        """Refuse a subject that no schedule may be sent to; `what` it is, in words.

        Raises:
            RequestError: `no_reply_subject` where it is empty, else `forbidden_subject`.
        """
        self._check(subject, what)
        if self.allow and not _any_of(self.allow).match(subject):
            raise _forbidden(subject, what, "matches no --allow of the daemon: give another")

    def check_answer(self, subject: str, what: str = "receipt subject") -> None:
        """Refuse a subject that no receipt, nor other answer, may be sent to.

        What an answer says is gozo's, so it may go to inboxes where schedules may not.

        Raises:
            RequestError: as for `check_target`.
        """
        self._check(subject, what)
        patterns = self.allow + self.answers
        if patterns and not _any_of(patterns).match(subject):
            raise _forbidden(
                subject, what, "matches no --allow-answers of the daemon: give another"
            )

    def may_receive(self, receipt: str) -> bool:
        """Tell whether a receipt or another answer may be published on a subject."""
        try:
            self.check_answer(receipt)
        except RequestError:
            return False
        return True

    def may_answer(self, reply: bytes) -> bool:
        """Tell whether an answer may be published on the reply subject of whoever asked.

        Who may ask gozo something must not make it publish where it publishes for nobody.
        """
        return self.may_receive(reply.decode("utf-8", "surrogateescape"))

    def may_answer_daemon(self, reply: bytes) -> bool:
        """Tell whether an answer to what daemons ask each other may be published.

        Their inboxes for that are under no rule: who leads is found out through them.
        """
        subject = reply.decode("utf-8", "surrogateescape")
        if not subject.startswith(tuple(f"{inbox}.{PEERS}." for inbox in self.inboxes)):
            return self.may_answer(reply)
        return _PLAIN.match(subject) is not None and len(subject) <= LONGEST_SUBJECT

    def without_receipts(self, inbox_prefix: str) -> str:
        """Say that clients ask for receipts on their inboxes in vain; empty where they do not."""
        inbox, inboxes = f"{inbox_prefix}.receipt", f"{inbox_prefix}.>"
        if self.may_receive(inbox):
            return ""
        denied = self._denied(inbox) if self.deny else ""
        cure = f"omit --deny {denied}" if denied else f"give --allow-answers '{inboxes}' as well"
        return (
            f"{inboxes} is not allowed: gozoctl, and others that ask for receipts there, are "
            f"refused; {cure}"
        )

    def _check(self, subject: str, what: str) -> None:
        """Refuse what nothing may be sent to."""
        if not subject:
            raise RequestError(
                Refusal.NO_REPLY_SUBJECT,
                "the request has no reply subject: give the one that the message is to be sent to",
            )
        if len(subject) > LONGEST_SUBJECT or not _PLAIN.match(subject):
            _check_shape(subject, what)
        if self._is_own(subject):
            raise _forbidden(subject, what, "is gozo's own: give another subject")
        if subject.startswith(f"{self.api_prefix}."):
            raise _forbidden(
                subject, what, "belongs to the daemon's JetStream API: give another subject"
            )
        if OWN in subject:
            raise _forbidden(subject, what, "is an inbox of daemons: give another subject")
        if self.deny and (denied := self._denied(subject)):
            raise _forbidden(subject, what, f"matches --deny {denied} of the daemon: give another")

    def _denied(self, subject: str) -> str:
        if not _any_of(self.deny).match(subject):
            return ""
        return next(one for one in self.deny if _any_of((one,)).match(subject))

    def _is_own(self, subject: str) -> bool:
        own = self.request_subject
        return subject.startswith(own) and (
            subject == own or subject.startswith((f"{own}.admin.", f"{own}.event."))
        )


def expression(patterns: Iterable[str]) -> re.Pattern[str]:
    """Make an expression that matches the subjects that one of some patterns does."""
    each = {"*": r"[^.]+", ">": r".+"}
    ways = (
        r"\.".join(each.get(token, re.escape(token)) for token in pattern.split("."))
        for pattern in patterns
    )
    return re.compile(rf"(?:{'|'.join(ways)})\Z")


@lru_cache
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return expression(patterns)


def not_imported(request_subject: str, what: str) -> RequestError:
    """Make the error for what cannot be sent to a reply subject that begins with `IMPORTED`."""
    return RequestError(
        Refusal.FORBIDDEN_SUBJECT,
        f"the request came through a service import, whose reply subject is temporary and takes "
        f"one message: {what}; import {request_subject} as a stream instead (see Several accounts "
        "in gozo(8))",
    )


def too_small(max_payload: int) -> str:
    """Say that a server's max_payload is too small for gozo to work; empty if it is not."""
    if max_payload >= LEAST_MAX_PAYLOAD:
        return ""
    return (
        f"the server's max_payload is {max_payload} bytes, too little for schedules with their "
        f"headers: raise it to at least {LEAST_MAX_PAYLOAD}"
    )


def check_size(payload: int, headers: int, max_payload: int, max_message: int = UNLIMITED) -> None:
    """Refuse what would not fit into one message of the bucket, all sizes in bytes.

    `max_message` is what the bucket's stream takes, where that is less than the server does.

    Raises:
        RequestError: `too_large`.
    """
    if max_payload < LEAST_MAX_PAYLOAD:
        raise RequestError(Refusal.TOO_LARGE, too_small(max_payload))
    if payload > max_payload - ROOM:
        raise RequestError(
            Refusal.TOO_LARGE,
            f"the payload has {payload} bytes; the most is {max_payload - ROOM}, the server's "
            f"max_payload less {ROOM}",
        )
    if payload + headers > max_payload:
        raise RequestError(
            Refusal.TOO_LARGE,
            f"payload and headers have {payload + headers} bytes; the most is {max_payload}: "
            "use a shorter id, subject or payload",
        )
    if headers > LARGEST_BLOCK:
        raise RequestError(
            Refusal.TOO_LARGE,
            f"its headers may take {headers} bytes in the bucket, with those that gozo adds and "
            f"three bytes for each %; the most is {LARGEST_BLOCK}: send fewer or shorter headers",
        )
    if payload + headers > max_message:
        raise RequestError(
            Refusal.TOO_LARGE,
            f"payload and headers may take {payload + headers} bytes in the bucket; the most "
            f"is {max_message}, its max_msg_size: use a shorter payload",
        )


def _check_shape(subject: str, what: str) -> None:
    size = len(subject.encode("utf-8", "surrogateescape"))
    if size > LONGEST_SUBJECT:
        raise _forbidden(subject, what, f"has {size} bytes; the most is {LONGEST_SUBJECT}")
    if subject.startswith("$"):
        raise _forbidden(
            subject, what, "begins with '$', which is the server's: give another subject"
        )
    for character in subject:
        if character.isspace() or unicodedata.category(character) == "Cc":
            raise _forbidden(subject, what, f"contains {character!r}: leave it out")
        if "\ud800" <= character <= "\udfff":
            raise _forbidden(subject, what, "is not UTF-8")
    for token in subject.split("."):
        if not token:
            raise _forbidden(subject, what, "has an empty token: mend the dots")
        if token in ("*", ">"):
            raise _forbidden(subject, what, f"has the wildcard {token!r}: give one literal subject")


def _forbidden(subject: str, what: str, problem: str) -> RequestError:
    shown = subject if len(subject) <= SHOWN else f"{subject[:SHOWN]}..."
    return RequestError(Refusal.FORBIDDEN_SUBJECT, f"the {what} {shown!r} {problem}")
