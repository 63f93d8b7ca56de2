"""On a clean machine: the README's first command, and what a package puts where."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from completions.__main__ import scripts
from man.__main__ import pages
from tests.support.daemon import Daemon
from tests.support.patience import allow, until
from tests.support.programs import require_program
from tests.support.readme import ROOT, block
from tests.support.server import HOST, free_port, listens

DEFAULT_PORT = 4222  # where something else listens there, `--address` is added to the command


async def test_first_command(tmp_path: Path) -> None:
    """In a copy of the tree, with nothing installed, it ends in a daemon that Ctrl-C ends."""
    copy = tmp_path / "copy"
    left_out = shutil.ignore_patterns(".git", ".venv", "*_cache", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=left_out)
    command, port = block("command", "run").strip(), DEFAULT_PORT
    if listens(port):
        port = free_port()
        command += f" --address nats://{HOST}:{port}"
    shell = Daemon(
        f"cd '{copy}' && {command}",
        program=("sh", "-c"),
        variables=machine_variables() | {"XDG_DATA_HOME": str(tmp_path / "data")},
    )
    try:
        shell.start()
        await shell.event("daemon.ready", timeout=allow(25))
        assert listens(port)
        shell.press_ctrl_c()
        await shell.event("daemon.stopped")
        await shell.wait()
        await until(lambda: not listens(port), f"port {port} closed")
    finally:
        shell.close()


def test_manual_and_completions(tmp_path: Path) -> None:
    """The source archive, installed into an empty environment, brings both where they are found.

    It is built and installed by pip, so the wheel is made of what the archive holds.
    """
    tools, environment = tmp_path / "tools", tmp_path / "environment"
    for folder in (tools, environment):
        run(sys.executable, "-m", "venv", folder)
    run(tools / "bin/pip", "install", "--quiet", "hatchling")
    run(tools / "bin/hatchling", "build", "--target", "sdist", "--directory", tmp_path)
    (archive,) = tmp_path.glob("gozo-*.tar.gz")
    run(environment / "bin/pip", "install", "--quiet", "--no-deps", archive)
    shares = {
        "bash": "bash-completion/completions",
        "fish": "fish/vendor_completions.d",
        "zsh": "zsh/site-functions",
    }
    expected = {path: f"man/{path.parent.name}" for path in pages()}
    expected |= {path: shares[path.parent.name] for path in scripts()}
    for path, share in expected.items():
        assert (environment / "share" / share / path.name).read_bytes() == path.read_bytes()
    for path in (ROOT / "gozo" / "data").iterdir():
        assert (environment / "share" / "gozo" / path.name).read_bytes() == path.read_bytes()
    man = require_program("man", package="man-db")
    for path in pages():
        variables = {"PATH": f"{environment / 'bin'}:/usr/bin:/bin"}
        found = run(man, "-w", path.stem, variables=variables).strip()
        assert found == str(environment / "share/man" / path.parent.name / path.name)


def run(*command: str | Path, variables: dict[str, str] | None = None) -> str:
    """Run a command in the tree, and return what it prints; it must succeed."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=variables or machine_variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=allow(30),
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def machine_variables() -> dict[str, str]:
    """Return this machine's environment, for pip's sake, without what is meant for gozo."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "GOZO_"))
    }
