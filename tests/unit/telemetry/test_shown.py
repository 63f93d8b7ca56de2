"""What logs and refusals call things: by names that an operator knows."""

from __future__ import annotations

import json

from gozo.runtime.logs import rendered
from gozo.telemetry.events import shown_key
from gozo.transport.jetstream import read_ack


def test_logs_name_what_an_operator_knows() -> None:
    """Keys of the memory, which begin with what does not print, and the server's conflicts."""
    for key, shown in (("\0" + "1", "memory:1"), ("\1backup", "backup"), ("backup", "backup")):
        assert rendered(shown_key(key)) == shown
    for code in (10071, 10164):
        error = {"code": 400, "err_code": code, "description": "wrong last sequence: 428"}
        ack = read_ack(None, json.dumps({"error": error}).encode())
        assert (ack.code, ack.words) == (code, "somebody else has changed it meanwhile")
