"""A local nats-server with JetStream for hosts that have none: `gozo serve --embedded`.

The server listens only on a loopback address, keeps everything in one directory, the store, and
exits when this process does, for whatever reason. This process and the server both hold a lock in
the store, so the store counts as in use while either of them runs.

    configuration   the server's configuration file, from the settings (pure)
    host            the program, the store and the port of the server
    server          the process, from its start to its end
"""

from __future__ import annotations

from gozo.embedded.server import EmbeddedServer, start

__all__ = ["EmbeddedServer", "start"]
