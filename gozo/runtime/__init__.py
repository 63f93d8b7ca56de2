"""Clocks, tasks, signals, memory and logging: what a long-running process needs."""
