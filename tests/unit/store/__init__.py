"""Tests of `gozo.store`."""
