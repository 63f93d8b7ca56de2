"""What says that it is a NATS server, and keeps all that it is sent: for logins that go astray."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from types import TracebackType
from typing import Any, Self

from tests.support.patience import allow
from tests.support.server import HOST

INFO = {
    "server_id": "FALSE",
    "server_name": "false",
    "version": "2.15.1",
    "proto": 1,
    "headers": True,
    "auth_required": True,
    "nonce": "bm9uY2U",
    "max_payload": 1024 * 1024,
}
"""All that makes a client show its login, of whatever kind."""


class FalseServer:
    """A listener on a loopback address that asks for a login, and refuses it once it has it.

    It offers no TLS: a client that sends it a login has sent it in plain text.
    """

    def __init__(self, *, port: int = 0, host: str = HOST, **info: Any) -> None:
        self.connections = 0
        self._heard: list[bytes] = []
        said = b"INFO " + json.dumps(INFO | info).encode() + b"\r\n"
        owner = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                owner.connections += 1
                self.request.settimeout(allow(10))
                with contextlib.suppress(OSError):
                    self.request.sendall(said)
                    while data := self.request.recv(64 * 1024):
                        owner._heard.append(data)
                        if b"PING\r\n" in data:
                            self.request.sendall(b"-ERR 'Authorization Violation'\r\n")
                            return

        class Server(socketserver.ThreadingTCPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server((host, port), Handler)
        self.port: int = self._server.server_address[1]
        place = f"[{host}]" if ":" in host else host
        self.url = f"nats://{place}:{self.port}"

    @property
    def heard(self) -> str:
        """All that clients have sent."""
        return b"".join(self._heard).decode("utf-8", "replace")

    @property
    def logins(self) -> list[str]:
        """What of it is of a login: the members of a CONNECT, by their names."""
        names = ("auth_token", "user", "pass", "nkey", "jwt", "sig")
        return [name for name in names if f'"{name}":' in self.heard]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
