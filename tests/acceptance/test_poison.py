"""What cannot be read is reported once, counted, listed and kept; all else goes on."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.support.gozoctl import Gozoctl
from tests.support.processes import Clients, Daemons, Servers
from tests.support.raw import RawClient, header_block, request
from tests.support.service import figures

GOOD = header_block(Gozo_When="9999999999", Gozo_Subject="to")

BLOCKS = {
    "no-end": b"NATS/1.0",
    "nothing": b"",
    "garbage": b"garbage",
    "line-ends": b"\r\n\r\n",
    "zeros": bytes(10),
    "cut": b"NATS/1.0\r\nGozo-Subject: to\r\nGozo-When: 9999999999",
    "no-last-line": b"NATS/1.0\r\nGozo-Subject: to\r\nGozo-When: 9999999999\r\n",
    "bare-line-feeds": b"NATS/1.0\nGozo-Subject: to\nGozo-When: 9999999999\n\n",
    "subject-not-utf-8": b"NATS/1.0\r\nGozo-Subject: \xff\r\nGozo-When: 9999999999\r\n\r\n",
    "no-subject": header_block(Gozo_When="9999999999"),
    "due-in-words": header_block(Gozo_Due="soon", Gozo_Subject="to"),
    "due-beyond-9999": header_block(Gozo_Due="9" * 12, Gozo_Subject="to"),
    "when-is-nan": header_block(Gozo_When="NaN", Gozo_Subject="to"),
    "state-unknown": header_block(Gozo_When="1", Gozo_Subject="to", Gozo_State="asleep"),
    "headers-not-packed": header_block(Gozo_When="1", Gozo_Subject="to", Gozo_Headers="x"),
}
"""Header blocks that break a parser, or do not make a schedule, each under the key it has here."""

KEYS = {
    b"vertical\x0btab": "vertical\x0btab",
    b"form\x0cfeed": "form\x0cfeed",
    b"zero\0byte": "zero\0byte",
    "\u00e4".encode(): "\u00e4",
    b"\xff\xfe": "b'\\xff\\xfe' (not UTF-8)",
    b"\\xff\\xfe": "\\xff\\xfe",
    b"=_\xff": "b'=_\\xff' (not UTF-8)",
    b"*": "*",
    b"=_a.>": "=_a.>",
}
"""Keys that no id has, with a good header block; and how each is shown."""

POISON = {
    **{name: request(b"$KV.gozo." + name.encode(), headers=b) for name, b in BLOCKS.items()},
    **{shown: request(b"$KV.gozo." + key, headers=GOOD) for key, shown in KEYS.items()},
    "foreign": request(b"$KV.gozo.foreign", payload=b"no schedule"),
}
"""What is sent for each entry, by the key that is shown for it."""

REQUESTS = {
    "invalid_request": [BLOCKS["no-end"], BLOCKS["nothing"], BLOCKS["zeros"]],
    "invalid_when": [header_block(Gozo_When="NaN"), header_block(Gozo_When="soon")],
    "invalid_id": [b"NATS/1.0\r\nGozo-When: +1\r\nGozo-Id: \xff\r\n\r\n"],
    "invalid_header": [b"NATS/1.0\r\nGozo-When: +1\r\nno colon\r\n\r\n"],
}
"""Header blocks of requests that are refused, by the code of the refusal."""


def send(url: str, data: bytes) -> None:
    """Send bytes on a connection of their own: the server complains of some."""
    with RawClient(url) as raw:
        raw.send(data)
        with contextlib.suppress(ConnectionError):
            # Of a wildcard it says so, and stores the message all the same.
            raw.confirm()


async def test_entries(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """Each poisoned entry costs one line of log, while a schedule after each is delivered."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    for number, data in enumerate(POISON.values(), 1):
        send(server.url, data)
        # Five reports a second are written of what strangers can cause.
        await client.schedule("+0.25", reply=arrivals, id=f"good-{number}", payload=b"good")
        await arrivals.wait(number)
    # After a lost connection everything is read anew.
    mark = daemon.mark()
    server.restart()
    await daemon.event("daemon.leading", since=mark)
    await client.schedule("+0.25", reply=arrivals, id="last", payload=b"last")
    await arrivals.wait(len(POISON) + 1)
    reported = [event.fields["key"] for event in daemon.events("entry.invalid")]
    assert sorted(reported) == sorted(POISON)
    assert (await figures(client))["invalid"] == len(POISON)
    ctl = Gozoctl(tmp_path, server.url)
    listed = ctl.ok("list", "--state", "invalid", "-o", "json").json
    assert sorted(one["key"] for one in listed) == sorted(POISON)
    assert all(one["reason"] for one in listed)
    assert len(ctl.ok("list", "--state", "invalid", "--no-header").rows) == len(POISON)
    assert ctl.ok("status", "-o", "json").json["invalid"] == len(POISON)


async def test_a_size_that_is_made_up(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What a client says of the payload's size is not believed."""
    server = servers.start()
    await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    for number, size in enumerate(("abc", "9" * 9, "-1")):
        block = header_block(Gozo_When="+0.1", Gozo_Subject=arrivals.subject, Nats_Msg_Size=size)
        send(server.url, request(b"$KV.gozo.s%d" % number, headers=block, payload=b"here"))
    await arrivals.wait(3)
    assert arrivals.payloads == [b"here"] * 3


async def test_requests(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Each poisoned request is refused and counted by its code, and good ones go on."""
    server = servers.start()
    await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    for number, block in enumerate((b for blocks in REQUESTS.values() for b in blocks), 1):
        send(server.url, request(b"gozo", reply=b"to", headers=block))
        await client.schedule("+0", reply=arrivals)
        await arrivals.wait(number)
    expected = {code: len(blocks) for code, blocks in REQUESTS.items()}
    assert (await figures(client))["refused"] == expected
