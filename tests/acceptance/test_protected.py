"""`--protect`: what requests cannot replace or cancel, and administrators can."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.aged import followed
from tests.support.client import Arrivals, Client
from tests.support.documented import documented, login, violations
from tests.support.gozoctl import Gozoctl
from tests.support.processes import Clients, Daemons, Servers
from tests.support.running import Running
from tests.support.storage import call

MANY = 50


@pytest.fixture
def ctl(running: Running, tmp_path: Path) -> Gozoctl:
    """Gozoctl on the module's server."""
    return Gozoctl(tmp_path, running.server.url)


async def ask(client: Client, headers: Mapping[str, str], reply: str = "") -> dict[str, Any]:
    """Send a request that wants a receipt, and return it."""
    receipts = await client.arrivals()
    await client.send({**headers, "Gozo-Receipt": receipts.subject}, reply=reply, payload=b"forged")
    (receipt,) = await receipts.wait()
    answer: dict[str, Any] = json.loads(receipt.data)
    return answer


async def attack(client: Client, id_: str) -> None:
    """Try as a client to replace and to cancel a schedule, and be refused."""
    for headers in ({"Gozo-When": "+0", "Gozo-Id": id_}, {"Gozo-Del-Id": id_}):
        receipt = await ask(client, headers, "" if "Gozo-Del-Id" in headers else "elsewhere")
        assert (receipt["status"], receipt["error"]) == ("refused", "protected"), receipt
        assert receipt["id"] == id_
        assert "gozoctl" in receipt["message"]


async def test_requests_leave_it_alone(
    running: Running, client: Client, ctl: Gozoctl, new_id: str
) -> None:
    """Neither a request nor a cancel changes it, with or without a receipt; it is delivered."""
    arrivals = await client.arrivals()
    ctl.ok("create", new_id, arrivals.subject, "genuine", "--in", "1h", "--protect")
    before = ctl.ok("inspect", new_id, "-o", "json").json
    assert before["protected"] is True
    await client.schedule("+0", reply=arrivals, id=new_id, payload=b"forged")
    await client.cancel(new_id)
    await attack(client, new_id)
    assert ctl.ok("inspect", new_id, "-o", "json").json == before
    await running.daemon.event("request.refused", code="protected")
    ctl.ok("reschedule", new_id, "--in", "0")
    (arrival,) = await arrivals.wait()
    assert arrival.data == b"genuine"
    assert (await ask(client, {"Gozo-Del-Id": new_id}))["status"] == "already_delivered"
    taken = await ask(client, {"Gozo-When": "+9999", "Gozo-Id": new_id}, "elsewhere")
    assert taken["status"] == "stored"


async def test_administrators_change_it(client: Client, ctl: Gozoctl, new_id: str) -> None:
    """Whatever gozoctl changes of it, it stays protected until that is taken back."""
    ctl.ok("create", new_id, "jobs", "x", "--in", "1h", "--protect")
    assert ctl.run("create", new_id, "jobs", "y", "--in", "1h").code == 1
    for change in (
        ("reschedule", new_id, "--in", "2h"),
        ("pause", new_id),
        ("resume", new_id),
        ("create", new_id, "jobs", "y", "--in", "3h", "--protect"),
    ):
        ctl.ok(*change)
        await attack(client, new_id)
    assert "protected\tyes" in ctl.ok("inspect", new_id).out
    ctl.ok("cancel", new_id)
    assert (await ask(client, {"Gozo-Del-Id": new_id}))["status"] == "not_found"


async def test_clients_protect_nothing(client: Client, new_id: str) -> None:
    """A request that would protect is refused, in whatever letters; so is such a cancel."""
    for headers in ({"Gozo-When": "+9", "Gozo-Id": new_id}, {"Gozo-Del-Id": new_id}):
        for name in ("Gozo-Protect", "gozo-protect"):
            receipt = await ask(client, headers | {name: "Yes"}, "elsewhere")
            assert (receipt["status"], receipt["error"]) == ("refused", "invalid_request")
            assert "Gozo-Protect" in receipt["message"]


async def test_written_just_now(client: Client, new_id: str) -> None:
    """What the daemon has not seen yet in the bucket is protected as well."""
    receipts = await client.arrivals()
    for number in range(MANY):
        id_ = f"{new_id}-{number}"
        headers = {"Gozo-When": "+9999", "Gozo-Subject": "jobs", "Gozo-Protect": "Yes"}
        await client.nats.request(f"$KV.gozo.{id_}", b"genuine", headers=headers)
        cancel = {"Gozo-Del-Id": id_, "Gozo-Receipt": receipts.subject}
        await client.send(cancel)
        await client.send(cancel | {"Gozo-When": "+9"}, reply="elsewhere")  # both: invalid
        replacing = {"Gozo-When": "+9", "Gozo-Id": id_, "Gozo-Receipt": receipts.subject}
        await client.send(replacing, reply="elsewhere")
    told = [json.loads(one.data)["error"] for one in await receipts.wait(3 * MANY)]
    assert sorted(told) == ["invalid_request"] * MANY + ["protected"] * 2 * MANY


async def test_unreadable(running: Running, client: Client, ctl: Gozoctl, new_id: str) -> None:
    """An entry that cannot be read, or may not be sent, is protected all the same."""
    wrong = {"when": ("never", "jobs"), "subject": ("+9999", "$SYS.jobs")}
    for name, (when, subject) in wrong.items():
        id_ = f"{new_id}-{name}"
        headers = {"Gozo-When": when, "Gozo-Subject": subject, "Gozo-Protect": "Yes"}
        await client.nats.request(f"$KV.gozo.{id_}", b"x", headers=headers)
        await running.daemon.event("entry.invalid", key=id_)
        await attack(client, id_)
        shown = ctl.ok("inspect", id_, "-o", "json").json
        assert (shown["state"], shown["protected"]) == ("invalid", True)
        ctl.ok("cancel", id_)


async def test_under_a_key_of_the_original(client: Client, ctl: Gozoctl, new_id: str) -> None:
    """What stands under the id itself, where gozo escapes it, is not removed by a new one."""
    id_ = f"{new_id}=x"
    headers = {"Gozo-When": "+9999", "Gozo-Subject": "jobs", "Gozo-Id": id_}
    headers |= {"Gozo-Original": "Yes", "Gozo-Protect": "Yes"}
    await client.nats.request(f"$KV.gozo.{id_}", b"genuine", headers=headers)
    await followed(client)
    await attack(client, id_)
    assert ctl.ok("inspect", id_, "-o", "json").json["payload"] == "genuine"


async def tick(client: Client, ctl: Gozoctl, every: str) -> Arrivals:
    """Make the protected schedule `tick`, and return its messages, of which two have come."""
    arrivals = await client.arrivals()
    ctl.ok("create", "tick", arrivals.subject, "x", "--every", every, "--protect")
    await arrivals.wait(2)
    return arrivals


async def test_recurring_and_restarted(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """Protection lasts from one occurrence to the next, and from one daemon to the next."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client, ctl = await clients.connect(server), Gozoctl(tmp_path, server.url)
    arrivals = await tick(client, ctl, "300ms")
    await attack(client, "tick")
    await daemon.kill()
    await daemons.serve(server)
    await attack(client, "tick")
    await arrivals.wait(len(arrivals.all) + 2)
    assert ctl.ok("inspect", "tick", "-o", "json").json["protected"] is True
    assert set(arrivals.payloads) == {b"x"}


async def test_a_full_bucket(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """While what was sent cannot be noted, requests do not make it begin anew, nor stop it."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client, ctl = await clients.connect(server), Gozoctl(tmp_path, server.url)
    arrivals = await tick(client, ctl, "100ms")
    config = (await call(client, "STREAM.INFO.KV_gozo"))["config"]
    await call(client, "STREAM.UPDATE.KV_gozo", config | {"max_bytes": 1})
    await daemon.event("store.full")
    for _ in range(3):
        await attack(client, "tick")
        await arrivals.wait(len(arrivals.all) + 3)
    occurrences = [int(one.headers["Gozo-Occurrence"]) for one in arrivals.all]
    assert occurrences == sorted(set(occurrences))
    ctl.ok("cancel", "tick")


async def test_with_the_permissions_of_the_manual(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """A client that has exactly those can neither write to the bucket nor call a verb."""
    server = servers.start(documented())
    await daemons.serve(server, *login("daemon"))
    client = await clients.connect(server, user="client", password="change_me")  # noqa: S106
    ctl, administrator = Gozoctl(tmp_path, server.url), login("administrator")
    ctl.ok("create", "tea", "jobs.tea", "x", "--in", "1h", "--protect", *administrator)
    before = ctl.ok("inspect", "tea", "-o", "json", *administrator).json
    receipts = Arrivals("jobs.receipts")
    await client.nats.subscribe(receipts.subject, cb=receipts.take)
    await client.nats.publish("$KV.gozo.tea", b"", headers={"KV-Operation": "DEL"})
    await client.nats.publish("gozo.admin.cancel", b'{"ids": ["tea"]}', reply="jobs.receipts")
    await client.cancel("tea")
    asked = {"Gozo-Receipt": receipts.subject}
    await client.send(asked | {"Gozo-Del-Id": "tea"})
    await client.send(asked | {"Gozo-When": "+0", "Gozo-Id": "tea"}, reply="jobs.tea")
    told = [json.loads(one.data).get("error") for one in await receipts.wait(2)]
    assert told == ["protected"] * 2
    assert ctl.ok("inspect", "tea", "-o", "json", *administrator).json == before
    assert violations(server) == [("client", "$KV.gozo.tea"), ("client", "gozo.admin.cancel")]
    ctl.ok("cancel", "tea", *administrator)


def test_without_a_daemon(servers: Servers, tmp_path: Path) -> None:
    """The same rules hold, and a file that says nothing of it leaves it as it is."""
    ctl = Gozoctl(tmp_path, servers.start().url)
    ctl.ok("create", "tea", "jobs", "x", "--in", "1h", "--protect")
    refused = ctl.run("create", "tea", "jobs", "y", "--in", "1h")
    assert (refused.code, "--protect" in refused.err) == (1, True)
    assert ctl.ok("inspect", "tea", "-o", "json").json["payload"] == "x"
    ctl.ok("reschedule", "tea", "--in", "2h")
    assert [one["protected"] for one in ctl.ok("list", "-o", "json").json] == [True]

    exported = ctl.ok("export").out
    assert tomllib.loads(exported)["schedules"]["tea"]["protect"] is True
    ctl.ok("cancel", "tea")
    file = tmp_path / "jobs.toml"
    file.write_text(exported)
    ctl.ok("apply", "jobs.toml")
    restored = tomllib.loads(ctl.ok("export").out)
    assert restored["schedules"] == tomllib.loads(exported)["schedules"]

    file.write_text(exported.replace("protect = true\n", "").replace('"x"', '"z"'))
    assert "protect" not in ctl.run("diff", "jobs.toml").out
    ctl.ok("apply", "jobs.toml")
    tea = ctl.ok("inspect", "tea", "-o", "json").json
    assert (tea["payload"], tea["protected"]) == ("z", True)
    file.write_text(exported.replace("protect = true", "protect = false"))
    lines = ctl.run("diff", "jobs.toml").out.splitlines()
    assert {"-protect = true", "+protect = false"} < set(lines)
    assert ctl.ok("apply", "jobs.toml").rows[1] == ["change", "tea", "payload protect"]
    assert ctl.ok("inspect", "tea", "-o", "json").json["protected"] is False
    ctl.ok("create", "tea", "jobs", "y", "--in", "1h")
