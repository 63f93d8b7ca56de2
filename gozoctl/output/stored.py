"""How commands print a schedule that was just stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gozoctl.output import times
from gozoctl.output.printer import Output

if TYPE_CHECKING:
    from gozo.client import Stored


def print_stored(out: Output, stored: Stored, zone: str | None = None) -> None:
    """Print the id and, for people, when it is due; `zone` is the time zone of its expression."""
    if out.is_json:
        out.json(stored_record(stored, zone))
        return
    out.write(stored.id or "-")
    if out.is_terminal:
        in_zone = f", time zone {zone}" if zone else ""
        replaced = ", replacing an earlier schedule" if stored.replaced else ""
        out.say(f"due {out.moment(stored.due)}{in_zone}{replaced}")
    if stored.running:
        out.say(f"{stored.id!r} is still running; it is not tried again")


def stored_record(stored: Stored, zone: str | None = None) -> dict[str, Any]:
    """Return a stored schedule for JSON."""
    named: dict[str, Any] = {"time_zone": zone} if zone else {}
    if stored.running:
        named["running"] = True
    return named | {
        "id": stored.id,
        "due": times.utc(stored.due),
        "due_epoch": times.epoch(stored.due),
        "replaced": stored.replaced,
    }
