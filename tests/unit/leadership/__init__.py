"""Tests of `gozo.leadership`."""
