"""Bad requests are refused with a reason, and never stop or disconnect the daemon."""

from __future__ import annotations

import pytest

from tests.support.client import Client
from tests.support.daemon import Daemon
from tests.support.events import Event
from tests.support.patience import allow
from tests.support.raw import RawClient, header_block, request
from tests.support.running import Running

TO = b"refused.reply"


def asking(reply: bytes = TO, payload: bytes = b"", **headers: str) -> bytes:
    """Return a request with these headers."""
    return request(b"gozo", reply=reply, headers=header_block(**headers), payload=payload)


def with_block(block: bytes) -> bytes:
    """Return a request with this header block."""
    return request(b"gozo", reply=TO, headers=block)


BAD_REQUESTS = {
    "no reply subject": ("no_reply_subject", asking(b"", Gozo_When="+0")),
    "no headers": ("invalid_request", request(b"gozo", reply=TO)),
    "empty header block": ("invalid_request", with_block(b"NATS/1.0\r\n\r\n")),
    "header block without an end": ("invalid_request", with_block(b"NATS/1.0")),
    "other headers only": ("invalid_request", asking(X_When="+0")),
    "both When and Del-Id": ("invalid_request", asking(Gozo_When="+0", Gozo_Del_Id="a")),
    "When twice": (
        "invalid_request",
        with_block(b"NATS/1.0\r\nGozo-When: +0\r\ngozo-when: +9\r\n\r\n"),
    ),
    "When is not UTF-8": ("invalid_when", with_block(b"NATS/1.0\r\nGozo-When: +\xff\r\n\r\n")),
    "payload one byte too large": (
        "too_large",
        asking(payload=bytes(1024 * 1024 - 4096 + 1), Gozo_When="+0"),
    ),
    "id of 1,025 bytes": ("invalid_id", asking(Gozo_When="+0", Gozo_Id="x" * 1025)),
    "empty id": ("invalid_id", asking(Gozo_When="+0", Gozo_Id="")),
    "cancel of no id": ("invalid_id", asking(Gozo_Del_Id="")),
    "id is not UTF-8": (
        "invalid_id",
        with_block(b"NATS/1.0\r\nGozo-When: +0\r\nGozo-Id: \xff\r\n\r\n"),
    ),
}

BAD_TIMES = [
    "", "abc", "NaN", "inf", "+inf", "1e9", "+1e1", "-5", "+-5", "++5", "+", ".", "1.", "+.5",
    "1,5", "1_000", "0x10", "+1 0", "٣", "253402300800", "+253402300799", "9" * 400,
]  # fmt: skip

BAD_SUBJECTS = [
    b"$JS.API.STREAM.DELETE.KV_gozo",
    b"$KV.gozo.forged",
    b"$SYS.REQ.SERVER.PING",
    b"gozo",
    b"*",
    b">",
    b"a.*",
    b"a.>",
    b"*.a",
    b"a..b",
    b".a",
    b"a.",
    b".",
    b"a\x0bb",
    b"a\x0cb",
    b"a\x00b",
    b"a\x7fb",
    "a\u00a0b".encode(),
    b"a\xffb",
    b"a" * 3501,
]


async def refused(daemon: Daemon, server_url: str, bad: bytes, code: str) -> Event:
    """Send a bad request until its refusal is logged: refusals are logged at a limited rate."""
    since = daemon.mark()
    with RawClient(server_url) as raw:
        for _ in range(round(allow(5))):
            raw.send(bad)
            raw.confirm()
            try:
                return await daemon.event("request.refused", since=since, timeout=1, code=code)
            except AssertionError:
                if not daemon.alive:
                    raise
    raise AssertionError(f"never refused with {code}; the daemon said:\n{daemon.stderr}")


async def check(running: Running, client: Client, bad: bytes, code: str) -> None:
    """Hold that a request is refused, nothing is sent for it, and the daemon goes on."""
    daemon = running.daemon
    arrivals = await client.arrivals(TO.decode())
    since = daemon.mark()
    event = await refused(daemon, running.server.url, bad, code)
    assert event.fields["reason"]
    await client.schedule("+0.1", reply=arrivals, payload=b"still served")
    await arrivals.wait()
    assert arrivals.payloads == [b"still served"]
    assert daemon.alive
    assert daemon.events("connection.lost", since=since) == []


@pytest.mark.parametrize("name", BAD_REQUESTS)
async def test_bad_request(running: Running, client: Client, name: str) -> None:
    """Requests that lack something, or have too much of it."""
    code, bad = BAD_REQUESTS[name]
    await check(running, client, bad, code)


@pytest.mark.parametrize("when", BAD_TIMES)
async def test_bad_time(running: Running, client: Client, when: str) -> None:
    """What is no time is refused, not guessed at."""
    await check(running, client, asking(Gozo_When=when), "invalid_when")


@pytest.mark.parametrize("subject", BAD_SUBJECTS)
async def test_forbidden_subject(running: Running, client: Client, subject: bytes) -> None:
    """Gozo does not lend its rights: no system subjects, no wildcards, nothing malformed."""
    bad = asking(subject, Gozo_When="+0")
    await check(running, client, bad, "forbidden_subject")
    assert await client.stored() >= 0  # the bucket is still there


async def test_a_bad_request_changes_nothing(running: Running, client: Client, new_id: str) -> None:
    """A refused request with the id of a schedule leaves that schedule as it was."""
    arrivals = await client.arrivals()
    await client.schedule("+1", reply=arrivals, id=new_id, payload=b"kept")
    bad = asking(Gozo_When="never", Gozo_Id=new_id)
    await refused(running.daemon, running.server.url, bad, "invalid_when")
    (arrival,) = await arrivals.wait()
    assert arrival.data == b"kept"


async def test_a_flood_of_bad_requests(running: Running, client: Client) -> None:
    """Thousands of them cost a few lines of log, and no good request between them is lost."""
    arrivals = await client.arrivals()
    since = running.daemon.mark()
    for number in range(5000):
        await client.send({"Gozo-When": "never"}, reply=arrivals.subject)
        if number % 100 == 0:
            await client.schedule("+0", reply=arrivals, payload=b"%d" % number)
    await arrivals.wait(50)
    assert arrivals.payloads == [b"%d" % number for number in range(0, 5000, 100)]
    assert len(running.daemon.events("request.refused", since=since)) < 500
