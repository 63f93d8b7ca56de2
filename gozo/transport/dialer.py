"""Connects to one of the servers: selects the address, the login and the TLS settings."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

from nats.aio.client import RawCredentials

from gozo.errors import GozoError, NoServerError, SettingsError, UnsuitableServerError
from gozo.runtime.logs import get_logger
from gozo.settings.credentials import redacted
from gozo.settings.model import ConnectionSettings
from gozo.transport.client import HardenedClient, NoOwner
from gozo.transport.failures import PassingError, TurnedAwayError, explain, verdict
from gozo.transport.link import Link

ATTEMPT = 2.0  # seconds for one server to answer
RECONNECT_WAIT = 0.25  # seconds between rounds through the servers
MOST_ANNOUNCED = 16
"""Announced servers that are tried in one round. Each may take seconds, and the given addresses are
only tried again in the next round."""

log = get_logger("gozo.connection")


class Dialer:
    """Connects a client for each new link."""

    def __init__(self, settings: ConnectionSettings, portion: int, link: Link) -> None:
        """`portion` is as for `WireParser`."""
        self._settings = settings
        self._portion = portion
        self._link = link
        self._served = settings.addresses[0]
        """The given address that was last connected to."""
        self._dialed = self._served, ""
        """The address of the present link, and its name for TLS; see `targets`."""

    async def dial(self, timeout: float) -> HardenedClient:
        """Connect for the first time; keep trying for `timeout` seconds.

        Raises:
            NoServerError: no server answered.
            TurnedAwayError: a server answered and refused the connection, for example when full.
            NotAllowedError: a server refused the credentials, or does not offer TLS; raised at once
                if all servers refused.
            UnsuitableServerError: no server supports what gozo needs.
            SettingsError: a file of certificates or credentials cannot be used.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        logged: set[str] = set()
        turned_away: TurnedAwayError | None = None
        while True:
            try:
                return await self.redial(deadline)
            except (NoServerError, PassingError) as error:
                if isinstance(error, TurnedAwayError):
                    turned_away = error
                if clock() + RECONNECT_WAIT >= deadline:
                    if isinstance(error, NoServerError) and turned_away is not None:
                        # The server's own words are more specific; the last round may not have any.
                        raise turned_away from error
                    raise
                if str(error) not in logged:
                    logged.add(str(error))
                    log.info("connection.failed", reason=str(error), wait_s=timeout)
            await asyncio.sleep(RECONNECT_WAIT)

    async def redial(self, deadline: float | None = None) -> HardenedClient:
        """Try each server once; `deadline` is by the event loop's clock.

        Raises:
            NotAllowedError: all refused the credentials; a PassingError if trying again may help.
            UnsuitableServerError: no server supports what gozo needs.
            NoServerError: no server accepts connections now; a TurnedAwayError if one answered.
            SettingsError: a file of certificates or credentials cannot be used.
        """
        failures: list[GozoError] = []
        for address, tls_name in targets(self._settings, self._served, self._link.info):
            timeout = ATTEMPT
            if deadline is not None:
                timeout = min(timeout, max(0.1, deadline - asyncio.get_running_loop().time()))
            client = HardenedClient(
                secure=self._settings.demands_tls, portion=self._portion, owner=self._link
            )
            try:
                await self._open(client, address, tls_name, timeout)
            except SettingsError:
                raise
            except GozoError as error:
                self._link.attempt_failed()
                failures.append(error)
                continue
            if address in self._settings.addresses:
                self._served = address
            self._dialed = address, tls_name
            return client
        self._link.all_failed("; ".join(dict.fromkeys(map(str, failures))))
        raise verdict(failures)

    async def ask_info(self) -> dict[str, Any]:
        """Return the INFO that the server of the present link sends to a new connection.

        Raises:
            GozoError: the server could not be asked.
        """
        client = HardenedClient(
            secure=self._settings.demands_tls, portion=self._portion, owner=NoOwner()
        )
        await self._open(client, *self._dialed, ATTEMPT)
        client.lose("asked")
        return client.info | {"max_payload": client.max_payload}

    async def _open(
        self, client: HardenedClient, address: str, tls_name: str, timeout: float
    ) -> None:
        connected = False
        try:
            given = options(self._settings, self._link.name, address, tls_name)
            await client.open(timeout=timeout, **given)
            check_headers(address, client.info)
            connected = True
        except (SettingsError, UnsuitableServerError):
            raise
        except Exception as error:  # any error that nats-py raises if it is not a NATS server
            raise explain(address, error, client.info, self._settings) from error
        finally:
            if not connected:
                client.lose("could not connect")


def targets(
    settings: ConnectionSettings, served: str, info: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Return the given addresses, then those that the cluster announced, each with a name for TLS.

    The name is empty if it is that of the address. Announced servers belong to the address that
    announced them, and get only its login. They are announced by IP address, but their
    certificates may be valid only for the name.

    `served` is the given address that was last connected to, and `info` its server's INFO.
    """
    found = [(address, "") for address in settings.addresses]
    hosts = {_bare(address) for address, _ in found}
    used = urlsplit(served)
    scheme = "tls" if used.scheme == "tls" else "nats"
    login, at, _ = used.netloc.rpartition("@")
    name = "" if used.hostname is None or _is_ip(used.hostname) else used.hostname
    urls = info.get("connect_urls")
    announced = map(str, urls if isinstance(urls, list) else [])
    others = [host for host in announced if host not in hosts]
    if len(others) > MOST_ANNOUNCED:
        others = random.sample(others, MOST_ANNOUNCED)  # the rest may be in the next round
    for host in others:
        address = f"{scheme}://{login}{at}{host}"
        found.append((address, ""))
        if name and info.get("tls_required"):
            found.append((address, name))
    return found


def options(settings: ConnectionSettings, name: str, address: str, tls_name: str) -> dict[str, Any]:
    """Return the arguments for `connect` of nats-py; files are read each time."""
    given: dict[str, Any] = {"servers": [address], "name": name}
    url = urlsplit(address)
    if url.username is not None:
        # Removed from the address and decoded (RFC 3986, 2.1), which nats-py does not do.
        bare = url._replace(netloc=_bare(address))
        given["servers"] = [bare.geturl()]
        if settings.token or settings.user or settings.nkey or settings.jwt or settings.user_jwt:
            pass  # an option overrides the address
        elif url.password is None:
            given["token"] = unquote(url.username)
        else:
            given |= {"user": unquote(url.username), "password": unquote(url.password)}
    if settings.token:
        given["token"] = settings.token
    if settings.user:
        given |= {"user": settings.user, "password": settings.password or ""}
    if credentials := settings.credentials():
        given["user_credentials"] = _credentials(*credentials)
    elif settings.nkey:
        given["nkeys_seed_str"] = settings.seed()
    given["tls_handshake_first"] = settings.tls_first
    if tls_name:
        given["tls_hostname"] = tls_name
    if settings.ca or settings.cert or settings.secure or settings.tls_first:
        given["tls"] = _tls(settings)
    return given


def check_headers(address: str, info: Mapping[str, Any]) -> None:
    """Check that a server supports headers.

    Raises:
        UnsuitableServerError: its INFO says that it does not.
    """
    if not info.get("headers"):
        raise UnsuitableServerError(
            f"{redacted(address)} does not support headers, which gozo needs: remove "
            "no_header_support from the server's configuration"
        )


def _credentials(jwt: str, seed: str) -> RawCredentials:
    """Return a JWT and a seed in the form of a credentials file."""
    return RawCredentials(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


def _tls(settings: ConnectionSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.cert:
            context.load_cert_chain(settings.cert, settings.key)
    except (OSError, ValueError) as error:
        paths = ", ".join(str(p) for p in (settings.ca, settings.cert, settings.key) if p)
        raise SettingsError(f"cannot use the certificates in {paths}: {error}") from error
    return context


def _bare(address: str) -> str:
    """Return the host and the port of an address, without a login."""
    return urlsplit(address).netloc.rpartition("@")[2]


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
