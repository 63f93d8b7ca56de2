"""The options that say what to send, shared by `create` and `send`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from gozo.errors import SettingsError, invalid_value
from gozoctl.options.files import STDIN, read_bytes

if TYPE_CHECKING:
    from gozo.client import ScheduleOptions

Payload = Annotated[
    str | None,
    typer.Argument(
        metavar="PAYLOAD",
        help="The payload; - reads it from standard input.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Message:
    """Headers, and whether a stream has to confirm the delivery."""

    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header",
            "-H",
            metavar="NAME:VALUE",
            help="Add a header to the message; repeatable.",
            show_default=False,
        ),
    ] = None
    confirm: Annotated[
        bool,
        typer.Option("--confirm", help="Count it as delivered only once a stream has stored it."),
    ] = False
    attempts: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="With --confirm, give up after N attempts; 0: never give up."
        ),
    ] = 0

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers, by name.

        Raises:
            SettingsError: a colon is missing.
        """
        headers = []
        for line in self.header or ():
            name, colon, value = line.partition(":")
            if not colon or not name.strip():
                raise SettingsError(invalid_value("--header", line, "expected 'Name: value'"))
            headers.append((name.strip(), value.strip()))
        return headers

    def options(self) -> ScheduleOptions:
        """Return these options, except the headers, as the client takes them."""
        return {"confirm": self.confirm, "attempts": self.attempts}


def read_payload(argument: str | None, text: str | None = None, file: str | None = None) -> bytes:
    """Return the payload from the argument, --payload or --file; empty without any of them.

    Raises:
        SettingsError: more than one was given, or the file cannot be read.
    """
    if sum(one is not None for one in (argument, text, file)) > 1:
        raise SettingsError("give the payload once: as argument, with --payload, or with --file")
    if "-" in (argument, file):
        return read_bytes(STDIN, "standard input")
    if file is not None:
        return read_bytes(file, f"--file {file!r}")
    return (argument or text or "").encode("utf-8", "surrogateescape")
