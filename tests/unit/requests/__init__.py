"""Tests of `gozo.requests`."""
