"""What a command of `gozoctl exec` finds in its environment."""

from __future__ import annotations

from datetime import UTC, datetime

from gozo.client import Message
from gozoctl.running import environment


def message(*headers: tuple[str, str], subject: str = "jobs") -> Message:
    """Make a message with headers."""
    return Message(subject, b"payload", headers, datetime.now(UTC))


def test_names_are_made_fit() -> None:
    """Upper case, and an underscore for whatever a variable's name cannot hold."""
    found = environment(message(("x-trace.ID=é", "1"), ("a_1", "2")), {})
    assert found == {
        b"GOZO_MESSAGE_SUBJECT": b"jobs",
        b"GOZO_MESSAGE_HEADER_X_TRACE_ID__": b"1",
        b"GOZO_MESSAGE_HEADER_A_1": b"2",
    }


def test_the_first_of_a_name_counts() -> None:
    """Whatever its case, and whether it is written with a dash or an underscore."""
    found = environment(message(("A-b", "1"), ("a-B", "2"), ("a_b", "3"), ("gozo-id", "i")), {})
    assert found[b"GOZO_MESSAGE_HEADER_A_B"] == b"1"
    assert found[b"GOZO_MESSAGE_ID"] == b"i"


def test_values_are_made_fit() -> None:
    """No system takes a zero byte; a line end would forge a line in the output of `env`."""
    found = environment(message(("a", "x\r\nGOZO_MESSAGE_ID=\0y \ud800"), subject="ü\n"), {})
    assert found[b"GOZO_MESSAGE_HEADER_A"] == b"x  GOZO_MESSAGE_ID= y ?"
    assert found[b"GOZO_MESSAGE_SUBJECT"] == "ü ".encode()


def test_what_is_inherited() -> None:
    """Everything, but for what another message said."""
    inherited = {b"PATH": b"/bin", b"GOZO_MESSAGE_ID": b"old", b"GOZO_MESSAGE_HEADER_X": b"old"}
    found = environment(message(), inherited)
    assert found == {b"PATH": b"/bin", b"GOZO_MESSAGE_SUBJECT": b"jobs"}
