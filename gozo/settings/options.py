"""The options: each is declared once, in the tables below, and used by every command.

Command lines, variables, help texts and man pages are made from these tables; the field of
the settings that an option fills has its type and its default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from gozo.errors import RequestError, SettingsError, UnusableError
from gozo.runtime import logs
from gozo.schedule.model import MICROSECONDS
from gozo.settings import nats_contexts, parsers
from gozo.settings.credentials import hidden, redacted
from gozo.settings.paths import read_file, read_path

LONGEST_AGE_US = (2**63 - 1) // 1000
"""JetStream counts the ages of messages in nanoseconds, of 64 bits with a sign."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option, as command lines, variables and help texts know it."""

    prefix: Literal["NATS", "GOZO"]
    """Begins the name of the environment variable."""
    name: str
    """The long name without dashes, such as `request-subject`."""
    letter: str
    """The short name; empty: none."""
    read: Callable[[str], Any]
    """Turns a text into a value, or raises `UnusableError`."""
    metavar: str
    help: str
    """What it is for, without a full stop."""
    default: str = ""
    """How help texts write the default; empty: there is none."""
    conceal: Callable[[str], str] | None = None
    """Makes a value fit to be seen, where it is or may hold a secret."""
    fills: str = ""
    """The field of the settings, where that is not called like the option."""
    also: str = ""
    """A variable of the NATS command line, read after the option's own of the same source."""
    offers: Callable[[], Iterable[str]] | None = None
    """Returns the values that completion offers, where they can be listed."""
    aliases: tuple[str, ...] = ()
    """Other long names, without dashes: those of the NATS command line."""
    repeats: bool = False
    """Whether it may be given more than once: its values are then separated by commas."""

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"{self.prefix}_{self.name.upper().replace('-', '_')}"

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables, the first before the others."""
        return (self.variable, self.also) if self.also else (self.variable,)

    @property
    def identifier(self) -> str:
        """The name as an identifier of Python."""
        return self.name.replace("-", "_")

    @property
    def field(self) -> str:
        """The name of the field of the settings that it fills."""
        return self.fills or self.identifier

    @property
    def is_flag(self) -> bool:
        """Whether it is given as `--name` or `--no-name`, without a value."""
        return self.read is parsers.read_flag

    @property
    def is_secret(self) -> bool:
        """Whether no value of it may ever be seen."""
        return self.conceal is hidden

    def parse(self, text: str, origin: str) -> Any:
        """Turn a text from a source, called `origin` in messages, into a value.

        Raises:
            SettingsError: with the value, unless it is secret, and the cure.
        """
        problem = "is not UTF-8 text: save it as such"
        if parsers.is_utf8(text) and "\0" not in text:
            try:
                return self.read(text)
            except UnusableError as error:
                problem = str(error)
        raise SettingsError(f"the value {self._shown(text)} of {origin} {problem}")

    def _shown(self, text: str) -> str:
        if self.is_secret:
            return hidden(text)
        return repr(self.conceal(text) if self.conceal else text)


def read_moment(text: str) -> int:
    """Read a moment as `Gozo-When` has it; microseconds since the Unix epoch."""
    from gozo.schedule import expression as when  # noqa: PLC0415  # not needed for --help

    moment: when.When | None = None
    with suppress(RequestError):
        moment = when.parse(text.strip())
    if not isinstance(moment, when.At):
        raise UnusableError(
            "is no moment: give epoch seconds (1763871234.5) or 2026-12-24T18:00:00+01:00"
        )
    return moment.us


def read_delay(text: str) -> int:
    """Read a delay as `Gozo-When` has it, with its `+` or without; microseconds."""
    from gozo.schedule import expression as when  # noqa: PLC0415  # not needed for --help

    delay: when.When | None = None
    with suppress(RequestError):
        delay = when.parse(f"+{text.strip().removeprefix('+')}")
    if not isinstance(delay, when.After) or not delay.us:
        raise UnusableError("is no delay above 0: give seconds, or one such as 90m or 30d")
    return delay.us


def read_interval(text: str) -> int:
    """Read a length of time above 0; microseconds."""
    from gozo.schedule import expression as when  # noqa: PLC0415  # not needed for --help

    with suppress(RequestError):
        if us := when.parse_span(text.strip(), "the interval"):
            return us
    raise UnusableError("is not a duration above 0: give seconds (10) or a duration (100ms)")


def read_age(text: str) -> int:
    """Read a length of time of a second or more, such as `30d`; microseconds."""
    from gozo.schedule import expression as when  # noqa: PLC0415  # not needed for --help

    with suppress(RequestError):
        us = when.parse_span(text.strip(), "the age")
        if us > LONGEST_AGE_US:
            raise UnusableError("is longer than a stream can keep messages: give at most 106751d")
        if us >= MICROSECONDS:
            return us
    raise UnusableError("is no length of time of a second or more: give one such as 30d or 12h")


# A table, kept as it is: what belongs together stands on one line.
# fmt: off
CONNECTION = (
    Option("NATS", "address", "a", parsers.read_addresses, "LIST",
           "Addresses of the servers, comma-separated",
           default="nats://localhost:4222", conceal=redacted, fills="addresses",
           also="NATS_URL", aliases=("server",)),
    Option("GOZO", "context", "", nats_contexts.read_name, "NAME",
           "Context of the NATS command line to take address and login from",
           offers=nats_contexts.names),
    Option("NATS", "secure", "s", parsers.read_flag, "",
           "Require TLS", default="yes with --ca, --cert or tls://, else no"),
    Option("NATS", "token", "t", parsers.read_text, "TEXT",
           "Token to log in with", conceal=hidden),
    Option("NATS", "user", "u", parsers.read_text, "TEXT",
           "User to log in as"),
    Option("NATS", "password", "p", parsers.read_text, "TEXT",
           "Password of that user", conceal=hidden),
    Option("NATS", "cert", "c", read_file, "FILE",
           "Certificate of this client, in PEM; needs --key"),
    Option("NATS", "key", "k", read_file, "FILE",
           "Private key of that certificate, in PEM"),
    Option("NATS", "ca", "", read_file, "FILE",
           "Certificates of the authorities to trust, in PEM", default="the system's"),
    Option("NATS", "nkey", "n", parsers.read_nkey, "SEED|FILE",
           "NKey to log in with: a seed, or a file that holds one", conceal=hidden),
    Option("NATS", "jwt", "j", read_file, "FILE",
           "Credentials file to log in with", also="NATS_CREDS", aliases=("creds",)),
    Option("GOZO", "request-subject", "", parsers.read_subject, "SUBJECT",
           "Subject on which requests are taken", default="gozo"),
    Option("GOZO", "bucket", "", parsers.read_bucket, "NAME",
           "Key/value bucket in which schedules are kept", default="gozo"),
    Option("GOZO", "inbox-prefix", "", parsers.read_prefix, "SUBJECT",
           "Prefix of the subjects on which to receive answers",
           default="_INBOX, for daemons _GOZO_INBOX"),
)
"""Options of every command that connects."""

OUTPUT = (
    Option("GOZO", "output", "o", parsers.read_format, "|".join(parsers.FORMATS),
           "How to print schedules", default="table on a terminal, else tsv",
           offers=lambda: parsers.FORMATS),
)
"""Options of every command that prints schedules."""

SERVE = (
    Option("GOZO", "replicas", "", parsers.read_replicas, "1..5",
           "Copies of the bucket that the servers keep", default="3 in a cluster, else 1"),
    Option("GOZO", "name", "", parsers.read_name, "NAME",
           "Name of this daemon, different for each",
           default="the host's name and a random part"),
    Option("GOZO", "max-backlog", "", parsers.read_size, "SIZE",
           "Memory for requests that wait to be stored; more are refused", default="512MiB"),
    Option("GOZO", "allow", "", parsers.read_patterns, "PATTERN",
           "Subjects that schedules may be sent to, and no others; repeatable",
           default="all but the server's and gozo's", repeats=True),
    Option("GOZO", "allow-answers", "", parsers.read_patterns, "PATTERN",
           "Further subjects that receipts and other answers may be sent to; repeatable",
           default="_INBOX.> with --allow, else all", repeats=True),
    Option("GOZO", "deny", "", parsers.read_patterns, "PATTERN",
           "Subjects that nothing may be sent to, even if allowed; repeatable", repeats=True),
    Option("GOZO", "max-pending", "", parsers.read_most, "NUMBER",
           "Schedules that may wait; requests for more are refused"),
    Option("GOZO", "max-payload", "", parsers.read_size, "SIZE",
           "Payload that a request may have", default="the server's less 4 KiB"),
    Option("GOZO", "max-delay", "", read_delay, "DURATION",
           "How far ahead a request may be due, such as 90m or 30d", fills="max_delay_us"),
    Option("GOZO", "max-rate", "", parsers.read_rate, "NUMBER",
           "Requests a second; more are refused"),
    Option("GOZO", "min-interval", "", read_interval, "DURATION",
           "Shortest interval that a request may have", default="100ms",
           fills="min_interval_us"),
    Option("GOZO", "max-deliver-rate", "", parsers.read_rate, "NUMBER",
           "Messages sent per second; those over the limit are sent late"),
    Option("GOZO", "connect-timeout", "", parsers.read_seconds, "SECONDS",
           "How long to wait for a server at the start", default="3"),
    Option("GOZO", "skip-due-before", "", read_moment, "TIME",
           "Leave out what the bucket holds at the start and was due before: for a restored backup",
           fills="skip_due_before_us"),
    Option("GOZO", "metrics", "", parsers.read_listen, "HOST:PORT",
           "Where to serve figures for Prometheus, /healthz and /readyz over HTTP"),
    Option("GOZO", "events", "", parsers.read_flag, "",
           "Tell what happens to schedules, on the request subject's .event.>", default="no"),
    Option("GOZO", "history", "", read_age, "DURATION",
           "Keep events for at least so long, such as 30d, in a stream; implies --events",
           fills="history_us"),
    Option("GOZO", "log-level", "", parsers.read_level, "LEVEL",
           "What to log: debug, info, warning or error", default="info",
           offers=lambda: logs.LEVELS),
    Option("GOZO", "log-format", "", parsers.read_log_format, "|".join(logs.FORMATS),
           "How to log: text or json", default="text", offers=lambda: logs.FORMATS),
    Option("GOZO", "embedded", "", parsers.read_flag, "",
           "Run a nats-server of gozo's own at the address, a loopback one", default="no"),
    Option("GOZO", "store", "", read_path, "DIRECTORY",
           "Where the embedded server keeps its data",
           default="gozo in the user's data directory"),
)
"""Options of `gozo serve` besides those of `CONNECTION`."""
# fmt: on
