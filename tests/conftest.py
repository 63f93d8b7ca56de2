"""Fixtures for every test: servers, daemons and clients that end with the test."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import settings

from tests.support import forking
from tests.support.processes import Clients, Daemons, Servers

# How long an example takes says how busy the machine is, and fails no test.
settings.register_profile("gozo", deadline=None)
settings.load_profile("gozo")

# A shell without job control ignores SIGINT for what runs in its background, nohup(1) SIGHUP, and
# children inherit that: here it is as at a terminal, however the tests were started.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


forking.begin()

os.umask(0o022)  # or a `gozo.env` that a test writes would not count, since others might write it


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Start servers with any configuration."""
    with Servers() as servers:
        yield servers


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    """Start daemons with any arguments."""
    with Daemons() as daemons:
        yield daemons


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """Connect clients."""
    async with Clients() as clients:
        yield clients
