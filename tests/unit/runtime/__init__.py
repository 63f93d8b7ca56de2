"""Tests of `gozo.runtime`."""
