"""The notification socket of the service manager (sd_notify(3))."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from gozo.runtime.logs import get_logger

log = get_logger("gozo.notify")


class NotifySocket:
    """Sends assignments to the service manager; without NOTIFY_SOCKET nothing is sent."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the null byte of an abstract name (unix(7)).
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @property
    def is_heard(self) -> bool:
        """Whether a service manager listens."""
        return bool(self._address)

    def send(self, words: Sequence[str]) -> bool:
        """Send assignments; return False if they did not arrive, as when systemd is busy."""
        if not self._address or not words:
            return True
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.setblocking(False)
            try:
                line.sendto("\n".join(words).encode(), self._address)
            except OSError as error:
                log.repeated("warning", "notify.failed", reason=error)
                return False
        return True
