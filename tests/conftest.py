"""Fixtures for every test: servers, daemons and clients that end with the test.

What they need is imported only where a test asks for one: a unit test starts sooner.
"""

# ruff: noqa: PLC0415
from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.support import forking

if TYPE_CHECKING:
    from tests.support.processes import Clients, Daemons, Servers

# How long an example takes says how busy the machine is, and fails no test.
settings.register_profile("quick", deadline=None, max_examples=20)
settings.register_profile("full", deadline=None, max_examples=100)
settings.load_profile("quick")  # unless --hypothesis-profile=full is given

# A shell without job control ignores SIGINT for what runs in its background, nohup(1) SIGHUP, and
# children inherit that: here it is as at a terminal, however the tests were started.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


forking.begin()

os.umask(0o022)  # or a `gozo.env` that a test writes would not count, since others might write it


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Start servers with any configuration."""
    from tests.support.processes import Servers

    with Servers() as servers:
        yield servers


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    """Start daemons with any arguments."""
    from tests.support.processes import Daemons

    with Daemons() as daemons:
        yield daemons


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """Connect clients."""
    from tests.support.processes import Clients

    async with Clients() as clients:
        yield clients
