"""Tests of `gozo.delivery`."""
