"""Tests of `gozoctl.options`."""
