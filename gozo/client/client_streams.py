"""The iterators of the client without end: changes, events, messages."""

from __future__ import annotations

from collections.abc import AsyncIterator

from gozo.client.arguments import canonical_id
from gozo.client.client_base import ClientBase
from gozo.client.events import Following
from gozo.client.micro_service import Describe, MicroService
from gozo.client.models import Change, Message
from gozo.client.pull_consumer import Pulling
from gozo.client.receiving import OnMessage, Receiving
from gozo.client.run_attempt import RunAttempt, attempt_of
from gozo.client.subscription import Listening
from gozo.client.typed import typed
from gozo.client.watch import Watcher
from gozo.transport.jetstream import JetStream


class ClientStreams(ClientBase):
    """Iterates over changes, events and messages from now on."""

    def watch(self) -> AsyncIterator[Change]:
        """Iterate over all schedules, then over each change, without end.

        A `Change` of the kind `current` separates the two. After a lost connection, the last
        change of each key made meanwhile follows. Waits for the bucket if it does not exist.
        """
        return Watcher(self._connection, self._reader).changes()

    @typed
    def listen(
        self,
        subject: str,
        *,
        queue: str | None = None,
        count: int | None = None,
        max_backlog: int | None = None,
    ) -> Listening:
        """Iterate over the messages on a subject; `*` and `>` are wildcards.

        Each message goes to one of the subscribers in a `queue` group. The iteration ends after
        `count` messages, and takes no more than those from other subscribers; by default it does
        not end. Unread messages wait in memory, up to `max_backlog` bytes if that is given and
        `count` is not: further messages are then dropped, counted and logged.

        Enter it (`async with client.listen("a") as messages`) to receive everything sent from
        then on; otherwise it subscribes with the first step.

        Raises:
            RequestError: `invalid_request`, if the subject or the queue group is invalid.
        """
        return Listening(
            self._connection, subject, queue=queue, count=count, max_backlog=max_backlog
        )

    @typed
    def receive(self, queue: str, on_message: OnMessage) -> Receiving:
        """Pass the messages on many subjects to a function, as a member of a queue group.

        It is a member on the subjects that it follows, at first none: see `Receiving`.
        """
        return Receiving(self._connection, queue, on_message)

    @typed
    def announce(self, name: str, description: str, describe: Describe) -> MicroService:
        """Answer as a NATS service, which `nats micro ls` finds, until it is stopped."""
        return MicroService(self._connection, self._policy, name, description, describe)

    @typed
    def attempt_of(self, message: Message) -> RunAttempt | None:
        """Return the attempt that a message stands for; None if its receiver need not confirm it.

        The receiver claims it, and answers when the work has ended: see `RunAttempt`.
        """
        return attempt_of(self._connection, message, self.settings.request_subject)

    @typed
    def pull(self, stream: str, consumer: str, subject: str) -> Pulling:
        """Take messages on a subject from a durable pull consumer of JetStream, one by one.

        Enter it (`async with client.pull("JOBS", "backup", "jobs.backup") as messages`), then
        `take` a message whenever you are ready for one, and acknowledge each. Creates the
        consumer if it does not exist: see `Pulling`.

        Raises:
            RequestError: `invalid_request`, if a name or the subject is invalid.
        """
        return Pulling(JetStream(self._connection), stream, consumer, subject)

    @typed
    def events(self, id: str | None = None) -> Following:  # noqa: A002  # the protocol's word
        """Iterate over the events that daemons with `--events` publish from now on, without end.

        With an `id`, over the events of that schedule. Enter it (`async with`) to receive
        everything published from then on; otherwise it subscribes with the first step.

        Raises:
            RequestError: `invalid_id`.
        """
        return self._events.follow(None if id is None else canonical_id(id))
