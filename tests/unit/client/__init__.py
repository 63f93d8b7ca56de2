"""Tests of `gozo.client`."""
