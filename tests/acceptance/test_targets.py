"""`--allow` and `--deny`: which subjects a daemon sends to, whichever way a schedule came."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gozo.client import Client as GozoClient
from gozo.errors import UnansweredError
from gozo.settings.model import ConnectionSettings
from tests.support.client import Client
from tests.support.gozoctl import Gozoctl
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers

RULES = ("--allow", "jobs.>", "--allow", "receipts", "--deny", "jobs.secret,*.hidden.>")


async def ask(client: Client, subject: str) -> dict[str, object]:
    """Request a schedule, and return its receipt."""
    receipts = await client.arrivals("receipts")
    headers = {"Gozo-When": "+9999", "Gozo-Id": subject, "Gozo-Receipt": "receipts"}
    await client.send(headers, reply=subject)
    (answer,) = await receipts.wait()
    told: dict[str, object] = json.loads(answer.data)
    return told


async def test_requests(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What is not allowed is refused, with the code and the rule; deny goes before allow."""
    server = servers.start()
    daemon = await daemons.serve(server, *RULES)
    client = await clients.connect(server)
    assert (await ask(client, "jobs.backup"))["status"] == "stored"
    stored = await client.stored()
    for subject, rule in {
        "jobs.secret": "--deny jobs.secret",
        "jobs.hidden.x": "--deny *.hidden.>",
        "tea": "--allow",
    }.items():
        told = await ask(client, subject)
        assert (told["status"], told["error"]) == ("refused", "forbidden_subject")
        assert rule in str(told["message"])
    assert await client.stored() == stored
    elsewhere = await client.arrivals("elsewhere")
    await client.send(
        {"Gozo-When": "+9999", "Gozo-Id": "x", "Gozo-Receipt": "elsewhere"}, reply="jobs.x"
    )
    assert (await ask(client, "jobs.last"))["status"] == "stored"
    assert elsewhere.all == []
    assert await client.stored() == stored + 1

    def is_logged() -> bool:
        return "elsewhere" in daemon.events("request.refused")[-1].fields["reason"]

    await until(is_logged, "that no receipt may go there is logged")


async def test_entries(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """An entry that somebody wrote for a subject that is denied is kept, and listed as invalid.

    Rescheduled it is not sent either. A daemon with other rules delivers it.
    """
    server = servers.start()
    daemon = await daemons.serve(server, *RULES)
    client = await clients.connect(server)
    ctl = Gozoctl(tmp_path, server.url)
    open_, secret = await client.arrivals("jobs.open"), await client.arrivals("jobs.secret")
    for subject in ("jobs.secret", "jobs.open"):
        headers = {"Gozo-When": "+0", "Gozo-Subject": subject}
        await client.nats.request(f"$KV.gozo.{subject}", b"x", headers=headers)
    await open_.wait()
    invalid = await daemon.event("entry.invalid", key="jobs.secret")
    assert "--deny jobs.secret" in invalid.fields["reason"]
    (listed,) = ctl.ok("list", "-o", "json").json
    assert (listed["id"], listed["state"]) == ("jobs.secret", "invalid")
    assert "--deny jobs.secret" in listed["reason"]
    assert ctl.ok("inspect", "jobs.secret", "-o", "json").json["state"] == "invalid"

    moved = ctl.run("reschedule", "jobs.secret", "--in", "0")
    assert moved.code == 2
    assert "--deny jobs.secret" in moved.err
    assert await daemon.terminate() == 0
    assert ctl.ok("list", "-o", "json").json[0]["state"] in ("pending", "overdue")
    assert secret.all == []

    await daemons.serve(server)
    await secret.wait()
    await until(lambda: not ctl.ok("list", "-o", "json").json, "it is settled")


async def test_gozoctl_says_that_its_inbox_is_not_allowed(
    servers: Servers, daemons: Daemons, tmp_path: Path
) -> None:
    """A client whose receipts do not come is told why; with `--allow` alone they come."""
    server = servers.start()
    daemon = await daemons.serve(server, "--allow-answers", "answers.>")
    ctl = Gozoctl(tmp_path, server.url)
    async with await GozoClient.connect(ConnectionSettings((server.url,))) as client:
        with pytest.raises(UnansweredError, match=r"--allow-answers of the daemon match _INBOX\.>"):
            await client.schedule("jobs.tea", b"x", when="+9999", id="tea", timeout=1)
    assert ctl.ok("list", "-o", "id").out == ""
    assert "_INBOX.>" in (await daemon.event("policy.no_receipts")).fields["reason"]
    ctl.ok("--inbox-prefix", "answers.mine", "create", "tea", "jobs.tea", "x", "--in", "9999")
    assert await daemon.terminate() == 0

    await daemons.serve(server, "--allow", "jobs.>")
    ctl.ok("create", "tea", "jobs.tea", "x", "--in", "9999")
    ctl.ok("cancel", "tea", "--yes")
    refused = ctl.run("send", "_INBOX.of.another", "x", "--in", "0")
    assert refused.code == 2
    assert "--allow" in refused.err


async def test_variables(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """The rules can be variables, with commas between them."""
    server = servers.start()
    daemon = daemons.start(
        "serve",
        variables={
            "NATS_ADDRESS": server.url,
            "GOZO_ALLOW": "jobs.>, receipts",
            "GOZO_DENY": "jobs.secret",
        },
    )
    await daemon.ready()
    client = await clients.connect(server)
    assert (await ask(client, "jobs.a"))["status"] == "stored"
    assert (await ask(client, "jobs.secret"))["status"] == "refused"
    assert (await ask(client, "tea"))["status"] == "refused"


async def test_rules_become_stricter(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """What was allowed and is not any more stays, unsent, until a daemon allows it again."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    await client.nats.jetstream().add_stream(name="SECRET", subjects=["jobs.secret.stream"])
    secret = await client.arrivals("jobs.secret.>")
    for id_, headers in (
        ("often", {"Gozo-When": "@every 100ms"}),
        ("stream", {"Gozo-When": "@every 100ms", "Gozo-Confirm": "stream"}),
        (None, {"Gozo-When": "+9999"}),
    ):
        target = f"jobs.secret.{id_}"
        named = headers | ({"Gozo-Id": id_} if id_ else {})
        await client.send(named, reply=target, payload=target.encode())
    await secret.wait()
    assert await daemon.terminate() == 0

    daemon = await daemons.serve(server, "--deny", "jobs.secret.>", "--allow", "jobs.>")
    await client.confirm()
    before = len(secret.all)
    ctl = Gozoctl(tmp_path, server.url)
    listed = ctl.ok("list", "-o", "json").json
    assert {one["id"]: one["state"] for one in listed} == dict.fromkeys(
        ("often", "stream", None), "invalid"
    )
    for verb in ("trigger", "pause", "resume"):
        assert "--deny jobs.secret.>" in ctl.run(verb, "often").err
    ok = await client.arrivals("jobs.ok")
    await client.schedule("+0", reply=ok, id="ok")  # due after the others
    await ok.wait()
    assert len(secret.all) == before
    assert await daemon.terminate() == 0

    await daemons.serve(server)
    await until(
        lambda: set(secret.payloads[before:]) == {b"jobs.secret.often", b"jobs.secret.stream"},
        "both go on",
    )
    assert "invalid" not in {one["state"] for one in ctl.ok("list", "-o", "json").json}
