"""Tests of `gozo.monitoring`."""
