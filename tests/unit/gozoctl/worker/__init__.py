"""Tests of `gozoctl.worker`."""
