"""Tests of `gozo.settings`."""
