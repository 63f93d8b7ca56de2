"""The permissions that gozo-cron(7) shows for a host: they suffice, and allow nothing else."""

from __future__ import annotations

from pathlib import Path

from gozo.client import Client
from gozo.settings.model import ConnectionSettings
from gozo.settings.parsers import read_addresses
from tests.support.documented import documented_hosts, login, violations
from tests.support.gozoctl import PROGRAM
from tests.support.hosts import Hosts, apply, settled, table
from tests.support.processes import Daemons, Servers


async def test_a_host_runs_its_own_jobs_only(
    servers: Servers, daemons: Daemons, tmp_path: Path
) -> None:
    """Its worker reports how they ended, and cannot hear the jobs of another host."""
    server = servers.start(documented_hosts())
    await daemons.serve(server, *login("daemon"))
    files = {host: table(f"{host}.root.backup", "true", host=host) for host in ("web1", "web2")}
    worker = await Hosts(server, daemons, tmp_path).start(files["web1"], "web1", *login("web1"))
    address = read_addresses(server.url.replace("://", "://administrator:change_me@"))
    settings = ConnectionSettings(addresses=address, inbox_prefix="_INBOX.administrator")
    async with await Client.connect(settings) as gozo:
        for text in files.values():
            await apply(gozo, text)
        await gozo.trigger("web1.root.backup")
        await worker.event("job.ended", id="web1.root.backup", status="0")
        assert await settled(gozo, "web1.root.backup") == ""
    assert violations(server) == []
    other = daemons.start(
        *("worker", "cron.toml", "--host", "web2", *login("web1")),
        variables={"NATS_ADDRESS": server.url},
        files={"cron.toml": files["web2"]},
        program=PROGRAM,
    )
    assert await other.wait() == 4
    assert violations(server) == [("web1", "cron.web2.root.backup")]
