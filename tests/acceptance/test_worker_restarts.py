"""Commands of workers, while gozo and its server die: each starts once, and its end is known."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gozo.client import Client
from tests.support.hosts import Hosts, apply, settled, starts_of, table
from tests.support.patience import allow, until
from tests.support.processes import Daemons, Servers

JOBS = 5


@pytest.mark.parametrize("dies", ["leader", "server"])
async def test_nothing_starts_twice(
    servers: Servers, daemons: Daemons, tmp_path: Path, dies: str
) -> None:
    """What ends while nobody hears it is told until somebody does."""
    server = servers.start()
    leader = await daemons.serve(server)
    standby = await daemons.serve(server)
    hosts = Hosts(server, daemons, tmp_path)
    ids = [f"j{number}" for number in range(JOBS)]
    text = ""
    for id_ in ids:
        os.mkfifo(tmp_path / f"go-{id_}")
        script = f"echo {id_} >> '{tmp_path}/j'; read -r code < '{tmp_path}/go-{id_}'; exit $code"
        text += table(id_, script, attempts=2, ack_wait="30s", backoff="0")
    workers = [await hosts.start(text, f"web{number}") for number in range(2)]
    async with await Client.connect(server.url) as gozo:
        await apply(gozo, text)
        for id_ in ids:
            await gozo.trigger(id_)
        await hosts.written("j", JOBS)
        if dies == "leader":
            await leader.kill()
        else:
            server.kill()
        for number, id_ in enumerate(ids):
            (tmp_path / f"go-{id_}").write_text(f"{int(number == 0)}\n")
        await until(
            lambda: sum(len(worker.events("job.ended")) for worker in workers) == JOBS,
            "all have ended",
        )
        if dies == "leader":
            await standby.event("daemon.leading")
        else:
            server.start()
        # The first one failed, so it is tried again, once; its second attempt succeeds.
        await hosts.written("j", JOBS + 1)
        (tmp_path / "go-j0").write_text("0\n")
        for id_ in ids:
            async with asyncio.timeout(allow(15)):
                assert await settled(gozo, id_) == ""
    assert sorted(hosts.lines("j")) == sorted(["j0", *ids])
    started = [(one["id"], one["attempt"]) for one in starts_of(*workers)]
    assert sorted(started) == sorted([("j0", "2"), *((id_, "1") for id_ in ids)])
