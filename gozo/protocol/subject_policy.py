"""Which subjects schedules and answers may be sent to, and the maximum size of schedules. Pure.

gozo publishes with its own permissions on behalf of anyone who may send it a request. So the
target is checked when a request is accepted, when an entry is read from the bucket, and when its
message is fetched for delivery: others can write to the bucket.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from gozo.errors import Refusal, RequestError
from gozo.protocol.inboxes import OWN, PEERS, SHARED
from gozo.schedule.model import Entry

LONGEST_SUBJECT = 3_500
"""Bytes: the server closes connections on control lines of more than 4,096 bytes."""

ROOM = 4_096
"""Bytes of `max_payload` reserved for the headers of entries and deliveries."""

MOST_HEADERS = 8 * 1024
"""Maximum bytes of an entry's headers, without passed-on headers and with a short time."""

LEAST_MAX_PAYLOAD = MOST_HEADERS
"""The smallest `max_payload` supported. With less, a schedule with the longest id and subject
allowed does not fit, even without a payload."""

LARGEST_BLOCK = 65_535
"""Maximum bytes of the header block of a message stored by JetStream."""

UNLIMITED = 1 << 62

IMPORTED = "_R_."
"""The prefix of the reply subject of a request that came through a service import of another
account. It delivers one message, and only while client and server stay connected."""

IMPORT_LASTS = 60
"""Maximum seconds until a message for such a reply subject is due."""

SHOWN = 80  # characters of a subject that an error message repeats

_OWN = ("ack", "admin", "event", "outcome", "output")
"""The tokens after the request subject in gozo's own subjects."""

_PLAIN = re.compile(r"[A-Za-z0-9_\-/:=+,@#]+(?:\.[A-Za-z0-9_\-/:=+,@#]+)*\Z")


@dataclass(frozen=True, slots=True)
class Policy:
    """The permitted targets of the daemon that listens on `request_subject`."""

    request_subject: str
    allow: tuple[str, ...] = ()
    """Patterns with NATS wildcards; if there are any, a target must match one."""
    deny: tuple[str, ...] = ()
    """Patterns that no target may match, even if allowed."""
    answers: tuple[str, ...] = ()
    """Patterns; if there are any here or in `allow`, receipts and answers must match one."""
    api_prefix: str = "$JS.API"
    """The prefix of the JetStream API, which may lack a `$`: nothing may be sent there."""
    inboxes: tuple[str, ...] = (OWN, f"{SHARED}.{OWN}")
    """The prefixes of daemons' inboxes."""

    def check_target(self, subject: str, what: str = "reply subject") -> None:
        """Refuse a subject that no schedule may be sent to; messages call it `what`.

        Raises:
            RequestError: `no_reply_subject` if it is empty, else `forbidden_subject`.
        """
        self._check(subject, what)
        if self.allow and not _any_of(self.allow).match(subject):
            raise _forbidden(subject, what, "matches no --allow of the daemon: give another")

    def check_entry(self, entry: Entry) -> None:
        """Refuse an entry whose message or dead letter may not be sent where it says.

        Raises:
            RequestError: as for `check_target`.
        """
        self.check_target(entry.subject)
        if entry.confirmation is not None:
            self.check_dead_letter(entry.confirmation.dead_letter)

    def check_dead_letter(self, subject: str) -> None:
        """Refuse a subject that no dead letter may be sent to; "" is no dead letter.

        Raises:
            RequestError: `forbidden_subject`.
        """
        if subject:
            self.check_target(subject, "dead-letter subject")

    def check_answer(self, subject: str, what: str = "receipt subject") -> None:
        """Refuse a subject that no receipt or other answer may be sent to.

        The content of answers is gozo's, so they may go to inboxes even if schedules may not.

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
        """Return whether a receipt or another answer may be sent to a subject."""
        try:
            self.check_answer(receipt)
        except RequestError:
            return False
        return True

    def may_answer(self, reply: bytes) -> bool:
        """Return whether an answer may be sent to the reply subject of a question.

        A question must not make gozo publish where requests cannot.
        """
        return self.may_receive(reply.decode("utf-8", "surrogateescape"))

    def may_answer_daemon(self, reply: bytes) -> bool:
        """Return whether an answer to a question of another daemon may be sent.

        No rule applies to the daemons' inboxes for these: they need them to find the leader.
        """
        subject = reply.decode("utf-8", "surrogateescape")
        if not subject.startswith(tuple(f"{inbox}.{PEERS}." for inbox in self.inboxes)):
            return self.may_answer(reply)
        return _PLAIN.match(subject) is not None and len(subject) <= LONGEST_SUBJECT

    def without_receipts(self, inbox_prefix: str) -> str:
        """Return a warning if clients cannot get receipts on their inboxes, else an empty text."""
        inbox, inboxes = f"{inbox_prefix}.receipt", f"{inbox_prefix}.>"
        if self.may_receive(inbox):
            return ""
        denied = self._denied(inbox) if self.deny else ""
        cure = f"omit --deny {denied}" if denied else f"give --allow-answers '{inboxes}' as well"
        return (
            f"{inboxes} is not allowed: requests of gozoctl, and of others that expect receipts "
            f"there, are refused; {cure}"
        )

    def _check(self, subject: str, what: str) -> None:
        """Refuse a subject that nothing may be sent to."""
        if not subject:
            raise RequestError(
                Refusal.NO_REPLY_SUBJECT,
                "the request has no reply subject: give the subject to send the message to",
            )
        if len(subject) > LONGEST_SUBJECT or not _PLAIN.match(subject):
            _check_shape(subject, what)
        if self._is_own(subject):
            raise _forbidden(subject, what, "belongs to gozo: give another subject")
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
            subject == own or subject.startswith(tuple(f"{own}.{name}." for name in _OWN))
        )


def expression(patterns: Iterable[str]) -> re.Pattern[str]:
    """Return an expression for the subjects that at least one of the patterns matches."""
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
    """Return the refusal of a message for a reply subject that begins with `IMPORTED`."""
    return RequestError(
        Refusal.FORBIDDEN_SUBJECT,
        f"the request came through a service import, whose reply subject is temporary and accepts "
        f"one message: {what}; import {request_subject} as a stream instead (see Several accounts "
        "in gozo(8))",
    )


def too_small(max_payload: int) -> str:
    """Return a message if a server's max_payload is too small for gozo, else an empty text."""
    if max_payload >= LEAST_MAX_PAYLOAD:
        return ""
    return (
        f"the server's max_payload is {max_payload} bytes, too small for schedules with their "
        f"headers: raise it to at least {LEAST_MAX_PAYLOAD}"
    )


def check_size(payload: int, headers: int, max_payload: int, max_message: int = UNLIMITED) -> None:
    """Refuse a schedule that does not fit into one message of the bucket; sizes are in bytes.

    `max_message` is the limit of the bucket's stream, if it is lower than the server's.

    Raises:
        RequestError: `too_large`.
    """
    if max_payload < LEAST_MAX_PAYLOAD:
        raise RequestError(Refusal.TOO_LARGE, too_small(max_payload))
    if payload > max_payload - ROOM:
        raise RequestError(
            Refusal.TOO_LARGE,
            f"the payload has {payload} bytes; the maximum is {max_payload - ROOM}, the server's "
            f"max_payload less {ROOM}",
        )
    if payload + headers > max_payload:
        raise RequestError(
            Refusal.TOO_LARGE,
            f"payload and headers have {payload + headers} bytes; the maximum is {max_payload}: "
            "use a shorter id, subject or payload",
        )
    if headers > LARGEST_BLOCK:
        raise RequestError(
            Refusal.TOO_LARGE,
            f"its headers may take {headers} bytes in the bucket, including those that gozo adds "
            f"and three bytes for each %; the maximum is {LARGEST_BLOCK}: send fewer or shorter "
            "headers",
        )
    if payload + headers > max_message:
        raise RequestError(
            Refusal.TOO_LARGE,
            f"payload and headers may take {payload + headers} bytes in the bucket; the maximum "
            f"is {max_message}, its max_msg_size: use a shorter payload",
        )


def _check_shape(subject: str, what: str) -> None:
    size = len(subject.encode("utf-8", "replace"))
    if size > LONGEST_SUBJECT:
        raise _forbidden(subject, what, f"has {size} bytes; the maximum is {LONGEST_SUBJECT}")
    if subject.startswith("$"):
        raise _forbidden(
            subject, what, "begins with '$', which is reserved for the server: give another subject"
        )
    for character in subject:
        if character.isspace() or unicodedata.category(character) == "Cc":
            raise _forbidden(subject, what, f"contains {character!r}: remove it")
        if "\ud800" <= character <= "\udfff":
            raise _forbidden(subject, what, "is not UTF-8")
    for token in subject.split("."):
        if not token:
            raise _forbidden(subject, what, "has an empty token: remove the extra dot")
        if token in ("*", ">"):
            raise _forbidden(subject, what, f"has the wildcard {token!r}: give a single subject")


def _forbidden(subject: str, what: str, problem: str) -> RequestError:
    shown = subject if len(subject) <= SHOWN else f"{subject[:SHOWN]}..."
    return RequestError(Refusal.FORBIDDEN_SUBJECT, f"the {what} {shown!r} {problem}")
