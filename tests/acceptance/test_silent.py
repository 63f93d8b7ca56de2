"""Messages that nobody acknowledges do not keep others from being confirmed."""

from __future__ import annotations

from nats.js.api import StreamConfig

from tests.support.client import Client
from tests.support.patience import allow, until
from tests.support.raw import RawClient, header_block, request
from tests.support.running import Running

MANY = 10_000  # far more than may be without an acknowledgement at a time
MORE = 1_500


async def test_what_nobody_acknowledges_has_a_part_of_the_room(
    running: Running, client: Client
) -> None:
    """Those that were tried before wait for each other; they took all the room, for ever."""
    await client.nats.jetstream().add_stream(StreamConfig("GOOD", subjects=["good.>"]))
    good = await client.arrivals("good.x")
    silent = await client.arrivals("silent.x")
    blocks = [
        header_block(Gozo_When="+0", Gozo_Id=f"silent-{number}", Gozo_Confirm="stream")
        for number in range(MANY)
    ]
    with RawClient(running.server.url) as hostile:
        hostile.send(
            b"".join(request(b"gozo", reply=b"silent.x", headers=block) for block in blocks)
        )
        hostile.confirm()

    def are_sent_again() -> bool:
        ids = {arrival.headers["Gozo-Id"] for arrival in silent.all}
        return len(ids) == MANY and len(silent.all) > MANY + 100

    await until(are_sent_again, "all are sent, and some again", allow(20))

    confirmed = {"Gozo-When": "+0", "Gozo-Id": "good", "Gozo-Confirm": "stream"}
    heard = len(silent.all)
    await client.send(confirmed, reply=good.subject)
    await good.wait(timeout=allow(20))

    assert len(silent.all) < heard + MORE
