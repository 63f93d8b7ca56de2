"""Tests of single parts against a real nats-server."""
