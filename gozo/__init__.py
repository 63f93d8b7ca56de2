"""gozo: a message scheduler for NATS."""

__version__ = "0.1.0"
