"""The protocol is a protocol: a client in JavaScript schedules, reads and cancels."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

from tests.support.patience import allow
from tests.support.programs import require_program
from tests.support.running import Running

PACKAGES = ["@nats-io/transport-node@3", "@nats-io/kv@3", "@nats-io/jetstream@3"]


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


async def test_a_client_in_javascript(running: Running, tmp_path: Path) -> None:
    """What the JavaScript client sends and sees is what every other client does."""
    node, npm = require_program("node", package="nodejs"), require_program("npm", package="npm")
    script = shutil.copy(Path(__file__).with_name("client.mjs"), tmp_path)
    await run(
        str(npm), "install", "--no-audit", "--no-fund", "--silent", *PACKAGES, folder=tmp_path
    )
    seen = json.loads(await run(str(node), str(script), running.server.url, folder=tmp_path))
    assert (seen["stored"]["status"], seen["stored"]["id"]) == ("stored", "js one")
    assert seen["delivered"] == {"payload": "tea", "reply": "Yes", "id": "js one", "trace": "abc"}
    assert seen["entry"] == "kept"
    assert seen["cancelled"] == {"status": "cancelled", "id": "js-two"}
    assert seen["marker"] == "DEL"
    assert (seen["acknowledged"], seen["durable"]) == ("KV_gozo", "by itself")
