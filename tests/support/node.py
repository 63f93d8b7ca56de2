"""Programs of Node, with the packages that they need."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from tests.support.patience import allow
from tests.support.programs import require_program


async def install(script: Path, *packages: str, folder: Path) -> tuple[str, str]:
    """Copy a script beside its packages, and return the command that runs it."""
    node, npm = require_program("node", package="nodejs"), require_program("npm", package="npm")
    options = ["--no-audit", "--no-fund", "--silent"]
    await run(str(npm), "install", *options, *packages, folder=folder)
    return str(node), str(shutil.copy(script, folder))


async def run(*command: str, folder: Path) -> str:
    """Run a program to its end, and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), allow(90))
    assert process.returncode == 0, errors.decode()
    return output.decode()
