"""Denied permissions: reads the server's reports, and logs them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gozo.errors import NotAllowedError
from gozo.runtime.logs import get_logger
from gozo.transport.commands import Reply
from gozo.transport.link import notify

MOST_DENIED = 1_000  # denials that are remembered as logged

OnDenied = Callable[[str, str], None]
"""Takes `publish` or `subscription`, and the subject that the server denied."""
Claim = Callable[[str, str], bool]
"""Takes the same, and returns whether it handles the denial."""

_DENIED = re.compile(
    r'permissions violation for (publish|subscription) to ("(?:[^"\\]|\\.)*")', re.IGNORECASE
)

log = get_logger("gozo.connection")


class Denials:
    """Passes on denials by the server, and logs each once for each link."""

    def __init__(self) -> None:
        self.listeners: list[OnDenied] = []
        self.claims: list[Claim] = []
        """Called first; if one returns True, no listener is called and nothing is logged."""
        self._logged: set[tuple[str, str]] = set()

    def report(self, kind: str, subject: str, group: str) -> None:
        """Pass on a denial; those with the same `group` are logged once."""
        if any(claim(kind, subject) for claim in self.claims):
            return
        if (kind, group) not in self._logged:
            if len(self._logged) >= MOST_DENIED:
                self._logged.clear()
            self._logged.add((kind, group))
            log.limited("error", "permission.denied", kind=kind, subject=subject)
        notify(self.listeners, kind, subject)

    def granted(self, subject: str) -> None:
        """Log the next denial of a subscription again."""
        self._logged.discard(("subscription", subject))

    def clear(self) -> None:
        """Log all denials again, since the link is new."""
        self._logged.clear()

    @contextmanager
    def failing(
        self, subject: str, answer: asyncio.Future[Reply], needed: str = ""
    ) -> Iterator[None]:
        """Make `answer` fail if the server denies publishing to a subject.

        `needed`: the permission to grant, if it is for more than the subject.
        """

        def on_denied(kind: str, denied: str) -> None:
            if kind == "publish" and denied == subject and not answer.done():
                answer.set_exception(missing_permission(kind, needed or subject))

        self.listeners.append(on_denied)
        try:
            yield
        finally:
            self.listeners.remove(on_denied)


def read_denial(text: str) -> tuple[str, str] | None:
    """Return `publish` or `subscription` and its subject; None for any other error line."""
    match = _DENIED.match(text)
    return None if match is None else (match[1].lower(), _unquote(match[2]))


def missing_permission(kind: str, subject: str) -> NotAllowedError:
    """Return the error for a `publish` or a `subscription` that the server denied."""
    verb = "publish" if kind == "publish" else "subscribe"
    return NotAllowedError(
        f"this user has no permission to {verb} to {subject}: grant that permission"
    )


def not_published(subject: str) -> str:
    """Return why a delivery failed: the server denied its subject."""
    return f"gozo has no permission to publish to {subject!r}"


def _unquote(quoted: str) -> str:
    """Undo Go's %q as far as subjects need it."""
    try:
        return str(json.loads(quoted))
    except ValueError:
        return quoted[1:-1]
