"""Ways to log in, made afresh for each test: nkeys, a credentials file, certificates."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nkeys
import trustme

UNLIMITED = -1


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An nkey: its public name and its seed."""

    public: str
    seed: str


def key_pair(kind: int = nkeys.PREFIX_BYTE_USER) -> KeyPair:
    """Return a new nkey."""
    seed: bytes = nkeys.encode_seed(os.urandom(32), kind)
    return KeyPair(nkeys.from_seed(bytearray(seed)).public_key.decode(), seed.decode())


@dataclass(frozen=True, slots=True)
class Operator:
    """A server's configuration in operator mode, and a user's credentials file for it."""

    config: str
    account: KeyPair
    user: KeyPair

    @property
    def credentials(self) -> str:
        """A credentials file for the user, without an end."""
        return self.credentials_until(None)

    def credentials_until(self, moment: int | None) -> str:
        """Return a credentials file that is good until a moment, in seconds since 1970."""
        claims = dict.fromkeys(("subs", "data", "payload"), UNLIMITED)
        token = _token(self.account, self.user.public, "user", claims, moment)
        return (
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.user.seed}\n------END USER NKEY SEED------\n"
        )


def operator() -> Operator:
    """Make an operator, an account with JetStream, a system account and a user.

    The tokens are JWTs signed with nkeys, version 2 of the NATS claims.
    """
    owner = key_pair(nkeys.PREFIX_BYTE_OPERATOR)
    system = key_pair(nkeys.PREFIX_BYTE_ACCOUNT)
    account = key_pair(nkeys.PREFIX_BYTE_ACCOUNT)
    open_ended = {"subs": UNLIMITED, "data": UNLIMITED, "payload": UNLIMITED}
    limits: dict[str, Any] = {
        **open_ended,
        **dict.fromkeys(("imports", "exports", "conn", "leaf"), UNLIMITED),
        "wildcards": True,
    }
    storage = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), UNLIMITED)
    owner_token = _token(owner, owner.public, "operator", {"system_account": system.public})
    system_token = _token(owner, system.public, "account", {"limits": limits})
    account_token = _token(owner, account.public, "account", {"limits": limits | storage})
    config = f"""
        operator: {owner_token}
        system_account: {system.public}
        resolver: MEMORY
        resolver_preload: {{ {system.public}: {system_token}, {account.public}: {account_token} }}
    """
    return Operator(config, account, key_pair())


def _token(
    signer: KeyPair, subject: str, kind: str, claims: dict[str, Any], until: int | None = None
) -> str:
    """Return a signed NATS JWT."""
    body: dict[str, Any] = {
        "iat": int(time.time()),
        "iss": signer.public,
        "sub": subject,
        "name": kind,
        "nats": {**claims, "type": kind, "version": 2},
    }
    if until is not None:
        body["exp"] = until
    digest = hashlib.sha256(json.dumps(body).encode()).digest()
    body["jti"] = base64.b32encode(digest).decode().rstrip("=")
    parts = [_base64(json.dumps(part)) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, body)]
    text = ".".join(parts)
    signature = nkeys.from_seed(bytearray(signer.seed.encode())).sign(text.encode())
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _base64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Certificates:
    """Paths of a certificate authority and of what it has signed."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path

    @property
    def config(self) -> str:
        """The server's configuration: TLS, and clients must show a certificate."""
        return f'tls {{ {self._server} ca_file: "{self.ca}", verify: true }}'

    @property
    def config_for_all(self) -> str:
        """The server's configuration: TLS, for clients without a certificate."""
        return f"tls {{ {self._server} }}"

    @property
    def _server(self) -> str:
        return f'cert_file: "{self.server_cert}", key_file: "{self.server_key}",'


LOOPBACK, CLIENT = "127.0.0.1", "client.example"


def certificates(
    folder: Path, *, server: Sequence[str] = (LOOPBACK, "localhost"), expired: str = ""
) -> Certificates:
    """Make an authority, a `server`'s certificate, for loopback, and a client's.

    The one for the name that is `expired` was good until yesterday.
    """
    now = datetime.now(UTC)
    authority = trustme.CA()
    ca = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    paths: list[Path] = []
    for name, *more in (server, (CLIENT,)):
        leaf = authority.issue_cert(
            name,
            *more,
            not_before=now - timedelta(days=9),
            not_after=now + timedelta(days=-1 if name == expired else 9),
        )
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        leaf.private_key_pem.write_to_path(str(key))
        for index, pem in enumerate(leaf.cert_chain_pems):
            pem.write_to_path(str(cert), append=index > 0)
        paths += [cert, key]
    return Certificates(ca, *paths)
