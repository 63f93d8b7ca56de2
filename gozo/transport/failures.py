"""Explains to users why connecting to a server failed.

Errors of nats-py are translated here.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from nats import errors as nats_errors

from gozo.errors import GozoError, NoServerError, NotAllowedError, UnsuitableServerError
from gozo.settings.credentials import redacted
from gozo.settings.model import ConnectionSettings

_FINAL = ("authorization", "authentication", "revoked", "expired")
"""Words by which the server refuses a login (`sendErr` in its client.go, accounts.go and
server.go). `Authentication Timeout` does not count: the server or its auth callout was slow. Other
errors, such as `maximum account active connections exceeded`, `maximum connections exceeded`,
`Failed Account Registration` or `Connection throttling is active`, are about a limit and may pass.
"""


class TurnedAwayError(NoServerError):
    """A server answered but does not accept the connection at present."""


class PassingError(NotAllowedError):
    """A refusal that may be temporary: another server may accept, or the link just ended."""


def verdict(failures: Sequence[GozoError]) -> GozoError:
    """Return the error for a round in which all servers failed."""
    if all(map(_lasts, failures)):
        return failures[0]
    words = "; ".join(dict.fromkeys(map(str, failures)))
    if any(isinstance(failure, NotAllowedError) for failure in failures):
        return PassingError(words)
    if any(isinstance(failure, TurnedAwayError) for failure in failures):
        return TurnedAwayError(words)
    return NoServerError(words)


def _lasts(failure: GozoError) -> bool:
    """Tell whether trying again cannot help."""
    final = isinstance(failure, (NotAllowedError, UnsuitableServerError))
    return final and not isinstance(failure, PassingError)


def explain(
    address: str, error: Exception, info: Mapping[str, Any], settings: ConnectionSettings
) -> GozoError:
    """Return why connecting to an address failed; `info` is its server's INFO, empty if none came.

    It is a NotAllowedError if the server would refuse again, and a TurnedAwayError if the server
    does not accept the connection at present.
    """
    shown = redacted(address)
    if info.get("tls_verify") and not settings.cert:
        return NotAllowedError(f"{shown} requires a client certificate: give --cert and --key")
    if info.get("tls_verify") and isinstance(error, ConnectionError):
        # With TLS 1.3 the client finishes before the server has checked its certificate, and the
        # alert may be lost with the connection.
        return PassingError(
            f"{shown} closed the connection after it got the certificate: check --cert and --key"
        )
    if isinstance(error, nats_errors.SecureConnRequiredError):
        return NotAllowedError(
            f"{shown} does not offer TLS, which tls://, --secure, --ca or --cert requires: enable "
            "it there, or give --no-secure and a nats:// address to connect without TLS"
        )
    if isinstance(error, ssl.SSLError):
        return NotAllowedError(
            f"no TLS with {shown}: {_reason(error)}: check --ca, --cert and --key"
        )
    said = _said(error)
    if said and any(word in said.lower() for word in _FINAL) and "timeout" not in said.lower():
        return NotAllowedError(
            f"{shown} refused the credentials ({said}): check --token, --user and --password, "
            "--nkey or --jwt"
        )
    if said:
        return TurnedAwayError(f"{shown} refused the connection ({said})")
    return NoServerError(f"{shown} does not answer ({_plain(error)})")


def _said(error: Exception) -> str:
    """Return the server's own words: nats-py passes on its error line, in quotes."""
    if not isinstance(error, nats_errors.Error):
        return ""
    text = str(error).removeprefix("nats: ").strip()
    return text.strip("' ") if text.startswith("'") else ""


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message.rstrip('.')})"
    return str(error.reason or error)


def _plain(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return str(error).removeprefix("nats: ").strip() or type(error).__name__
