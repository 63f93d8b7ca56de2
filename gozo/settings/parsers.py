"""Parses and checks the values of options, one function for each kind.

Each `read_...` turns a text into a value or raises `UnusableError`, whose message follows "invalid
--option 'value':". Paths of files are checked for existence, so that a mistyped one is reported
before anything starts. Nothing here knows options, environments or command lines.
"""

from __future__ import annotations

import ipaddress
import math
import re
import secrets
import socket

from gozo.errors import UnusableError
from gozo.runtime.logs import FORMATS as LOG_FORMATS
from gozo.runtime.logs import LEVELS
from gozo.settings.credentials import seed_of

DEFAULT_PORT = 4222
LAST_PORT = 65_535
LONGEST_NAME = 255
"""Characters of a name or a subject: far below the 4,096 bytes of the server's control line."""

FORMATS = ("table", "json", "jsonl", "tsv", "id")
"""Output formats for schedules."""

MOST_REPLICAS = 5  # the most that JetStream supports
MOST_SECONDS = 86_400.0  # a day: a longer timeout is a mistake
MOST_RATE = 1e9  # per second: a higher limit is a mistake
MOST_OF_ALL = 10**15 - 1  # of anything: a higher limit is a mistake

_BRACKETED = re.compile(r"\[([^\[\]]+)\](?::(.*))?")
_HOST = re.compile(r"[^\s:/?#@\[\]\\]+")
_PORT = re.compile(r"[0-9]{1,5}")
_BUCKET = re.compile(r"[A-Za-z0-9_-]+")
_COUNT = re.compile(r"[0-9]{1,3}")
_DIGITS = re.compile(r"0*[0-9]{1,15}")
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*((?:[kmgt]i?)?b?)", re.IGNORECASE)


def read_text(text: str) -> str:
    """Read any text."""
    return text


def read_flag(text: str) -> bool:
    """Read 1, true, yes or on; 0, false, no or off."""
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise UnusableError("expected 1, true, yes or on, or 0, false, no or off")


def read_addresses(text: str) -> tuple[str, ...]:
    """Read comma-separated addresses of servers; adds a missing scheme and port."""
    parts = [part.strip() for part in text.split(",")]
    addresses = [_address(part) for part in parts if part]
    if not addresses:
        raise UnusableError(f"expected an address such as nats://localhost:{DEFAULT_PORT}")
    return tuple(dict.fromkeys(addresses))


def _address(text: str) -> str:
    # No message may repeat any of the text: it could be part of a password.
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "nats", text
    scheme = scheme.lower()
    if scheme in ("ws", "wss"):
        raise UnusableError(
            "gozo does not support WebSockets; expected a nats:// or tls:// address"
        )
    if scheme not in ("nats", "tls"):
        raise UnusableError("unknown scheme; expected a nats:// or tls:// address")
    user, at, place = rest.removesuffix("/").rpartition("@")
    if re.search(r"[\s/?#]", rest.removesuffix("/")) or not rest.isprintable():
        raise UnusableError(
            "it contains white space or one of / ? #; expected scheme, host and port only: give a "
            "user or password with such characters as --user and --password"
        )
    host, port = _host_and_port(place)
    return f"{scheme}://{user}{at}{host}:{port}"


def _is_host(text: str) -> bool:
    """Return whether a text is a valid host name (RFC 5890) or an address."""
    if not _HOST.fullmatch(text):
        return False
    try:
        text.encode("idna")
    except UnicodeError:  # a part is empty, or longer than 63 bytes
        return False
    return True


def _host_and_port(text: str) -> tuple[str, int]:
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed and _is_ipv6(bracketed[1]):
        host, port = f"[{bracketed[1]}]", bracketed[2]
    elif _is_ipv6(text):
        host, port = f"[{text}]", None
    else:
        host, colon, digits = text.partition(":")
        port = digits if colon else None
        if not _is_host(host):
            raise UnusableError(
                f"invalid host; expected one as in nats://localhost:{DEFAULT_PORT}, and an IPv6 "
                "address in brackets"
            )
    if port is None:
        return host, DEFAULT_PORT
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= LAST_PORT:
        raise UnusableError("invalid port; expected a number from 1 to 65535, or none")
    return host, int(port)


def read_nkey(text: str) -> str:
    """Read a seed, or the path of a file that contains one; returns it unchanged."""
    seed_of(text)
    return text.strip()


def read_subject(text: str) -> str:
    """Read a subject without wildcards."""
    if not text.isprintable() or re.search(r"\s", text):
        raise UnusableError("it contains white space or control characters; remove them")
    if "*" in text or ">" in text:
        raise UnusableError("it contains a wildcard; expected a single subject")
    if text.startswith("$"):
        raise UnusableError(
            "it begins with $, which is reserved for the server; expected another subject"
        )
    if not all(text.split(".")):
        raise UnusableError("it has an empty token; remove the extra dot")
    return _short_enough(text)


def read_prefix(text: str) -> str:
    """Read the prefix of subjects, with or without a final dot."""
    return read_subject(text.removesuffix("."))


def read_patterns(text: str) -> tuple[str, ...]:
    """Read comma-separated subject patterns; `*` and `>` are wildcards, as in NATS."""
    patterns = [part.strip() for part in text.split(",")]
    if not all(patterns):
        # Perhaps from an unset variable: ignoring it could allow everything.
        raise UnusableError(
            "it contains an empty pattern; expected one such as jobs.>, > for all subjects, or "
            "omit it"
        )
    for pattern in patterns:
        if not pattern.isprintable() or re.search(r"\s", pattern):
            raise UnusableError("it contains white space or control characters; remove them")
        tokens = pattern.split(".")
        if not all(tokens) or ">" in tokens[:-1]:
            raise UnusableError(
                "expected patterns without empty tokens, and with > only as the last token"
            )
        if any(len(token) > 1 and set(token) & {"*", ">"} for token in tokens):
            # NATS takes it literally there: the intended subjects would not be denied.
            raise UnusableError(
                "it has a wildcard inside a token, where it has no effect; use it as a whole "
                "token, as in jobs.*"
            )
    return tuple(dict.fromkeys(patterns))


def read_globs(text: str) -> tuple[str, ...]:
    """Read comma-separated patterns of ids; `*` and `?` are wildcards."""
    globs = [part.strip() for part in text.split(",")]
    if not all(globs):
        raise UnusableError("it contains an empty pattern; expected one such as backup-*")
    return tuple(dict.fromkeys(globs))


def read_bucket(text: str) -> str:
    """Read the name of a key/value bucket."""
    if not _BUCKET.fullmatch(text):
        raise UnusableError("expected ASCII letters, digits, - and _ only")
    if text.endswith("_lease"):
        raise UnusableError("it ends in _lease, as lease buckets do; expected another name")
    return _short_enough(text)


def read_name(text: str) -> str:
    """Read the name of a daemon: printable, without white space."""
    if not text.isprintable() or re.search(r"\s", text):
        raise UnusableError("it contains white space or control characters; remove them")
    return _short_enough(text)


def default_name() -> str:
    """Return a name for a daemon: host name and random suffix."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()) or "host"
    return f"{host}-{secrets.token_hex(3)}"


def read_replicas(text: str) -> int:
    """Read a number of replicas."""
    digits = text.strip()
    if _COUNT.fullmatch(digits) and 1 <= int(digits) <= MOST_REPLICAS:
        return int(digits)
    raise UnusableError(f"expected a whole number from 1 to {MOST_REPLICAS}, such as 1, 3 or 5")


def read_level(text: str) -> str:
    """Read a log level."""
    level = text.strip().lower()
    if level not in LEVELS:
        raise UnusableError(f"expected {', '.join(LEVELS[:-1])} or {LEVELS[-1]}")
    return level


def read_log_format(text: str) -> str:
    """Read a log format."""
    form = text.strip().lower()
    if form not in LOG_FORMATS:
        raise UnusableError(f"expected {' or '.join(LOG_FORMATS)}")
    return form


def read_listen(text: str) -> tuple[str, int]:
    """Read a host and a port to listen on: `127.0.0.1:9464`, `[::1]:9464`, or `:9464` for all."""
    host, colon, port = text.strip().rpartition(":")
    bracketed = _BRACKETED.fullmatch(host)
    if bracketed and _is_ipv6(bracketed[1]):
        host = bracketed[1]
    elif host and not _is_host(host):
        raise UnusableError("invalid host; expected one as in 127.0.0.1:9464 or [::1]:9464")
    if not colon or not _PORT.fullmatch(port) or int(port) > LAST_PORT:
        raise UnusableError("expected a port from 0 to 65535, as in 127.0.0.1:9464")
    return host, int(port)


def read_format(text: str) -> str:
    """Read an output format."""
    if text not in FORMATS:
        raise UnusableError(f"expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    return text


def read_size(text: str) -> int:
    """Read a number of bytes: `512MiB` is 512 * 1024 * 1024, `64MB` is 64,000,000."""
    match = _SIZE.fullmatch(text.strip())
    if match:
        unit = match[2].lower().removesuffix("b")
        base = 1024 if unit.endswith("i") else 1000
        size = float(match[1]) * base ** " kmgt".index(unit[:1] or " ")
        if 1 <= size < 2**63:
            return int(size)
    raise UnusableError("expected bytes, or a number with a unit such as 512MiB, 64MB or 1GiB")


def read_most(text: str) -> int:
    """Read a maximum number."""
    digits = text.strip()
    if _DIGITS.fullmatch(digits) and int(digits):
        return int(digits)
    raise UnusableError(f"expected a whole number from 1 to {MOST_OF_ALL}, such as 100000")


def read_rate(text: str) -> float:
    """Read a rate per second."""
    number = text.strip()
    if _SECONDS.fullmatch(number) and 0 < float(number) <= MOST_RATE:
        return float(number)
    raise UnusableError(
        f"expected a rate per second above 0, at most {MOST_RATE:,.0f}, such as 1000 or 0.5"
    )


def read_seconds(text: str) -> float:
    """Read a number of seconds above zero."""
    number = text.strip()
    if _SECONDS.fullmatch(number):
        seconds = float(number)
        if math.isfinite(seconds) and 0 < seconds <= MOST_SECONDS:
            return seconds
    raise UnusableError(f"expected seconds above 0, at most {MOST_SECONDS:.0f}, such as 3 or 0.5")


def _short_enough(text: str) -> str:
    if len(text) > LONGEST_NAME:
        raise UnusableError(f"it has {len(text)} characters; expected at most {LONGEST_NAME}")
    return text


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def is_utf8(text: str) -> bool:
    """Return whether a text can be encoded as UTF-8: undecodable bytes of arguments cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
