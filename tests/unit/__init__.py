"""Tests of single parts, most of them pure: no server, no network."""
