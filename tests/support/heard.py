"""Requests as replicas hear them."""

from __future__ import annotations

from gozo.protocol.heard import Heard, Verb, hear


def ignore(*_: object) -> None:
    """Do nothing with what is reported."""


def heard(payload: bytes, position: int = 1, *, received_us: int = 0, id_: bool = False) -> Heard:
    """Return a request that differs from others by its payload alone, and perhaps has an id."""
    headers = b"NATS/1.0\r\nGozo-Id: one\r\n\r\n" if id_ else None
    return hear(Verb.REQUEST, position, received_us, b"gozo", b"reply", headers, payload)
