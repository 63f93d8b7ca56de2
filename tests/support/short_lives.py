"""A gozo daemon whose delete markers live for a second or two.

Run by its path with the address of a server: `SHORT_LIVES` is the program for `Daemons.start`.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from gozo.daemon.daemon import serve
from gozo.runtime import logs
from gozo.settings.model import ConnectionSettings, ServeSettings
from gozo.store.marker_life import MarkerLife

SHORTEST = 2  # seconds
SHORT_LIVES = (sys.executable, __file__)


def main() -> None:
    """Run the daemon."""
    logs.configure(logs.DEFAULT_LEVEL, form=logs.DEFAULT_FORMAT)
    settings = ServeSettings(ConnectionSettings(addresses=(sys.argv[1],)))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, MarkerLife(shortest=SHORTEST, few=0)))


if __name__ == "__main__":
    main()
