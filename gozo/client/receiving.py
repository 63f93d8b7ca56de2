"""Messages on many subjects, of which a queue group shares each: for workers."""

from __future__ import annotations

from collections.abc import Callable, Collection

from gozo.client.models import Message
from gozo.client.subscription import check_subject, received
from gozo.transport.commands import status_of
from gozo.transport.connection import Connection
from gozo.transport.permissions import missing_permission
from gozo.transport.subscriptions import Listener

OnMessage = Callable[[Message], None]


class Receiving:
    """Takes messages as a member of a queue group, which it may leave and join at any time.

    Messages that were on their way when it left still arrive.
    """

    def __init__(self, connection: Connection, queue: str, on_message: OnMessage) -> None:
        """Use `Client.receive`."""
        self._connection = connection
        self._queue = queue
        self._on_message = on_message
        self._listeners: dict[str, Listener] = {}

    def follow(self, subjects: Collection[str]) -> None:
        """Join the group on these subjects, and leave it on all others.

        Raises:
            RequestError: `invalid_request`, if a subject is invalid.
        """
        for subject in subjects:
            if subject not in self._listeners:
                check_subject(subject)
                self._listeners[subject] = self._connection.listen(
                    subject, self._on_wire, queue=self._queue
                )
        for subject in self._listeners.keys() - set(subjects):
            self._listeners.pop(subject).stop(hear_out=True)

    async def joined(self) -> None:
        """Return once the server has the subscriptions.

        Raises:
            NotAllowedError: this user has no permission for one of the subjects.
            NoServerError, DisconnectedError: the server did not answer.
        """
        await self._connection.echo()
        for subject in sorted(self._connection.refused & self._listeners.keys()):
            raise missing_permission("subscription", subject)

    def _on_wire(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        if not status_of(headers):
            self._on_message(received(subject, reply, headers, payload))
