"""Tests of `gozoctl.commands`."""
