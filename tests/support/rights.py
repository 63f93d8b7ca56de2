"""A server that withholds rights from gozo's user, until they are granted."""

from __future__ import annotations

import os
import signal

from tests.support.client import Client
from tests.support.processes import Clients
from tests.support.server import NatsServer

LOGIN = ("--user", "gozo", "--password", "p")

MISSING: dict[str, tuple[str, tuple[str, ...], str]] = {
    "JetStream": ("publish", ("$JS.API.>",), "$JS.API."),
    "reading the bucket": ("publish", ("$JS.API.CONSUMER.>",), "$JS.API.CONSUMER."),
    "creating the bucket": (
        "publish",
        ("$JS.API.STREAM.CREATE.>",),
        "$JS.API.STREAM.CREATE.KV_gozo",
    ),
    "writing to the bucket": ("publish", ("$KV.gozo.>",), "$KV.gozo."),
    "the lease": ("publish", ("$KV.gozo_lease.>",), "$KV.gozo_lease."),
    "requests": ("subscribe", ("gozo",), "gozo"),
    "answers": ("subscribe", ("_GOZO_INBOX.>", "_INBOX.>"), "_GOZO_INBOX.>"),
    "echoes": ("publish", ("_GOZO_INBOX.>", "_INBOX.>"), "_GOZO_INBOX.>"),
}
"""Rights without one of which gozo does not start: their kind, subjects, and what is shown."""


def withholding(kind: str, *subjects: str) -> str:
    """Return a server's configuration: a user `gozo` without these rights, and an `admin`."""
    denied = ", ".join(f'"{subject}"' for subject in subjects)
    return f"""
        authorization {{
            users: [
                {{ user: admin, password: p }}
                {{ user: gozo, password: p, permissions: {{ {kind}: {{ deny: [{denied}] }} }} }}
            ]
        }}
    """


def grant(server: NatsServer, subject: str) -> None:
    """Give the user `gozo` the right to one of the subjects, while the server runs."""
    _replace(server, subject, f"granted.{subject}")


def withdraw(server: NatsServer, subject: str) -> None:
    """Take away the right to one of the subjects that was granted, while the server runs."""
    _replace(server, f"granted.{subject}", subject)


def _replace(server: NatsServer, old: str, new: str) -> None:
    path = server.folder / "nats.conf"
    path.write_text(path.read_text().replace(f'"{old}"', f'"{new}"'))
    os.kill(server.pid, signal.SIGHUP)


async def admin(clients: Clients, server: NatsServer) -> Client:
    """Connect as somebody who may do anything."""
    return await clients.connect(server, user="admin", password="p")  # noqa: S106
