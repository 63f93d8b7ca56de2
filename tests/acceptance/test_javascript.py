"""The protocol is a protocol: a client in JavaScript schedules, reads and cancels."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.node import install, run
from tests.support.running import Running

PACKAGES = ["@nats-io/transport-node@3", "@nats-io/kv@3", "@nats-io/jetstream@3"]


async def test_a_client_in_javascript(running: Running, tmp_path: Path) -> None:
    """What the JavaScript client sends and sees is what every other client does."""
    command = await install(Path(__file__).with_name("client.mjs"), *PACKAGES, folder=tmp_path)
    seen = json.loads(await run(*command, running.server.url, folder=tmp_path))
    assert (seen["stored"]["status"], seen["stored"]["id"]) == ("stored", "js one")
    assert seen["delivered"] == {"payload": "tea", "reply": "Yes", "id": "js one", "trace": "abc"}
    assert seen["entry"] == "kept"
    assert seen["cancelled"] == {"status": "cancelled", "id": "js-two"}
    assert seen["marker"] == "DEL"
    assert (seen["acknowledged"], seen["durable"]) == ("KV_gozo", "by itself")
