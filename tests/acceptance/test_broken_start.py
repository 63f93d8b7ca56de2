"""A link that breaks while a daemon starts: it is waited for, at whatever moment that is."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

import pytest

from tests.support.daemon import Daemon
from tests.support.processes import Daemons, Servers
from tests.support.proxy import Proxy

NO_SERVER = 5
AT_ONCE = 4  # daemons that start beside each other

_PUBLICATION = re.compile(rb"^H?PUB (\S+)", re.MULTILINE)


class Cutter(Proxy):
    """Ends the connection on which a publication comes, once, before that is handed on.

    `cut` is its number, over all connections, or the beginning of its subject. None: it ends no
    connection. `for_good`: it takes no other one then.
    """

    def __init__(self, port: int, cut: int | str | None = None, *, for_good: bool = False) -> None:
        super().__init__(port)
        self.subjects: list[str] = []
        """Of all publications."""
        self.has_cut = False
        self._cut = cut
        self._for_good = for_good

    def _sent(self, data: bytes) -> None:
        for found in _PUBLICATION.findall(data):
            subject = found.decode()
            number = len(self.subjects)
            self.subjects.append(subject)
            meant = (
                subject.startswith(self._cut) if isinstance(self._cut, str) else number == self._cut
            )
            if meant and not self.has_cut:
                self.has_cut = True
                if self._for_good:
                    self.refuse()
                raise ConnectionResetError


@dataclass
class Starts:
    """Starts daemons on a server, each through a proxy and with a bucket of its own."""

    port: int
    daemons: Daemons
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def daemon(self, proxy: Proxy, timeout: int) -> Daemon:
        """Start one."""
        name = f"b{proxy.port}"
        return self.daemons.start(
            "serve", "--address", proxy.url, "--bucket", name, "--request-subject", name,
            "--connect-timeout", str(timeout), "--history", "1h",
        )  # fmt: skip

    async def start(self, cut: int | None = None) -> tuple[Cutter, str]:
        """Start one; return its proxy, and how it ended unless it was ready."""
        async with self.turns, Cutter(self.port, cut) as proxy:
            daemon = self.daemon(proxy, 60)
            try:
                await daemon.ready()
            except AssertionError:
                return proxy, f"cut at {proxy.subjects[-1:]}: {daemon.stderr.splitlines()[-1]}"
            await daemon.kill()
            return proxy, ""


async def test_a_link_may_break_at_any_moment_of_the_start(
    daemons: Daemons, servers: Servers
) -> None:
    """Before each thing that a daemon publishes until it is ready."""
    starts = Starts(servers.start().port, daemons)
    proxy, failure = await starts.start()
    assert not failure
    moments = range(len(proxy.subjects))
    results = await asyncio.gather(*map(starts.start, moments))
    assert [failure for _, failure in results if failure] == []
    # What is asked once or twice, as answers come, may be asked less often.
    assert sum(cutter.has_cut for cutter, _ in results) >= len(moments) - 3


@pytest.mark.parametrize("stage", ["$JS.API.INFO", "$SRV.INFO", "$JS.API.CONSUMER.CREATE", "$KV."])
async def test_a_link_that_does_not_come_back_is_not_waited_for_without_end(
    stage: str, daemons: Daemons, servers: Servers
) -> None:
    """A daemon whose link breaks for good while it starts says so in the end."""
    async with Cutter(servers.start().port, stage, for_good=True) as proxy:
        daemon = Starts(proxy.port, daemons).daemon(proxy, 1)
        assert await daemon.wait() == NO_SERVER
        assert proxy.has_cut
        said = daemon.stderr.splitlines()[-1]
        assert said.startswith("gozo: ")
        assert proxy.url in said
        assert "connection refused" in said
