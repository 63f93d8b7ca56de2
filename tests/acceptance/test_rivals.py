"""Two leaders on one request subject: a hub and a leaf node, with a bucket each."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.daemon import Daemon
from tests.support.gozoctl import Gozoctl
from tests.support.metrics import get, scrape, serve
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.proxy import Mode, Proxy
from tests.support.server import HOST, NatsServer, free_port

ENDS = ("hub", "leaf")
COUNT = 20


@dataclass(frozen=True, slots=True)
class Pair:
    """A hub and a leaf node, each with a JetStream domain of its own, and what lies between."""

    hub: NatsServer
    leaf: NatsServer
    link: Proxy

    def server(self, name: str) -> NatsServer:
        """Return the one called so."""
        return self.hub if name == "hub" else self.leaf

    async def join(self) -> None:
        """Let them reach each other."""
        self.link.be(Mode.PASS)
        known = self.hub.log.count('remote "leaf"')
        self.link.cut()
        await until(lambda: self.hub.log.count('remote "leaf"') > known, "they meet", allow(10))

    def part(self) -> None:
        """Let nothing through any more."""
        self.link.be(Mode.HOLD)
        self.link.cut()


@pytest.fixture
async def pair(servers: Servers) -> AsyncIterator[Pair]:
    """Start both, apart from each other."""
    port = free_port()
    listening = f'leafnodes {{ listen: "{HOST}:{port}", no_advertise: true }}'
    hub = servers.start(listening, storage="domain: hub")
    async with Proxy(port) as link:
        link.be(Mode.HOLD)
        remote = f'leafnodes {{ remotes: [ {{ url: "nats-leaf://{HOST}:{link.port}" }} ] }}'
        yield Pair(hub, servers.start(remote, storage="domain: leaf"), link)


async def ctl(home: Path, server: NatsServer, *arguments: str) -> tuple[int, str, str]:
    """Run `gozoctl`, while the link between the two servers goes on."""
    done = await asyncio.to_thread(Gozoctl(home, server.url).run, *arguments)
    return done.code, done.out, done.err


def names_both(text: str) -> None:
    """Make sure that a text says that there are two, and what to do."""
    assert "hub (bucket gozo in the domain hub" in text
    assert "leaf (bucket gozo in the domain leaf" in text
    assert "--request-subject" in text


async def both_complain(daemons: dict[str, Daemon], marks: dict[str, int]) -> None:
    """Wait until each says that there is the other, and names both."""
    for name, daemon in daemons.items():
        event = await daemon.event("rival.leads", since=marks[name], timeout=allow(20))
        assert event.level == "error"
        names_both(event.fields["reason"])


async def test_the_second_does_not_start(pair: Pair, daemons: Daemons, clients: Clients) -> None:
    """Whichever it is, it says who has the request subject; once that one is gone, it starts."""
    await pair.join()
    for first, second in (ENDS, ENDS[::-1]):
        leader = await daemons.serve(pair.server(first), "--name", first)
        client = await clients.connect(pair.server(second))
        await until(partial(_count_leaders, client, 1), "it is heard there")
        refused = daemons.start(
            "serve", "--address", pair.server(second).url, "--name", second, "--log-level", "error"
        )
        check = daemons.start("check", "--address", pair.server(second).url)
        assert await refused.wait() == 1
        said = refused.stderr.splitlines()[-1]
        assert f"{first} (bucket gozo in the domain {first}" in said
        assert f"the domain {second}" in said
        assert "--request-subject" in said
        assert await check.wait() == 1
        assert f"{first} (bucket gozo in the domain {first}" in check.stderr
        apart = await daemons.serve(
            pair.server(second), "--name", second, "--request-subject", f"gozo.{second}"
        )
        assert (await apart.ready()).fields["role"] == "leader"
        assert await apart.terminate() == 0
        assert not leader.events("rival.leads")
        assert await leader.terminate() == 0


async def test_a_link_that_comes_later(
    pair: Pair, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """Both say so, are not ready and go on; so do check, status and verbs; it passes by itself."""
    both: dict[str, Daemon] = {}
    ports: dict[str, int] = {}
    for name in ENDS:
        both[name], ports[name] = await serve(daemons, pair.server(name), "--name", name)
    client = await clients.connect(pair.hub)
    await client.schedule("+9999", reply="nobody", id="at the hub")
    await until(lambda: _has(client, 2), "it is stored")  # besides the barrier
    marks = {name: daemon.mark() for name, daemon in both.items()}
    await pair.join()
    arrivals = await client.arrivals()
    await until(lambda: _count_leaders(client, 2), "both are heard")
    await client.schedule("+9999", reply=arrivals, id="at both")
    await both_complain(both, marks)

    for name in ENDS:
        ready = await get(ports[name], "/readyz")
        assert ready.status == 503
        assert "--request-subject" in ready.body
        figures = await scrape(ports[name])
        assert (figures["gozo_rivals"], figures["gozo_ready"]) == (1, 0)
        assert figures["gozo_leader"] == 1
    await client.schedule("+0", reply=arrivals)
    assert len(await arrivals.wait(2)) == 2  # they go on, each of them

    check = daemons.start("check", "--address", pair.leaf.url)
    for name, options in (("hub", ()), ("leaf", ()), ("hub", ("--watch", "--count", "1"))):
        code, _, errors = await ctl(tmp_path, pair.server(name), "status", *options)
        assert code == 1
        names_both(errors)
    _, out, _ = await ctl(tmp_path, pair.leaf, "status", "-o", "json")
    assert {one["domain"] for one in json.loads(out)["rivals"]} == {*ENDS}
    assert await check.wait() == 1
    names_both(check.stderr)

    code, out, _ = await ctl(tmp_path, pair.leaf, "cancel", "at both", "--no-header")
    assert (code, out) == (0, "at both\tcancelled\n")
    for verb, done in (("pause", "paused"), ("resume", "resumed"), ("cancel", "cancelled")):
        code, out, errors = await ctl(
            tmp_path, pair.server(ENDS[verb == "pause"]), verb, "at the hub"
        )
        assert (code, out) == (1, "")
        assert f"hub, server {pair.hub.name}) answered {done} for" in errors
        assert f"leaf, server {pair.leaf.name}) answered not_found for" in errors

    marks = {name: daemon.mark() for name, daemon in both.items()}
    pair.part()
    for name in ENDS:
        await both[name].event("rival.gone", since=marks[name], timeout=allow(10))
        assert (await get(ports[name], "/readyz")).status == 200
        assert (await ctl(tmp_path, pair.server(name), "status"))[0] == 0


async def test_a_standby_keeps_what_a_rival_has_handled(
    pair: Pair, daemons: Daemons, clients: Clients
) -> None:
    """What its own leader had not got to is delivered for its own side as well."""
    hub, standby = [await daemons.serve(pair.hub, "--name", name) for name in ("hub", "other")]
    leaf = await daemons.serve(pair.leaf, "--name", "leaf")
    client = await clients.connect(pair.hub)
    await pair.join()
    await until(lambda: _count_leaders(client, 2), "both are heard")
    await client.schedule("+9999", reply="nobody")  # what they tell of it makes them look
    await standby.event("rival.ignored", timeout=allow(20))
    await hub.event("rival.leads")
    arrivals = await client.arrivals()
    hub.send(signal.SIGSTOP)
    for number in range(COUNT):
        await client.schedule("+0", reply=arrivals, payload=b"%d" % number)
    await arrivals.wait(COUNT)
    assert await leaf.terminate() == 0  # and has told its standbys, if there were any
    await hub.kill()
    await standby.event("daemon.leading", timeout=allow(20))
    assert len(await arrivals.wait(2 * COUNT)) == 2 * COUNT


async def test_replicas_of_one_bucket_are_no_rivals(daemons: Daemons) -> None:
    """Whatever becomes of the lease, of the buckets, and of whoever leads, in a cluster."""
    with Cluster() as cluster:
        await cluster.ready()
        replicas = [
            daemons.start("serve", "--address", url, "--name", f"n{number}")
            for number, url in enumerate(cluster.urls)
        ]
        for replica in replicas:
            await replica.ready()
        async with await Client.connect(cluster.urls[0]) as client:
            await until(lambda: _count_leaders(client, 1), "one leads")
            for subject in (
                "$JS.API.STREAM.PURGE.KV_gozo_lease",
                "$JS.API.STREAM.DELETE.KV_gozo_lease",
                "$JS.API.STREAM.DELETE.KV_gozo",
                "$JS.API.STREAM.LEADER.STEPDOWN.KV_gozo_lease",
            ):
                await client.nats.request(subject, timeout=allow(5))
                await _work(client)
                await _joins(daemons, cluster.urls[1])
            leader = await _leading(client, replicas)
            leader.send(signal.SIGSTOP)
            others = [replica for replica in replicas if replica is not leader]
            await until(lambda: _leads_among(client, others), "another leads", allow(30))
            leader.send(signal.SIGCONT)
            await leader.event("lease.lost", timeout=allow(10))
            await _work(client)
            await _joins(daemons, cluster.urls[2])
        for replica in replicas:
            assert await replica.terminate() == 0
            assert "rival" not in replica.stderr


async def _leaders(client: Client) -> list[str]:
    """Return the names of all who say that they lead."""
    inbox = client.nats.new_inbox()
    answers = await client.nats.subscribe(inbox)
    await client.nats.publish("gozo.admin.leader", reply=inbox)
    await client.confirm()
    await asyncio.sleep(0.05)
    waiting = [answers._pending_queue.get_nowait() for _ in range(answers.pending_msgs)]
    await answers.unsubscribe()
    return [json.loads(one.data)["name"] for one in waiting if one.data]


async def _count_leaders(client: Client, count: int) -> bool:
    return len(await _leaders(client)) == count


async def _leading(client: Client, replicas: list[Daemon]) -> Daemon:
    """Return the replica that leads, once exactly one does."""
    await until(lambda: _count_leaders(client, 1), "one leads", allow(20))
    (name,) = await _leaders(client)
    return next(replica for replica in replicas if name in replica.arguments)


async def _leads_among(client: Client, replicas: list[Daemon]) -> bool:
    leaders = await _leaders(client)
    return any(name in replica.arguments for name in leaders for replica in replicas)


async def _work(client: Client) -> None:
    """Have a request delivered, asked for as often as it takes: somebody leads and serves."""
    arrivals = await client.arrivals()

    async def arrives() -> bool:
        await client.schedule("+0", reply=arrivals)
        await client.confirm()
        return bool(arrivals.all)

    await until(arrives, "a request is delivered", allow(30))


async def _joins(daemons: Daemons, url: str) -> None:
    """Start one more replica: nothing there keeps it from it."""
    more = daemons.start("serve", "--address", url, "--name", "more")
    await more.event("daemon.ready", timeout=allow(20))
    assert await more.terminate() == 0
    assert "rival" not in more.stderr


async def _has(client: Client, count: int) -> bool:
    return await client.stored() == count
