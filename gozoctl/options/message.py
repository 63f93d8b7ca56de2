"""The options that say what to send, shared by `create` and `send`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from gozo.errors import SettingsError, invalid_value
from gozo.schedule.model import Confirm, Overlap
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
    """Headers, and how the delivery is confirmed."""

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
    confirm_reply: Annotated[
        bool,
        typer.Option(
            "--confirm-reply", help="Count it as delivered only once its receiver has answered."
        ),
    ] = False
    confirm_claim: Annotated[
        bool,
        typer.Option(
            "--confirm-claim",
            help="As --confirm-reply, for receivers that ask before they start, such as workers.",
        ),
    ] = False
    attempts: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Give up after N attempts without confirmation; 0: no limit.",
        ),
    ] = 0
    ack_wait: Annotated[
        str | None,
        typer.Option(
            "--ack-wait",
            metavar="SPAN",
            help="Try again if the receiver is silent for this long (1s or more); default: 30s.",
            show_default=False,
        ),
    ] = None
    backoff: Annotated[
        str | None,
        typer.Option(
            "--backoff",
            metavar="SPANS",
            help="Waits between attempts, such as 1s,10s,1m; the last one repeats. Default: from "
            "1s, doubling to 1m.",
            show_default=False,
        ),
    ] = None
    max_age: Annotated[
        str | None,
        typer.Option(
            "--max-age",
            metavar="SPAN",
            help="Give up this long after the due time without confirmation.",
        ),
    ] = None
    overlap: Annotated[
        Overlap | None,
        typer.Option(
            "--overlap",
            help="If an earlier occurrence is still running or retried: send the next one (allow), "
            "skip it (skip), or let it wait (queue).",
            show_default=False,
        ),
    ] = None
    dead_letter: Annotated[
        str | None,
        typer.Option(
            "--dead-letter",
            metavar="SUBJECT",
            help="Publish the message on this subject if it is given up.",
        ),
    ] = None
    ttl: Annotated[
        str | None,
        typer.Option(
            "--ttl", metavar="SPAN", help="With --confirm: how long the stream keeps the message."
        ),
    ] = None
    keep_output: Annotated[
        bool,
        typer.Option("--keep-output", help="Keep the output that its receiver sends."),
    ] = False
    expect: Annotated[
        str | None,
        typer.Option(
            "--expect",
            metavar="SPAN",
            help="Report it as overdue if it has not succeeded this long after its due time.",
        ),
    ] = None

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
        """Return these options, except the headers, as the client takes them.

        Raises:
            SettingsError: several of the options that say what confirms it were given.
        """
        return {
            "confirm": self._confirmed_by,
            "attempts": self.attempts,
            "ack_wait": self.ack_wait,
            "backoff": self.backoff,
            "max_age": self.max_age,
            "overlap": self.overlap,
            "dead_letter": self.dead_letter,
            "ttl": self.ttl,
            "keep_output": self.keep_output,
            "expect": self.expect,
        }

    def check(self, *, recurs: bool) -> None:
        """Refuse invalid options; `recurs` is whether the schedule does.

        Raises:
            SettingsError: as for `options`.
            RequestError: the client would refuse them.
        """
        from gozo.client.confirming import read_options  # noqa: PLC0415  # not needed for --help

        read_options(self.options(), recurs=recurs)

    @property
    def _confirmed_by(self) -> Confirm | bool:
        given = {
            Confirm.STREAM: self.confirm,
            Confirm.REPLY: self.confirm_reply,
            Confirm.CLAIM: self.confirm_claim,
        }
        chosen = [by for by, is_given in given.items() if is_given]
        if len(chosen) > 1:
            raise SettingsError("give only one of --confirm, --confirm-reply and --confirm-claim")
        return chosen[0] if chosen else False


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
