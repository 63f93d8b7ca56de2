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
    return text_record("payload", body)


def text_record(name: str, body: bytes) -> dict[str, str]:
    """Return bytes for JSON: as text under a name, or in base64 if they are not UTF-8."""
    try:
        return {name: body.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(body).decode()}
