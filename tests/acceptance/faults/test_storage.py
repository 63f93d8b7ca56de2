"""The storage is full, by a limit or because the disk is, and later there is room again."""

from __future__ import annotations

from tests.acceptance.faults.conftest import Note
from tests.support.load import Load
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.storage import Limit, fill_disk, small_disk


async def all_delivered(load: Load) -> None:
    """Wait until what is acknowledged by now has arrived."""
    known = len(load.due)
    await until(lambda: load.account().delivered >= known, "all go out")


async def test_limit(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """What was stored goes out once and is settled, though no delete marker finds room."""
    server = Limit.start("server", servers)
    sender, receiver = await clients.connect(server), await clients.connect(server)
    filler = await clients.connect(server)
    daemon = await daemons.serve(server)
    async with Load(sender, receiver) as load:
        for _ in range(rounds):
            await load.delivered(50)
            async with Limit("server", filler):
                await daemon.event("store.full")
                await daemon.terminate()
                daemon = await daemons.serve(server)
                await all_delivered(load)
            # The next round has a daemon that has not told of a full storage just now.
            assert await daemon.terminate() == 0
            daemon = await daemons.serve(server)
        account = await load.finish()
    note(account)
    assert account.twice == 0
    assert await daemon.terminate() == 0


async def test_disk(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """What was stored goes out from memory, and is settled once the server can write again."""
    with small_disk() as disk:
        server = servers.start(store=disk)
        sender, receiver = await clients.connect(server), await clients.connect(server)
        daemon = await daemons.serve(server)
        async with Load(sender, receiver) as load:
            for _ in range(rounds):
                await load.delivered(50)
                filled = fill_disk(disk)
                await all_delivered(load)
                filled.unlink()
                mark = daemon.mark()
                server.restart()  # it does not write again by itself
                await daemon.event("daemon.leading", since=mark)
            account = await load.finish()
        note(account)
        assert await daemon.terminate() == 0
