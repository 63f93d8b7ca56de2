"""The permissions that receivers which confirm need, and a daemon that cannot hear them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gozo.client import Client as Gozo
from gozo.settings.model import ConnectionSettings
from gozo.settings.parsers import read_addresses
from tests.support.documented import documented, documented_accounts, login, violations
from tests.support.gozoctl import PROGRAM
from tests.support.hosts import Hosts, apply, settled, table
from tests.support.jobs import Jobs, call_one, runs
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receipts import ask
from tests.support.rights import LOGIN, admin, grant, withdraw, withholding

ACK = "gozo.ack.*"
PASSWORD = "change_me"  # noqa: S105


async def test_without_the_right_to_hear(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """It leads and delivers, but refuses confirmed schedules until the permission is granted."""
    server = servers.start(withholding("subscribe", ACK))
    check = daemons.start("check", "--address", server.url, *LOGIN)
    assert await check.wait() == 0
    advice = [line for line in check.stdout.splitlines() if ACK in line]
    assert len(advice) == 1
    assert re.match(rf" *advice  subscribe to {re.escape(ACK)}: to receive the answers", advice[0])
    daemon = await daemons.serve(server, *LOGIN)
    denied = await daemon.event("permission.denied")
    assert (denied.fields["kind"], denied.fields["subject"]) == ("subscription", ACK)
    client = await admin(clients, server)
    jobs = await Jobs.listen(client)
    for confirm in ("reply", "claim"):
        headers = {"Gozo-Id": "job", "Gozo-When": "+0", "Gozo-Confirm": confirm}
        refused = await ask(client, headers, reply=jobs.subject)
        assert (refused["status"], refused["error"]) == ("refused", "unavailable")
        assert ACK in refused["message"]
    stored = {"Gozo-When": "@every 1h", "Gozo-Subject": jobs.subject, "Gozo-Confirm": "reply"}
    await client.nats.request("$KV.gozo.other", b"job", headers=stored, timeout=allow(5))

    async def is_known() -> bool:
        return await call_one(client, "outcome", "other") == {"status": "pending", "id": "other"}

    await until(is_known, "the daemon knows what was written to the bucket")
    assert (await call_one(client, "trigger", "other"))["error"] == "unavailable"
    due = stored | {"Gozo-When": "+0"}
    await client.nats.request("$KV.gozo.due", b"due", headers=due, timeout=allow(5))
    postponed = await daemon.event("delivery.postponed", key="due")
    assert ACK in postponed.fields["reason"]
    assert jobs.all == []
    arrivals = await client.arrivals()
    await client.schedule("+0", reply=arrivals, id="plain")
    await arrivals.wait()
    grant(server, ACK)
    await daemon.event("permission.granted")
    assert (await call_one(client, "trigger", "other"))["status"] == "triggered"
    await jobs.wait(2)
    assert [await jobs.answer(job) for job in jobs.all] == [b"+OK", b"+OK"]
    assert {job.data for job in jobs.all} == {b"job", b"due"}


async def test_a_right_that_is_withdrawn(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """While answers cannot be heard, no receiver counts as silent."""
    server = servers.start(withholding("subscribe", f"granted.{ACK}"))
    daemon = await daemons.serve(server, *LOGIN)
    client = await admin(clients, server)
    jobs, arrivals = await Jobs.listen(client), await client.arrivals()
    await jobs.store("job", "+0", Gozo_Ack_Wait="2s", Gozo_Backoff="1h")
    job = await jobs.wait(1)
    withdraw(server, ACK)
    await daemon.event("permission.denied", subject=ACK)
    await client.schedule("+3", reply=arrivals, id="later")
    await arrivals.wait()
    assert [run["Gozo-State"] for run in await runs(client, "job")] == ["running"]
    grant(server, ACK)
    await daemon.event("permission.granted")
    assert await jobs.answer(job) == b"+OK"
    assert len(jobs.all) == 1


async def test_documented_receiver(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """The permissions in the manual suffice for everything that a receiver does."""
    server = servers.start(documented())
    await daemons.serve(server, *login("daemon"))
    client, receiver = [
        await clients.connect(server, user=user, password=PASSWORD, inbox_prefix=f"_INBOX.{user}")
        for user in ("administrator", "receiver")
    ]
    jobs = Jobs(receiver)
    await receiver.nats.subscribe(jobs.subject, cb=jobs.take)
    await receiver.nats.flush()
    headers = {"Gozo-Id": "job", "Gozo-When": "+0", "Gozo-Confirm": "claim"}
    await client.send(headers, reply=jobs.subject)
    job = await jobs.wait(1)
    assert await jobs.answer(job, b"+CLAIM one") == b"+GO"
    assert await jobs.answer(job, b"+WPI") == b"+OK"
    assert await jobs.answer(job) == b"+OK"
    assert violations(server) == []


async def test_documented_worker(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """With the permissions in the manual a worker runs commands and can be found."""
    server = servers.start(documented())
    await daemons.serve(server, *login("daemon"))
    url = server.url.replace("://", f"://administrator:{PASSWORD}@")
    text = table("a", "true").replace("cron.a", "jobs.a")
    hosts = Hosts(server, daemons, tmp_path)
    inbox = ("--inbox-prefix", "_INBOX.worker")
    worker = await hosts.start(text, "web1", *login("worker"), *inbox)
    settings = ConnectionSettings(
        addresses=read_addresses(url), inbox_prefix="_INBOX.administrator"
    )
    async with await Gozo.connect(settings) as gozo:
        await apply(gozo, text)
        await gozo.trigger("a")
        await worker.event("job.ended", id="a", status="0")
        assert await settled(gozo, "a") == ""
    assert violations(server) == []


async def test_a_worker_that_may_not_listen(
    servers: Servers, daemons: Daemons, tmp_path: Path
) -> None:
    """It says so at its start, and ends."""
    server = servers.start(withholding("subscribe", "cron.a"))
    worker = daemons.start(
        *("worker", "cron.toml", *LOGIN),
        variables={"NATS_ADDRESS": server.url},
        files={"cron.toml": table("a", "true") + table("b", "true")},
        program=PROGRAM,
    )
    assert await worker.wait() == 4
    assert "cron.a" in worker.stderr.splitlines()[-1]


ANSWERS_ONCE = """
    authorization { users: [
        { user: gozo, password: p }
        { user: admin, password: p, permissions: { publish: ">", subscribe: ">" } }
        { user: service, password: p, permissions: {
            publish: "_INBOX.>", subscribe: ["jobs.>", "_INBOX.>"], allow_responses: true } }
    ] }
"""


async def test_allowed_to_respond(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """`allow_responses` suffices to answer once; of several answers, only the first arrives."""
    server = servers.start(ANSWERS_ONCE)
    await daemons.serve(server, *LOGIN)
    client = await admin(clients, server)
    service = await clients.connect(server, user="service", password="p")  # noqa: S106
    jobs = Jobs(service)
    await service.nats.subscribe(jobs.subject, cb=jobs.take)
    await service.nats.flush()
    sender = Jobs(client, jobs.subject)
    await sender.store("job")
    assert (await call_one(client, "trigger", "job"))["status"] == "triggered"
    assert await jobs.answer(await jobs.wait(1), b"done") == b"+OK"
    assert (await call_one(client, "trigger", "job"))["status"] == "triggered"
    assert await jobs.answer(await jobs.wait(2), b"+WPI") == b"+OK"
    await service.nats.publish(jobs.all[1].reply, b"+ACK")
    await until(lambda: bool(violations(server)), "the server refuses a second answer")
    assert violations(server) == [("service", jobs.all[1].reply)]
    assert (await call_one(client, "trigger", "job"))["error"] == "running"


AS_STREAM = {
    'exports: [ { stream: "gozo", accounts: [ GOZO ] } ]': (
        'exports: [ { stream: "gozo", accounts: [ GOZO ] }, { stream: "gozo.ack.>" } ]'
    ),
    'imports: [ { stream: { account: APP, subject: "gozo" } } ]': (
        'imports: [ { stream: { account: APP, subject: "gozo" } }, '
        '{ stream: { account: APP, subject: "gozo.ack.>" } } ]'
    ),
}


async def test_another_account(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """If its account exports the subjects of answers, receivers elsewhere can do everything."""
    config = documented_accounts()
    for old, new in AS_STREAM.items():
        assert old in config
        config = config.replace(old, new)
    server = servers.start(config)
    await daemons.serve(server, "--user", "gozo", "--password", PASSWORD)
    app = await clients.connect(server, user="app", password=PASSWORD, inbox_prefix="app.inbox")
    jobs = Jobs(app, "app.jobs")
    await app.nats.subscribe(jobs.subject, cb=jobs.take)
    await app.confirm()
    await app.send({"Gozo-Id": "a", "Gozo-When": "+0", "Gozo-Confirm": "claim"}, reply="app.jobs")
    job = await jobs.wait(1)
    assert await jobs.answer(job, b"+CLAIM one") == b"+GO"
    assert await jobs.answer(job, b"+WPI") == b"+OK"
    assert await jobs.answer(job) == b"+OK"


SERVICE = """
    accounts {
      GOZO {
        jetstream: enabled
        users: [ { user: gozo, password: change_me } ]
        imports: [ { service: { account: APP, subject: "jobs.a" } } ]
      }
      APP {
        users: [ { user: app, password: change_me } ]
        exports: [ { service: "jobs.a", RESPONSES accounts: [ GOZO ] } ]
      }
    }
"""


@pytest.mark.parametrize("responses", ["response_type: stream,", ""])
async def test_imported_as_a_service(
    servers: Servers, daemons: Daemons, clients: Clients, responses: str
) -> None:
    """With such an import all answers arrive; by default, only the first does."""
    server = servers.start(SERVICE.replace("RESPONSES", responses))
    await daemons.serve(server, "--user", "gozo", "--password", PASSWORD)
    own, app = [
        await clients.connect(server, user=user, password=PASSWORD) for user in ("gozo", "app")
    ]
    answers = await own.arrivals("gozo.ack.*")
    jobs = Jobs(app, "jobs.a")
    await app.nats.subscribe(jobs.subject, cb=jobs.take)
    await app.confirm()
    await Jobs(own, "jobs.a").store("a", "+0", Gozo_Ack_Wait="1h")
    job = await jobs.wait(1)
    for words in (b"+WPI", b"+WPI", b"+ACK"):
        await app.nats.publish(job.reply, words)
    await app.confirm()
    await own.confirm()
    assert answers.payloads == [b"+WPI", b"+WPI", b"+ACK"][: 3 if responses else 1]


async def test_who_was_sent_a_message_in_time(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """Only what the server refuses is retried, not what it passed on before."""
    server = servers.start(withholding("publish", "granted.jobs"))
    await daemons.serve(server, *LOGIN)
    client = await admin(clients, server)
    jobs = Jobs(client, "jobs")
    await client.nats.subscribe("jobs", cb=jobs.take)
    await jobs.store("before", "+0")
    await jobs.store("after", "+2")
    await jobs.wait(1)
    withdraw(server, "jobs")

    async def states() -> list[list[str]]:
        found = [await runs(client, id_) for id_ in ("before", "after")]
        return [[run["Gozo-State"] for run in of] for of in found]

    async def is_refused() -> bool:
        return ["retrying"] in await states()

    await until(is_refused, "the server refused one")
    assert await states() == [["running"], ["retrying"]]
    assert len(jobs.all) == 1
