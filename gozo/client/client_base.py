"""The base of all parts of the client: one connection, and the objects that use it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import NoReturn, Self

from gozo.client.apply import Applier
from gozo.client.bucket_writes import BucketWrites
from gozo.client.daemon_calls import DaemonCalls
from gozo.client.daemon_presence import DaemonPresence
from gozo.client.events import EventLog
from gozo.client.keys import Keys
from gozo.client.models import Server
from gozo.client.outcomes import OutcomeLog
from gozo.client.reader import Reader
from gozo.client.typed import typed
from gozo.errors import SettingsError, UnusableError, invalid_value
from gozo.protocol.subject_policy import Policy
from gozo.runtime.logs import get_logger
from gozo.runtime.tasks import end
from gozo.settings.credentials import redacted
from gozo.settings.model import ConnectionSettings
from gozo.settings.parsers import read_addresses
from gozo.settings.resolve import resolve_connection
from gozo.settings.sources import Sources
from gozo.transport.connection import Connection

log = get_logger("gozo.client")


class ClientBase:
    """Opens and closes the connection."""

    def __init__(self, connection: Connection, settings: ConnectionSettings) -> None:
        """Use `Client.connect`."""
        policy = Policy(settings.request_subject, api_prefix=settings.js_prefix)
        self.settings = settings
        self._connection = connection
        self._policy = policy
        self._presence = DaemonPresence(connection, settings, policy)
        self._daemons = DaemonCalls(connection, settings.request_subject, self._presence)
        keys = Keys(connection, settings.request_subject, settings.bucket)
        self._reader = Reader(connection, settings.bucket, policy, self._presence.rules, keys)
        self._writes = BucketWrites(self._reader)
        self._events = EventLog(connection, settings)
        self._outcomes = OutcomeLog(connection, settings)
        self._applier = Applier(self._reader, self._writes, policy)
        self._keeper = asyncio.create_task(connection.keep(), name="keep the connection")
        self._keeper.add_done_callback(_on_end)

    @classmethod
    @typed
    async def connect(
        cls,
        settings: ConnectionSettings | str | None = None,
        *,
        timeout: float = 3.0,
        name: str = "gozo client",
    ) -> Self:
        """Connect, within `timeout` seconds; the server's own tools show `name`.

        A string is an address, or several separated by commas. None means what `gozo serve`
        without options would use: the environment, gozo.env, the user's config.toml, and the
        token of this user's embedded server.

        Raises:
            NoServerError: no server answered.
            NotAllowedError: it refused the credentials, or does not offer the required TLS.
            UnsuitableServerError: it does not support headers.
            SettingsError: an address, a settings file or a certificate cannot be used.
        """
        if settings is None:
            sources = Sources.load({})
            sources.warn(log)
            settings = resolve_connection(sources)
        elif isinstance(settings, str):
            text = settings
            try:
                settings = ConnectionSettings(addresses=read_addresses(text))
            except UnusableError as error:
                raise SettingsError(invalid_value("address", redacted(text), error)) from None
        connection = Connection(settings, name)
        await connection.open(timeout)
        return cls(connection, settings)

    async def close(self) -> None:
        """Close the connection; iterators of this client end with `DisconnectedError`."""
        await end(self._keeper)
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def server(self) -> Server:
        """The server that the client is connected to, or was last connected to."""
        info = self._connection.info
        return Server(
            name=str(info.get("server_name", "")),
            version=str(info.get("version", "")),
            address=self._connection.address,
            max_payload=self._connection.max_payload,
        )


def _on_end(keeper: asyncio.Task[NoReturn]) -> None:
    error = None if keeper.cancelled() else keeper.exception()
    if error is not None:
        log.error("client.failed", reason=repr(error))
