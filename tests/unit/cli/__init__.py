"""Tests of `gozo.cli`."""
