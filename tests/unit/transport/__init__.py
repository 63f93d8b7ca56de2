"""Tests of `gozo.transport`."""
