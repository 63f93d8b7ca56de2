"""The subscriptions of a connection, which outlive the links that carry them.

A server can refuse a subscription: at once, or later, when a reload of its configuration revokes
the permission. It does not announce when it would permit it again, so a refused subscription is
retried with back-off. The server only answers if it refuses. So a subscription counts as refused
until an echo that was sent after it comes back without a refusal before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from gozo.errors import DisconnectedError
from gozo.runtime.logs import get_logger
from gozo.transport.client import HardenedClient
from gozo.transport.commands import OnReply
from gozo.transport.parser import Handler

FIRST_WAIT, LONGEST_WAIT = 0.25, 60.0  # seconds before a refused subscription is retried
GROWTH = 1.5
"""The factor between two waits: a permission is used again after at most half the time for which it
was missing."""

OnGranted = Callable[[str], None]
"""Takes the subject of a subscription that was refused and is permitted again."""

log = get_logger("gozo.connection")


class Listener:
    """One subscription."""

    def __init__(
        self, owner: Subscriptions, subject: str, handler: Handler, queue: str = "", most: int = 0
    ) -> None:
        self.subject = subject
        self.sid = 0
        """The id of the subscription on the present link."""
        self._owner = owner
        self._handler = handler
        self._queue = queue
        self._most = most

    def limit(self, most: int) -> None:
        """Limit the number of messages on the next link; 0: no limit."""
        self._most = most

    def subscribe(self, client: HardenedClient) -> None:
        """Subscribe on a link."""
        self.sid = client.listen(self.subject, self._handler, self._queue, self._most)

    def stop(self, *, hear_out: bool = False) -> None:
        """End the subscription; with `hear_out` the handler still gets messages on their way.

        All of them have arrived once an `echo` has.
        """
        self._owner.remove(self, hear_out=hear_out)


class _Refused:
    """A subscription that the server refused, and the timer until it is retried."""

    def __init__(self, retry: Callable[[_Refused], None]) -> None:
        self.denied = True
        """Whether the server refused the last attempt; False while that is unknown."""
        self._retry = retry
        self._wait = FIRST_WAIT
        self._timer: asyncio.TimerHandle | None = None
        self.retry_later()

    def deny(self) -> None:
        """Note that the server refused the last attempt."""
        self.denied = True

    def attempt(self) -> None:
        """Note that there is a new attempt."""
        self.denied = False

    def retry_later(self, *, soon: bool = False) -> None:
        """Start the timer again; `soon`: with the first wait."""
        self.cancel()
        wait = FIRST_WAIT if soon else self._wait
        self._timer = asyncio.get_running_loop().call_later(wait, self._retry, self)
        self._wait = min(GROWTH * wait, LONGEST_WAIT)

    def cancel(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()


class Subscriptions:
    """All subscriptions of one connection."""

    def __init__(self, call_echo: Callable[[OnReply], object], on_granted: OnGranted) -> None:
        """`call_echo` sends a message to ourselves; it may raise a DisconnectedError."""
        self._call_echo = call_echo
        self._on_granted = on_granted
        self._client: HardenedClient | None = None
        self._listeners: dict[Listener, None] = {}
        self._refused: dict[Listener, _Refused] = {}

    @property
    def refused(self) -> frozenset[str]:
        """The subjects whose subscriptions the server refused, so that nothing is received."""
        return frozenset(listener.subject for listener in self._refused)

    def carry(self, client: HardenedClient) -> None:
        """Subscribe on a new link."""
        self.rest()
        self._client = client
        for listener in self._listeners:
            listener.subscribe(client)

    def rest(self) -> None:
        """Wait for the next link, since this one is lost."""
        self._client = None
        for refused in self._refused.values():
            refused.cancel()
        self._refused.clear()

    def add(self, subject: str, handler: Handler, queue: str = "", most: int = 0) -> Listener:
        """Subscribe, on this link and on all later ones."""
        listener = Listener(self, subject, handler, queue, most)
        self._listeners[listener] = None
        if self._client is not None:
            listener.subscribe(self._client)
        return listener

    def remove(self, listener: Listener, *, hear_out: bool = False) -> None:
        """End a subscription; see `Listener.stop`."""
        if listener not in self._listeners:
            return
        del self._listeners[listener]
        if refused := self._refused.pop(listener, None):
            refused.cancel()
        client = self._client
        if client is None:
            return
        client.unlisten(listener.sid, hear_out=hear_out)
        if hear_out:
            with suppress(DisconnectedError):
                self._call_echo(partial(_forget, client, listener.sid))

    def deny(self, subject: str) -> None:
        """Note that the server refused a subscription, and retry it later."""
        for listener in self._listeners:
            if listener.subject != subject:
                continue
            if refused := self._refused.get(listener):
                refused.deny()
            else:
                self._refused[listener] = _Refused(partial(self._try_again, listener))

    def _try_again(self, listener: Listener, refused: _Refused) -> None:
        refused.retry_later()  # unless the echo arrives before that
        client = self._client
        if client is None:
            return
        client.unlisten(listener.sid)
        listener.subscribe(client)
        refused.attempt()
        with suppress(DisconnectedError):
            self._call_echo(partial(self._on_echo, listener, refused, listener.sid))

    def _on_echo(
        self,
        listener: Listener,
        refused: _Refused,
        sid: int,
        _: bytes | None,
        payload: bytes | None,
    ) -> None:
        is_last = self._refused.get(listener) is refused and listener.sid == sid
        if payload is None or not is_last or refused.denied:
            return
        refused.cancel()
        del self._refused[listener]
        self._on_granted(listener.subject)
        log.info("permission.granted", kind="subscription", subject=listener.subject)
        # Permissions that were revoked together are often granted together.
        for other in list(self._refused.values()):
            if other.denied:
                other.retry_later(soon=True)


def _forget(client: HardenedClient, sid: int, _: bytes | None, payload: bytes | None) -> None:
    """Forget a subscription that has ended, once everything sent to it has arrived."""
    if payload is not None:  # otherwise the link was lost
        client.unlisten(sid)
