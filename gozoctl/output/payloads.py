"""How commands print payloads."""

from __future__ import annotations

import base64

PREVIEW = 400  # characters of a text
HEX_BYTES = 64  # bytes of anything else


def preview(payload: bytes) -> str:
    """Return the beginning of a payload: as text, or in hexadecimal if it is not UTF-8."""
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        shown = payload[:HEX_BYTES].hex(" ")
        return f"(hex) {shown}" + (" ..." if len(payload) > HEX_BYTES else "")
    return text[:PREVIEW] + (" ..." if len(text) > PREVIEW else "")


def payload_record(body: bytes) -> dict[str, str]:
    """Return a payload for JSON: as text, or in base64 if it is not UTF-8."""
    try:
        return {"payload": body.decode("utf-8")}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(body).decode()}
