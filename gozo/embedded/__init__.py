"""A local nats-server with JetStream, for those who have none: `gozo serve --embedded`.

The server listens on a loopback address only, keeps everything in one directory, the store,
and ends with this process however that ends. A lock in the store, held by this process and by
the server alike, counts the store as in use for as long as either lives.

    configuration   what the server is told, from the settings (pure)
    host            what must be there: the program, the store, the port
    server          the process, from its start to its end
"""

from __future__ import annotations

from gozo.embedded.server import EmbeddedServer, start

__all__ = ["EmbeddedServer", "start"]
