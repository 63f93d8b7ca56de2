"""Benchmarks: run by hand, `python -m tests.benchmarks --help`. They never fail for being slow."""
