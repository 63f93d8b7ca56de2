"""The embedded server ends with gozo, and gozo learns when it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress

import pytest

from gozo.embedded import host, server
from gozo.errors import EmbeddedServerError
from gozo.settings.model import ServeSettings
from tests.support.embedded import Start, lives, port_of, start_child, store_of
from tests.support.patience import allow, until
from tests.support.server import listens


class TestEnd:
    """It ends with gozo, and gozo learns when it ends."""

    async def test_its_end_is_told(self, settings: ServeSettings, start: Start) -> None:
        """`wait` returns the status; `failure` says where to look."""
        started = await start(settings)
        os.kill(started.pid, signal.SIGKILL)
        async with asyncio.timeout(allow(5)):
            status = await started.wait()
        error = started.failure(status)
        assert f"exited with status {-signal.SIGKILL}" in str(error)
        assert str(store_of(settings) / "nats-server.log") in str(error)
        assert "Server is ready" in str(error)
        await started.stop()
        await started.stop()

    async def test_a_server_that_does_not_end_is_killed(
        self, settings: ServeSettings, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The daemon does not hang at its own end."""
        monkeypatch.setattr(server, "STOP_WAIT", 0.2)
        started = await start(settings)
        os.kill(started.pid, signal.SIGSTOP)
        async with asyncio.timeout(allow(5)):
            await started.stop()
        assert await started.wait() == -signal.SIGKILL

    async def test_a_start_that_is_cancelled_leaves_nothing_behind(
        self, settings: ServeSettings, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither a process nor a lock, as when Ctrl-C comes early."""
        asked = asyncio.Event()

        async def never(_where: object) -> None:
            asked.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as patch:
            patch.setattr(server, "_info", never)
            starting = asyncio.ensure_future(start(settings))
            async with asyncio.timeout(allow(5)):
                await asked.wait()
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
        monkeypatch.setattr(host, "LOCK_WAIT", 0.0)
        monkeypatch.setattr(host, "PORT_WAIT", 0.0)
        await start(settings)

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    @pytest.mark.parametrize("kernel", ["yes", "no"])
    async def test_it_ends_when_gozo_is_killed(
        self, loop: str, kernel: str, settings: ServeSettings
    ) -> None:
        """Nothing can be done after SIGKILL: the kernel sees to it on Linux, a guard elsewhere."""
        if kernel == "yes" and sys.platform != "linux":
            pytest.skip("only Linux has a signal for the death of the parent")
        child, pid = start_child(settings, loop, kernel)
        try:
            assert listens(port_of(settings))
            child.kill()
            child.wait()
            await until(lambda: not lives(pid), "the server has ended")
            assert not listens(port_of(settings))
        finally:
            if lives(pid):
                os.kill(pid, signal.SIGKILL)

    async def test_the_store_is_in_use_as_long_as_the_serverlives(
        self, settings: ServeSettings, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also when the gozo that started it is gone: the lock is the server's as well."""
        child, pid = start_child(settings, "asyncio", "yes")
        os.kill(pid, signal.SIGSTOP)  # SIGTERM waits until the process goes on
        try:
            child.kill()
            child.wait()
            with monkeypatch.context() as patch:
                patch.setattr(host, "LOCK_WAIT", 0.2)
                with pytest.raises(EmbeddedServerError, match=r"the store .* is in use"):
                    await start(settings)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        await until(lambda: not lives(pid), "the server has ended")
        await start(settings)
