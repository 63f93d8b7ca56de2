"""How `gozo check` tests the limits of connections."""

from __future__ import annotations

from contextlib import suppress

from gozo.errors import DisconnectedError, GozoError, NoServerError
from gozo.protocol.subject_policy import LONGEST_SUBJECT
from gozo.requests.admin_verbs import VERBS
from gozo.settings.model import ConnectionSettings
from gozo.transport.connection import Connection
from gozo.transport.dialer import ATTEMPT

SUBSCRIPTIONS = len(VERBS) + 20
"""The most subscriptions of a daemon on one connection: for requests, verbs and answers."""


async def find_limits(first: Connection, settings: ConnectionSettings, *, alone: bool) -> list[str]:
    """Describe limits of the server that are too low for a daemon.

    They are tested with a second connection besides the `first`, since a daemon has two. If a
    daemon is running (not `alone`), a refused connection proves nothing.
    """
    connection = Connection(settings, "gozo check, second connection", private=True)
    try:
        await connection.open(ATTEMPT)
    except GozoError as error:
        if not alone:
            return []
        return [f"a daemon needs two connections, but gets only one: {error}"]
    connection.use_inboxes(first.inbox_prefix)
    try:
        return await _subscriptions(connection) or await _subjects(connection)
    finally:
        await connection.close()


async def _subscriptions(connection: Connection) -> list[str]:
    """Make as many subscriptions as a daemon, and test whether the last one receives anything."""
    heard: list[bytes] = []
    last = ""
    for _ in range(SUBSCRIPTIONS):
        last = connection.new_inbox()
        connection.listen(last, lambda subject, reply, headers, payload: heard.append(payload))
    connection.publish(last)
    with suppress(NoServerError):  # the server closes the connection, or does not answer
        await connection.echo()
        if heard:
            return []
    problem = (
        f"a daemon needs {SUBSCRIPTIONS} subscriptions on a connection, but the server allows "
        "fewer: raise max_subscriptions, or the limit of the account"
    )
    return [problem]


async def _subjects(connection: Connection) -> list[str]:
    """Publish on a subject of the maximum length of a target."""
    inbox = f"{connection.new_inbox()}."
    connection.publish(inbox.ljust(LONGEST_SUBJECT, "x"))
    try:
        await connection.echo()
    except DisconnectedError:
        problem = (
            f"the server closes a connection that publishes on a subject of {LONGEST_SUBJECT} "
            "bytes: raise its max_control_line to at least 4096"
        )
        return [problem]
    return []
