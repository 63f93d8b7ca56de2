"""A server with a daemon on it, which the tests of a module share."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.daemon import Daemon
from tests.support.server import NatsServer


@dataclass(frozen=True, slots=True)
class Running:
    """A server with one daemon on it."""

    server: NatsServer
    daemon: Daemon
