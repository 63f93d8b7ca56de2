"""A client with the rights that the manual gives it, and bad intentions.

It is to hear no answers but its own, and to have gozo publish nothing to where answers come, nor
where `--allow` and `--allow-answers` do not let it. A spy, which may do anything, tells it what
it cannot know, and sees what came of its attempts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from nats.aio.msg import Msg

from tests.support.client import Arrivals, Client
from tests.support.daemon import Daemon
from tests.support.documented import documented, login, violations
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.rights import LOGIN, withholding
from tests.support.server import NatsServer

SPY = "{ user: spy, password: change_me }"
OWN = "_GOZO_INBOX"


@dataclass
class Scene:
    """A server with the documented users, a daemon, the client, and the spy."""

    server: NatsServer
    daemon: Daemon
    client: Client
    spy: Client
    seen: list[Msg]
    """Whatever was published, as the spy sees it."""

    def inboxes(self) -> dict[str, str]:
        """Return the latest reply subjects of the daemon's own, by what was asked there."""
        return {one.subject: one.reply for one in self.seen if OWN in one.reply}

    def pulled(self) -> set[str]:
        """Return where the follower's consumers sent what they read; one, if none was ended."""
        return {
            reply
            for asked, reply in self.inboxes().items()
            if ".CONSUMER.MSG.NEXT.KV_gozo." in asked
        }


@pytest.fixture
async def scene(servers: Servers, daemons: Daemons, clients: Clients) -> Scene:
    """Start all."""
    server = servers.start(documented().replace("users = [", f"users = [ {SPY}"))
    spy = await clients.connect(server, user="spy", password="change_me")  # noqa: S106
    seen: list[Msg] = []

    async def note(message: Msg) -> None:
        seen.append(message)

    # Not all from the beginning: who listens where a daemon asks for the leader, and says nothing,
    # passes for one that is frozen, until a lease would be free.
    early = [await spy.nats.subscribe(one, cb=note) for one in ("$JS.>", "$KV.>")]
    await spy.confirm()
    # The daemon may publish anything: it is its own rules that are tried.
    rights = ("--user", "spy", "--password", "change_me")
    daemon = await daemons.serve(server, *rights, "--allow", "jobs.>")
    await spy.nats.subscribe(">", cb=note)
    for one in early:
        await one.unsubscribe()
    await spy.confirm()
    client = await clients.connect(
        server,
        user="client",
        password="change_me",  # noqa: S106
        inbox_prefix="_INBOX.client",
    )
    return Scene(server, daemon, client, spy, seen)


async def test_a_client_hears_no_answers_to_others(scene: Scene, servers: Servers) -> None:
    """Whatever it subscribes to, the server refuses it, or it hears nothing of the daemon's."""
    heard: list[Msg] = []

    async def note(message: Msg) -> None:
        heard.append(message)

    wanted = [
        *(">", "*.>", "_INBOX.>", "_INBOX.*.>", "_INBOX.administrator.>", f"{OWN}.>"),
        *(f"{OWN}.*.*", f"{OWN}.peers.>", f"*.{OWN}.>", "$KV.>", "$JS.>", "gozo.>"),
        next(iter(scene.inboxes().values())),
    ]
    for subject in wanted:
        await scene.client.nats.subscribe(subject, cb=note)

    def refused() -> bool:
        return {("client", one) for one in wanted} <= set(violations(scene.server))

    await until(refused, "all are refused")
    before = len(scene.inboxes())
    await scene.client.schedule("+9999", reply="jobs.x", id="x")
    await until(lambda: "$KV.gozo.x" in scene.inboxes(), f"it is stored, besides {before}")
    assert heard == []


async def test_nothing_is_sent_to_a_daemons_inboxes(scene: Scene) -> None:
    """Not even where their names are known; nor are acknowledgements taken from elsewhere.

    The follower's consumer, the lease and the writer's inbox, as target, as receipt, as reply
    subject of a question, and as what an entry is for.
    """
    client, spy, daemon = scene.client, scene.spy, scene.daemon
    await client.schedule("+9999", reply="jobs.x", id="x")
    await until(lambda: "$KV.gozo.x" in scene.inboxes(), "a write was seen")
    known = scene.inboxes()
    [pulled] = scene.pulled()
    lease, written = known["$KV.gozo_lease.leader"], known["$KV.gozo.x"]
    next_ones = [f"{one.rpartition('.')[0]}.{n:x}" for one in (lease, written) for n in range(32)]
    mark = len(scene.seen)
    forged = b'{"stream":"KV_gozo_lease","seq":1}'
    receipts = Arrivals("_INBOX.client.receipts")
    await client.nats.subscribe(receipts.subject, cb=receipts.take)
    targets = [pulled, lease, written, *next_ones, f"_INBOX.{pulled}", f"{OWN}.peers.a.b"]
    for number, subject in enumerate(targets):
        headers = {"Gozo-When": "+0", "Gozo-Receipt": "_INBOX.client.receipts"}
        await client.send(headers, reply=subject, payload=forged)
        await client.send({"Gozo-When": "+0", "Gozo-Receipt": subject}, reply="jobs.x")
        await client.send({"Gozo-When": "never", "Gozo-Receipt": subject}, reply="jobs.x")
        await client.send({"Gozo-When": "x", "Gozo-Del-Id": "y", "Gozo-Receipt": subject})
        if not subject.startswith(f"{OWN}.peers."):
            await client.nats.publish("gozo.admin.leader", b"", subject)
        if number < 3:
            headers = {"Gozo-When": "+0", "Gozo-Subject": subject}
            await spy.nats.request(f"$KV.gozo.entry{number}", forged, headers=headers)
    await receipts.wait(len(targets))
    told = [json.loads(one) for one in receipts.payloads]
    assert {one.get("error") for one in told} == {"forbidden_subject"}
    for number in range(3):
        await daemon.event("entry.invalid", key=f"entry{number}")
    await client.schedule("+0", reply="jobs.last")
    await until(lambda: any(one.subject == "jobs.last" for one in scene.seen), "it goes on")
    into = {one.subject: one.data for one in scene.seen[mark:] if OWN in one.subject}
    assert forged not in into.values()
    # What the daemon itself asks others, now and then, is answered below `peers` as well.
    assert not into.keys() & {*next_ones, targets[-1]}
    assert not [data for data in into.values() if b"forbidden" in data or b'"room"' in data]
    assert scene.pulled() == {pulled}
    assert daemon.events("lease.lost") == []


VERBS = {
    "cancel": b'{"ids": ["nothing"]}',
    "reschedule": b'{"id": "nothing", "when": "+5"}',
    "pause": b'{"ids": ["nothing"]}',
    "resume": b'{"ids": ["nothing"]}',
    "trigger": b"not JSON",
    "outcome": b'{"ids": ["nothing"]}',
}
QUESTIONS = {
    "gozo.admin.leader": b"",
    **{f"gozo.admin.{verb}": body for verb, body in VERBS.items()},
    "$SRV.PING": b"",
    "$SRV.INFO.gozo": b"",
    "$SRV.STATS.gozo": b"",
}
REQUESTS = {
    "stored": {"Gozo-When": "+9999", "Gozo-Id": "kept"},
    "stored without an id": {"Gozo-When": "+9999"},
    "refused": {"Gozo-When": "never"},
    "refused for its headers": {"Gozo-When": "+1", "Gozo-Whim": "x"},
    "cancelled": {"Gozo-Del-Id": "kept"},
}


async def test_answers_go_where_they_may(scene: Scene) -> None:
    """Each kind of answer goes to an inbox, with `--allow`, and nowhere else.

    An answer that goes to the inbox was asked for later, and comes on the same connection.
    """
    spy, seen = scene.spy, scene.seen
    places = {"orders.created": "_INBOX.client.good", "gozo.event.x": "_INBOX.client.good"}
    asked = 0

    def answered() -> int:
        return sum(one.subject == "_INBOX.client.good" for one in seen)

    def is_answered() -> bool:
        return answered() >= asked

    for bad, good in places.items():
        for subject, body in QUESTIONS.items():
            await spy.nats.publish(subject, body, bad)
            await spy.nats.publish(subject, body, good)
            asked += 1
            await until(is_answered, f"{subject} is answered")
        for what, headers in REQUESTS.items():
            for place in (bad, good):
                request = headers | {"Gozo-Receipt": place}
                await scene.client.send(request, reply="" if "Gozo-Del-Id" in request else "jobs.x")
            asked += 1
            await until(is_answered, f"what is {what} has a receipt")
    assert answered() == asked
    assert [one.subject for one in seen if one.subject in places] == []


async def test_a_standby_is_answered_whatever_the_rules_are(scene: Scene, daemons: Daemons) -> None:
    """Daemons hear each other where clients are not answered: who takes over does so at once."""
    rules = ("--deny", "_INBOX.>", "--allow-answers", "nowhere", "--allow", "jobs.>")
    first = await daemons.serve(scene.server, *login("daemon"), *rules)
    assert await scene.daemon.terminate() == 0
    await first.event("daemon.leading")
    question = [one for one in scene.seen if one.subject == "$SRV.INFO.gozo"][-1]
    second = await daemons.serve(scene.server, *login("daemon"), *rules)
    await until(
        lambda: any(one.subject.startswith(f"{OWN}.peers.") for one in scene.seen),
        f"an answer such as to {question.reply} was heard",
    )
    assert await first.terminate() == 0
    await second.event("daemon.leading")


async def test_rights_from_before_there_were_inboxes_of_its_own(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """A user that may use `_INBOX.>` is served there, with a warning, and as safe from gozo."""
    for kind in ("subscribe", "publish"):
        server = servers.start(withholding(kind, f"{OWN}.>"))
        daemon = await daemons.serve(server, *LOGIN)
        warned = await daemon.event("connection.shared_inbox")
        assert f"{kind} to {OWN}.>: grant that permission" in warned.fields["reason"]
        assert daemon.events("permission.denied") == []
        client = await clients.connect(server, user="admin", password="p")  # noqa: S106
        arrivals = await client.arrivals()
        await client.schedule("+0", reply=arrivals, id="tea")
        await arrivals.wait()
        receipts = await client.arrivals()
        headers = {"Gozo-When": "+0", "Gozo-Receipt": receipts.subject}
        await client.send(headers, reply=f"_INBOX.{OWN}.a.b")
        [told] = await receipts.wait()
        assert json.loads(told.data)["error"] == "forbidden_subject"
        standby = await daemons.serve(server, *LOGIN)
        await daemon.kill()
        await standby.event("daemon.leading")
        assert await standby.terminate() == 0
