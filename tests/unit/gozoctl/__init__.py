"""Tests of `gozoctl`."""
