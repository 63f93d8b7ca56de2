"""The options: each is declared once, in the tables below, and used by all commands.

Command lines, variables, help texts and man pages are generated from these tables; type and
default of an option are those of the field of the settings that it fills.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from gozo.errors import RequestError, SettingsError, UnusableError, invalid_value
from gozo.runtime import logs
from gozo.schedule.model import MICROSECONDS
from gozo.settings import nats_contexts, parsers
from gozo.settings.credentials import hidden, redacted
from gozo.settings.paths import read_file, read_path

LONGEST_AGE_US = (2**63 - 1) // 1000
"""JetStream stores the age of messages in nanoseconds, as a signed 64-bit integer."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of the command line, with its variable and help text."""

    prefix: Literal["NATS", "GOZO"]
    """Prefix of the environment variable."""
    name: str
    """The long name without dashes, such as `request-subject`."""
    letter: str
    """The short name; empty if there is none."""
    read: Callable[[str], Any]
    """Turns a text into a value, or raises `UnusableError`."""
    metavar: str
    help: str
    """The help text, without a full stop."""
    default: str = ""
    """The default as help texts show it; empty if there is none."""
    conceal: Callable[[str], str | None] | None = None
    """Hides the secret in a value before it is shown; returns None to hide it all."""
    fills: str = ""
    """The field of the settings, if its name differs from the option's."""
    also: str = ""
    """A variable of the NATS CLI, used if the option's own is not set in the same source."""
    offers: Callable[[], Iterable[str]] | None = None
    """Returns the values that shell completion offers, if they can be listed."""
    aliases: tuple[str, ...] = ()
    """Other long names, without dashes: those of the NATS CLI."""
    repeats: bool = False
    """Whether it may be given more than once; its values are joined with commas."""

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"{self.prefix}_{self.name.upper().replace('-', '_')}"

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables; the first that is set wins."""
        return (self.variable, self.also) if self.also else (self.variable,)

    @property
    def identifier(self) -> str:
        """The name as a Python identifier."""
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
        """Whether its value must never be shown."""
        return self.conceal is hidden

    def parse(self, text: str, origin: str) -> Any:
        """Turn a text into a value; messages call its source `origin`.

        Raises:
            SettingsError: the text is invalid; shows it unless it is secret.
        """
        problem = "it is not UTF-8 text; save it as UTF-8"
        if parsers.is_utf8(text) and "\0" not in text:
            try:
                return self.read(text)
            except UnusableError as error:
                problem = str(error)
        raise SettingsError(invalid_value(origin, self._shown(text), problem))

    def _shown(self, text: str) -> str | None:
        return self.conceal(text) if self.conceal else text


def read_moment(text: str) -> int:
    """Read a time as in `Gozo-When`; microseconds since the Unix epoch."""
    from gozo.schedule import expression as when  # noqa: PLC0415  # not needed for --help

    moment: when.When | None = None
    with suppress(RequestError):
        moment = when.parse(text.strip())
    if not isinstance(moment, when.At):
        raise UnusableError(
            "expected epoch seconds (1763871234.5) or a time such as 2026-12-24T18:00:00+01:00"
        )
    return moment.us


def read_delay(text: str) -> int:
    """Read a delay as in `Gozo-When`, with or without `+`; microseconds."""
    from gozo.schedule import expression as when  # noqa: PLC0415  # not needed for --help

    delay: when.When | None = None
    with suppress(RequestError):
        delay = when.parse(f"+{text.strip().removeprefix('+')}")
    if not isinstance(delay, when.After) or not delay.us:
        raise UnusableError("expected seconds (10) or a duration (90m) above 0")
    return delay.us


def read_interval(text: str) -> int:
    """Read a duration above 0; microseconds."""
    from gozo.schedule import expression as when  # noqa: PLC0415  # not needed for --help

    with suppress(RequestError):
        if us := when.parse_span(text.strip(), "the interval"):
            return us
    raise UnusableError("expected seconds (10) or a duration (100ms) above 0")


def read_kept(text: str) -> int:
    """Read a duration as `read_age` does; 0 is 0."""
    return 0 if text.strip() == "0" else read_age(text)


def read_age(text: str) -> int:
    """Read a duration of at least one second, such as `30d`; microseconds."""
    from gozo.schedule import expression as when  # noqa: PLC0415  # not needed for --help

    with suppress(RequestError):
        us = when.parse_span(text.strip(), "the age")
        if us > LONGEST_AGE_US:
            raise UnusableError(
                "a stream cannot keep messages for so long; expected at most 106751d"
            )
        if us >= MICROSECONDS:
            return us
    raise UnusableError("expected a duration of at least one second, such as 30d or 12h")


# Formatted by hand, to keep what belongs together on one line.
# fmt: off
CONNECTION = (
    Option("NATS", "address", "a", parsers.read_addresses, "LIST",
           "Addresses of the NATS servers, separated by commas",
           default="nats://localhost:4222", conceal=redacted, fills="addresses",
           also="NATS_URL", aliases=("server",)),
    Option("GOZO", "context", "", nats_contexts.read_name, "NAME",
           "Context of the NATS CLI to take address and credentials from",
           offers=nats_contexts.names),
    Option("NATS", "secure", "s", parsers.read_flag, "",
           "Require TLS", default="yes with --ca, --cert or tls://, else no"),
    Option("NATS", "token", "t", parsers.read_text, "TEXT",
           "Token to authenticate with", conceal=hidden),
    Option("NATS", "user", "u", parsers.read_text, "TEXT",
           "User to authenticate as"),
    Option("NATS", "password", "p", parsers.read_text, "TEXT",
           "Password of that user", conceal=hidden),
    Option("NATS", "cert", "c", read_file, "FILE",
           "Client certificate, in PEM; requires --key"),
    Option("NATS", "key", "k", read_file, "FILE",
           "Private key of the client certificate, in PEM"),
    Option("NATS", "ca", "", read_file, "FILE",
           "CA certificates to trust, in PEM", default="the system's"),
    Option("NATS", "nkey", "n", parsers.read_nkey, "SEED|FILE",
           "NKey to authenticate with: a seed, or a file that contains one", conceal=hidden),
    Option("NATS", "jwt", "j", read_file, "FILE",
           "Credentials file to authenticate with", also="NATS_CREDS", aliases=("creds",)),
    Option("GOZO", "request-subject", "", parsers.read_subject, "SUBJECT",
           "Subject on which requests are received", default="gozo"),
    Option("GOZO", "bucket", "", parsers.read_bucket, "NAME",
           "Key/value bucket that stores the schedules", default="gozo"),
    Option("GOZO", "inbox-prefix", "", parsers.read_prefix, "SUBJECT",
           "Prefix of the subjects on which answers are received",
           default="_INBOX, for daemons _GOZO_INBOX"),
)
"""Options of every command that connects."""

OUTPUT = (
    Option("GOZO", "output", "o", parsers.read_format, "|".join(parsers.FORMATS),
           "Output format for schedules", default="table on a terminal, else tsv",
           offers=lambda: parsers.FORMATS),
)
"""Options of every command that prints schedules."""

SERVE = (
    Option("GOZO", "replicas", "", parsers.read_replicas, "1..5",
           "Number of replicas of the bucket", default="3 in a cluster, else 1"),
    Option("GOZO", "name", "", parsers.read_name, "NAME",
           "Unique name of this daemon",
           default="the host name and a random suffix"),
    Option("GOZO", "max-backlog", "", parsers.read_size, "SIZE",
           "Memory for requests waiting to be stored; further requests are refused",
           default="512MiB"),
    Option("GOZO", "allow", "", parsers.read_patterns, "PATTERN",
           "Allow only these subjects as targets of schedules; repeatable",
           default="all but the server's and gozo's", repeats=True),
    Option("GOZO", "allow-answers", "", parsers.read_patterns, "PATTERN",
           "Allow these subjects for receipts and other answers as well; repeatable",
           default="_INBOX.> with --allow, else all", repeats=True),
    Option("GOZO", "deny", "", parsers.read_patterns, "PATTERN",
           "Never send anything to these subjects, even if allowed; repeatable", repeats=True),
    Option("GOZO", "max-pending", "", parsers.read_most, "NUMBER",
           "Maximum number of pending schedules; further requests are refused"),
    Option("GOZO", "max-payload", "", parsers.read_size, "SIZE",
           "Maximum payload of a request", default="the server's max_payload less 4 KiB"),
    Option("GOZO", "max-delay", "", read_delay, "DURATION",
           "Maximum time until a request is due, such as 90m or 30d", fills="max_delay_us"),
    Option("GOZO", "max-rate", "", parsers.read_rate, "NUMBER",
           "Maximum requests per second; further requests are refused"),
    Option("GOZO", "min-interval", "", read_interval, "DURATION",
           "Minimum interval that a request may give", default="100ms",
           fills="min_interval_us"),
    Option("GOZO", "max-deliver-rate", "", parsers.read_rate, "NUMBER",
           "Maximum messages sent per second; messages over the limit are sent late"),
    Option("GOZO", "connect-timeout", "", parsers.read_seconds, "SECONDS",
           "How long to wait for a server at startup", default="3"),
    Option("GOZO", "skip-due-before", "", read_moment, "TIME",
           "Skip schedules found at startup and due before this time: for a restored backup",
           fills="skip_due_before_us"),
    Option("GOZO", "metrics", "", parsers.read_listen, "HOST:PORT",
           "Serve metrics for Prometheus, /healthz and /readyz over HTTP at this address"),
    Option("GOZO", "metrics-ids", "", parsers.read_globs, "GLOB",
           "Add when these schedules succeeded last to the metrics, for up to 1,000; * and ? are "
           "wildcards; repeatable", repeats=True),
    Option("GOZO", "events", "", parsers.read_flag, "",
           "Publish what happens to schedules, below .event of the request subject", default="no"),
    Option("GOZO", "history", "", read_age, "DURATION",
           "Keep events in a stream for at least this long, such as 30d; implies --events",
           fills="history_us"),
    Option("GOZO", "outcomes", "", read_kept, "DURATION",
           "Keep outcomes and output of confirmed schedules for at least this long; 0: not at all",
           default="90d", fills="outcomes_us"),
    Option("GOZO", "log-level", "", parsers.read_level, "LEVEL",
           "Minimum level to log: debug, info, warning or error", default="info",
           offers=lambda: logs.LEVELS),
    Option("GOZO", "log-format", "", parsers.read_log_format, "|".join(logs.FORMATS),
           "Format of the log: text or json", default="text", offers=lambda: logs.FORMATS),
    Option("GOZO", "embedded", "", parsers.read_flag, "",
           "Run an embedded nats-server at the address, which must be a loopback address",
           default="no"),
    Option("GOZO", "store", "", read_path, "DIRECTORY",
           "Data directory of the embedded server",
           default="gozo in the user's data directory"),
)
"""Options of `gozo serve` besides those of `CONNECTION`."""
# fmt: on
