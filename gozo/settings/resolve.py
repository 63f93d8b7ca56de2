"""Resolves the values of all sources into settings.

`gozo.settings.options` declares the options, `gozo.settings.sources` the sources and their
order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from gozo.errors import SettingsError
from gozo.settings import local_store, nats_contexts
from gozo.settings.model import ConnectionSettings, ServeSettings
from gozo.settings.nats_contexts import Context
from gozo.settings.options import CONNECTION, SERVE, Option
from gozo.settings.sources import STEP, Found, Sources

IN_ADDRESS = 1  # added to the rank of an address, for the credentials in it
IN_CONTEXT = 2  # added to the rank of a context's name, for its content
LAST = 1_000_000  # greater than every rank


def _option(name: str) -> Option:
    return next(option for option in CONNECTION if option.name == name)


_ADDRESS, _CONTEXT = _option("address"), _option("context")
_USER, _PASSWORD = _option("user"), _option("password")
_LOGINS = (_option("token"), _USER, _option("nkey"), _option("jwt"))
"""Ways to authenticate; one replaces the others."""
_SECURE, _CA = _option("secure"), _option("ca")
_CERT, _KEY = _option("cert"), _option("key")
_STORE = next(option for option in SERVE if option.name == "store")
_CREDENTIALS = (*_LOGINS, _PASSWORD, _CERT, _KEY)
"""All options with credentials."""


def resolve_connection(sources: Sources, *, finds_token: bool = True) -> ConnectionSettings:
    """Resolve the options of every command that connects.

    A context ranks with the source that names it, below the options of that same source. Of
    several ways to authenticate, the one from the first source replaces the others. If there is
    none, and an embedded server of this user listens at the address, its token is used, unless
    `finds_token` is false.

    Raises:
        SettingsError: a value is invalid.
    """
    found = _find(CONNECTION, sources)
    context = None
    inside: dict[Option, Found] = {}
    if _CONTEXT in found:
        named = found[_CONTEXT]
        context = nats_contexts.load(_CONTEXT.parse(named.text, named.origin), sources.environment)
        rank, is_local = named.rank + IN_CONTEXT, named.is_local
        inside = {
            option: Found(text, context.fields[option.name], rank, is_local)
            for option in CONNECTION
            if (text := context.options.get(option.name))
        }
        for option, one in inside.items():
            found[option] = min(found.get(option, one), one, key=_rank)
    _check_pair(found)
    with_jwt = _keep_one_login(found, context)
    _check_destination(found, inside, context if with_jwt else None)
    _keep_tls(found, context)
    settings = _parsed(found)
    if context is not None:
        settings |= {
            "js_prefix": context.js_prefix,
            "tls_first": context.tls_first,
        }
        if with_jwt:
            settings |= {"user_jwt": context.user_jwt, "user_seed": context.user_seed}
    chosen = ConnectionSettings(**settings)
    has_login = with_jwt or any(option in found for option in _CREDENTIALS)
    if finds_token and not has_login:
        return _with_token(chosen, sources)
    return chosen


def _with_token(chosen: ConnectionSettings, sources: Sources) -> ConnectionSettings:
    """Add the token if this user's embedded server listens at the address."""
    given = sources.find(_STORE)
    if given is not None:
        store = _STORE.parse(given.text, given.origin)
    else:
        store = local_store.default_folder(sources.environment)
    if store is None or len(chosen.addresses) != 1 or chosen.demands_tls:
        return chosen
    known = local_store.find(store, chosen.addresses[0])
    if known is None:
        return chosen
    return replace(chosen, addresses=(known[0],), token=known[1])


def resolve_serve(sources: Sources) -> ServeSettings:
    """Resolve all options of `gozo serve`.

    Raises:
        SettingsError: a value is invalid.
    """
    chosen = _parsed(_find(SERVE, sources))
    connection = resolve_connection(sources, finds_token=not chosen.get("embedded"))
    return ServeSettings(connection, **chosen)


def _find(options: Iterable[Option], sources: Sources) -> dict[Option, Found]:
    return {option: found for option in options if (found := sources.find(option)) is not None}


def _parsed(found: Mapping[Option, Found]) -> dict[str, Any]:
    """Return the values found, by field; the others keep their defaults."""
    return {option.field: option.parse(one.text, one.origin) for option, one in found.items()}


def _rank(found: Found) -> int:
    return found.rank


def _keep_one_login(found: dict[Option, Found], context: Context | None) -> bool:
    """Remove credentials that others replace; return whether the context's own JWT stays.

    Otherwise a secret could go to a server that it is not meant for, only because another source
    contains it. Credentials in an address stay there: any remaining option takes precedence.
    """
    ranks = {option: found[option].rank for option in _LOGINS if option in found}
    first = min(ranks.values(), default=LAST)
    if _ADDRESS in found and "@" in found[_ADDRESS].text:
        first = min(first, found[_ADDRESS].rank + IN_ADDRESS)
    jwt = LAST
    if context is not None and context.user_jwt:
        jwt = found[_CONTEXT].rank + IN_CONTEXT
    first = min(first, jwt)
    for option, rank in ranks.items():
        if rank > first:
            del found[option]
    if first < LAST and not _is_of_the_user(found.get(_PASSWORD), found.get(_USER)):
        found.pop(_PASSWORD, None)
    return jwt == first < LAST


def _check_destination(
    found: Mapping[Option, Found], inside: Mapping[Option, Found], with_jwt: Context | None
) -> None:
    """Make sure that no credentials from another source are sent to an address from `./gozo.env`.

    That file depends on the working directory. A context's credentials are for its own address,
    so they are sent there even if `./gozo.env` names the context; `inside` is what came from the
    context, and `with_jwt` is the context if its JWT is used.

    Raises:
        SettingsError: they would be; the message names both sources.
    """
    address = found.get(_ADDRESS)
    if address is None or not address.is_local:
        return
    is_contexts = address is inside.get(_ADDRESS)
    origins = [
        one.origin
        for option, one in found.items()
        if option in _CREDENTIALS
        and not (is_contexts if one is inside.get(option) else one.is_local)
    ]
    if with_jwt is not None and not is_contexts:
        origins.append(f"user_jwt in the context {with_jwt.name!r}")
    if origins:
        where = address.origin
        if is_contexts:
            where = f"{where}, which {found[_CONTEXT].origin} names"
        raise SettingsError(
            f"the credentials from {' and '.join(origins)} are not sent to the address from "
            f"{where}: a file in the working directory must not decide where they go; give the "
            "address on the command line or in the environment, or the credentials in ./gozo.env "
            "as well"
        )


def _keep_tls(found: dict[Option, Found], context: Context | None) -> None:
    """Drop `--no-secure` if certificates from a higher-ranking source require TLS."""
    secure = found.get(_SECURE)
    if secure is None or _SECURE.parse(secure.text, secure.origin):
        return
    ranks = [found[option].rank for option in (_CA, _CERT) if option in found]
    if context is not None and context.tls_first:
        ranks.append(found[_CONTEXT].rank + IN_CONTEXT)
    if min(ranks, default=LAST) < secure.rank:
        del found[_SECURE]


def _is_of_the_user(password: Found | None, user: Found | None) -> bool:
    """Return whether a password is for this user: a context's is for the context's user."""
    if password is None or user is None:
        return False
    return password.rank <= user.rank or password.rank % STEP == user.rank % STEP == 0


def _check_pair(found: Mapping[Option, Found]) -> None:
    for given, missing in ((_CERT, _KEY), (_KEY, _CERT)):
        if given in found and missing not in found:
            raise SettingsError(
                f"{found[given].origin} is given without --{missing.name} ({missing.variable}): "
                "give both or neither"
            )
