"""Tests of `gozoctl.output`."""
