"""From a clean machine in one command: the README's first one, as it is printed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.patience import allow, until
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


def machine_variables() -> dict[str, str]:
    """Return this machine's environment, for pip's sake, without what is meant for gozo."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "GOZO_"))
    }
