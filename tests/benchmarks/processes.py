"""What a process costs, from /proc; None where there is no such thing."""

from __future__ import annotations

import os
import re
from pathlib import Path

PROC = Path("/proc")


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time that a process has used, user and system (proc_pid_stat(5))."""
    path = PROC / str(pid) / "stat"
    if not path.exists():
        return None
    fields = path.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float | None:
    """Return the memory of a process that is resident."""
    return _status(pid, "VmRSS")


def peak_memory_mb(pid: int) -> float | None:
    """Return the most memory of a process that was ever resident."""
    return _status(pid, "VmHWM")


def _status(pid: int, field: str) -> float | None:
    path = PROC / str(pid) / "status"
    if not path.exists():
        return None
    match = re.search(rf"^{field}:\s+(\d+) kB$", path.read_text(), re.MULTILINE)
    return int(match[1]) * 1024 / 1e6 if match else None
