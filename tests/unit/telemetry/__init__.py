"""Tests of `gozo.telemetry`."""
