"""Tests of `gozo.embedded`."""
