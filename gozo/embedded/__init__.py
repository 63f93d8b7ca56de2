"""A local nats-server with JetStream for hosts that have none: `gozo serve --embedded`.

The server listens on a loopback address only, keeps everything in one directory, the store, and
exits when this process does, however that exits. This process and the server both hold a lock in
the store, so the store counts as in use as long as either of them lives.

    configuration   the server's configuration file, from the settings (pure)
    host            what the server needs: the program, the store, the port
    server          the process, from its start to its end
"""

from __future__ import annotations

from gozo.embedded.server import EmbeddedServer, start

__all__ = ["EmbeddedServer", "start"]
