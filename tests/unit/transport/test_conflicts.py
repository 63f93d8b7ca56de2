"""What refusals call things: by names that an operator knows."""

from __future__ import annotations

import json

from gozo.transport.jetstream import read_ack


def test_logs_name_what_an_operator_knows() -> None:
    """The server's conflicts."""
    for code in (10071, 10164):
        error = {"code": 400, "err_code": code, "description": "wrong last sequence: 428"}
        ack = read_ack(None, json.dumps({"error": error}).encode())
        assert (ack.code, ack.words) == (code, "it was changed concurrently")
