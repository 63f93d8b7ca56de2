"""Finds inboxes that a daemon may use, before anything else is requested from the server."""

from __future__ import annotations

import asyncio

from gozo.errors import DisconnectedError, NoServerError, NotAllowedError
from gozo.protocol.inboxes import OWN, SHARED
from gozo.transport.connection import Connection
from gozo.transport.permissions import missing_permission

ANSWER_TIME = 2.0  # seconds


async def settle_inboxes(connection: Connection) -> str:
    """Make sure that a connection receives replies; return a warning if clients may as well.

    Replies arrive below `_INBOX` if no prefix was chosen and the user has no permission for
    `_GOZO_INBOX`, like users set up before gozo had its own inboxes.

    Raises:
        NotAllowedError: neither is permitted.
        NoServerError: the server did not answer, or the link was lost.
    """
    own = connection.inbox_prefix
    lacking = await _lacking(connection)
    if lacking is None:
        return ""
    if own != OWN:
        raise lacking
    connection.use_inboxes(f"{SHARED}.{OWN}")
    if await _lacking(connection) is not None:
        raise lacking
    return f"{lacking}; until then answers arrive below {SHARED}, where clients may receive them"


async def _lacking(connection: Connection) -> NotAllowedError | None:
    """Try to receive an echo; return the missing permission, or None if it arrived."""
    heard: asyncio.Future[NotAllowedError | None] = asyncio.get_running_loop().create_future()
    prefix = f"{connection.inbox_prefix}."

    def claim(kind: str, subject: str) -> bool:
        if subject.startswith(prefix) and not heard.done():
            heard.set_result(missing_permission(kind, f"{prefix}>"))
        return OWN in subject

    def on_echo(headers: bytes | None, payload: bytes | None) -> None:
        if heard.done():
            return
        if payload is None:
            heard.set_exception(DisconnectedError("the connection to NATS was lost"))
        else:
            heard.set_result(None)

    for subject in connection.refused:
        claim("subscription", subject)
    connection.denial_claims.append(claim)
    token = connection.call_echo(on_echo)
    try:
        async with asyncio.timeout(ANSWER_TIME):
            return await heard
    except TimeoutError as error:
        raise NoServerError(f"no answer to an echo within {ANSWER_TIME:g} s") from error
    finally:
        connection.hang_up(token)
        connection.denial_claims.remove(claim)
