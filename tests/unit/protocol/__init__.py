"""Tests of `gozo.protocol`."""
