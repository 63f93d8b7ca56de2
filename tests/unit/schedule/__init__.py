"""Tests of `gozo.schedule`."""
