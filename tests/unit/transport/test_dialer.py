"""Which servers are tried for a connection."""

from __future__ import annotations

from gozo.settings.model import ConnectionSettings
from gozo.transport.dialer import MOST_ANNOUNCED, targets

GIVEN = "nats://given.example:4222"


def test_a_server_that_announces_thousands_does_not_keep_gozo_from_the_given_address() -> None:
    """A few are tried in a round, each in some round."""
    announced = [f"192.0.2.{number}:4222" for number in range(3 * MOST_ANNOUNCED)]
    settings = ConnectionSettings(addresses=(GIVEN,))
    tried: set[str] = set()
    for _ in range(200):
        first, *others = targets(settings, GIVEN, {"connect_urls": announced})
        assert first == (GIVEN, "")
        assert len(others) == MOST_ANNOUNCED
        tried |= {address for address, _ in others}
    assert tried == {f"nats://{host}" for host in announced}
