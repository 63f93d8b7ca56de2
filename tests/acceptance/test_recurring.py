"""Recurring schedules with real processes: each occurrence once, in order, never early."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.support.client import Arrival, Arrivals, Client
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.running import Running

ALL = {"Gozo-Misfire": "all"}
OFTEN = ("--min-interval", "10ms")


def due(arrival: Arrival) -> float:
    """Return the nominal time of a delivery."""
    return datetime.fromisoformat(arrival.headers["Gozo-Due"]).timestamp()


@pytest.fixture(scope="module")
def options() -> tuple[str, ...]:
    """Let requests ask for the shortest intervals that there are."""
    return OFTEN


def numbers(arrivals: Arrivals) -> list[int]:
    """Return which occurrences arrived."""
    return [int(arrival.headers["Gozo-Occurrence"]) for arrival in arrivals.all]


async def create(
    client: Client, id_: str, when: str, to: Arrivals | str, **spec: str
) -> dict[str, Any]:
    """Ask for a recurring schedule, and return its receipt."""
    receipts = await client.arrivals()
    headers = {name.replace("_", "-"): value for name, value in spec.items()}
    headers |= {"Gozo-When": when, "Gozo-Id": id_, "Gozo-Receipt": receipts.subject}
    await client.send(headers, reply=to if isinstance(to, str) else to.subject, payload=b"work")
    (receipt,) = await receipts.wait()
    answer: dict[str, Any] = json.loads(receipt.data)
    return answer


async def entry(client: Client, id_: str) -> dict[str, str]:
    """Return the headers of what the bucket holds under an id."""
    js = client.nats.jetstream()
    message = await js.get_last_msg("KV_gozo", f"$KV.gozo.{id_}")
    return message.headers or {}


async def admin(client: Client, verb: str, **asked: object) -> dict[str, Any]:
    """Ask the leader."""
    reply = await client.nats.request(
        f"gozo.admin.{verb}", json.dumps(asked).encode(), timeout=allow(5)
    )
    answer: dict[str, Any] = json.loads(reply.data)
    return answer


async def test_through_a_restart_and_a_crash(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """For 20 s, while the leader ends and the next is killed, no occurrence is lost or early.

    None comes again that the bucket knew to be delivered.
    """
    server = servers.start()
    client = await clients.connect(server)
    first = await daemons.serve(server)
    await first.ready()
    seconds, tenths = await client.arrivals(), await client.arrivals()
    began = await create(client, "seconds", "* * * * * *", seconds, **ALL)
    await create(client, "tenths", "@every 100ms", tenths, **ALL)
    await seconds.wait(4)
    assert await first.terminate() == 0
    orderly = len(tenths.all)
    second = await daemons.serve(server)
    await second.ready()
    third = await daemons.serve(server)
    assert (await third.ready()).fields["role"] == "standby"
    await seconds.wait(8)
    assert numbers(tenths)[: orderly + 1] == list(range(1, orderly + 2))
    await second.kill()
    await client.confirm()
    settled = {id_: float((await entry(client, id_))["Gozo-Last"]) for id_ in ("seconds", "tenths")}
    before = {"seconds": len(seconds.all), "tenths": len(tenths.all)}
    await third.event("lease.acquired")
    await until(lambda: due(seconds.all[-1]) >= began["due_epoch"] + 20, "20 s are over", allow(40))
    await third.terminate()
    await client.confirm()
    for id_, arrivals, interval in (("seconds", seconds, 1.0), ("tenths", tenths, 0.1)):
        times = sorted({round(due(arrival), 3) for arrival in arrivals.all})
        steps = [round(two - one, 3) for one, two in pairwise(times)]
        assert set(steps) == {interval}, id_
        assert all(arrival.at >= due(arrival) for arrival in arrivals.all)
        late = arrivals.all[before[id_] :]
        assert all(due(arrival) > settled[id_] - 0.001 for arrival in late), id_
        assert sorted(set(numbers(arrivals))) == list(range(1, len(times) + 1))


async def test_until_its_count(client: Client, new_id: str) -> None:
    """A receipt names the first due time; after the last occurrence nothing is left."""
    arrivals = await client.arrivals()
    spec = {"Gozo_Count": "3", "Nats_Msg_Id": "work", "trace": "1"}
    receipt = await create(client, new_id, "@every 50ms", arrivals, **spec)
    await arrivals.wait(3)
    assert [round(due(one) - receipt["due_epoch"], 2) for one in arrivals.all] == [0, 0.05, 0.1]
    assert numbers(arrivals) == [1, 2, 3]
    assert len({one.headers["Nats-Msg-Id"] for one in arrivals.all}) == 3
    assert arrivals.all[0].headers["trace"] == "1"
    await until_reason(client, new_id, "delivered")
    assert len(arrivals.all) == 3


async def until_reason(client: Client, id_: str, reason: str) -> None:
    """Wait until a delete marker says why the schedule is gone."""

    async def is_so() -> bool:
        return (await entry(client, id_)).get("Gozo-Reason") == reason

    await until(is_so, f"the marker says {reason}")


async def test_stored_by_a_client(client: Client, new_id: str) -> None:
    """An entry that a client wrote to the bucket recurs as well."""
    arrivals = await client.arrivals()
    headers = {
        "Gozo-When": "@every 100ms",
        "Gozo-Subject": arrivals.subject,
        "Gozo-Until": "+350ms",
        "trace": "1",
    }
    await client.nats.jetstream().publish(f"$KV.gozo.{new_id}", b"work", headers=headers)
    await arrivals.wait(3)
    await until_reason(client, new_id, "delivered")
    assert numbers(arrivals) == [1, 2, 3]
    assert all(one.headers["trace"] == "1" and one.data == b"work" for one in arrivals.all)


async def test_a_cancel_is_final(client: Client, new_id: str) -> None:
    """Once a cancel is answered, nothing more comes, however close the next one was."""
    arrivals = await client.arrivals()
    for number in range(20):
        id_ = f"{new_id}-{number}"
        await create(client, id_, "@every 10ms", arrivals, **ALL)
    await arrivals.wait(100)
    ids = [f"{new_id}-{number}" for number in range(20)]
    answer = await admin(client, "cancel", ids=ids)
    assert [one["status"] for one in answer["results"]] == ["cancelled"] * 20
    await client.confirm()
    count = len(arrivals.all)
    other = await client.arrivals()
    await create(client, new_id, "@every 10ms", other, Gozo_Count="5")
    await other.wait(5)
    assert len(arrivals.all) == count


async def test_replaced_and_rescheduled(client: Client, new_id: str) -> None:
    """A new request takes its place; a moment puts the next one off, an expression all."""
    arrivals = await client.arrivals()
    await create(client, new_id, "@every 20ms", arrivals, **ALL)
    await arrivals.wait(3)
    assert (await create(client, new_id, "@hourly", arrivals))["replaced"]
    moved = await admin(client, "reschedule", id=new_id, when="+50ms")
    assert moved["status"] == "rescheduled"
    count = len(arrivals.all)
    await arrivals.wait(count + 1)
    assert abs(due(arrivals.all[-1]) - moved["due_epoch"]) < 0.001
    assert numbers(arrivals)[-1] == 1

    async def is_hourly_again() -> bool:
        return float((await entry(client, new_id))["Gozo-Due"]) % 3600 == 0

    await until(is_hourly_again, "the next one is on the hour")
    await admin(client, "reschedule", id=new_id, when="@every 30ms")
    await arrivals.wait(count + 4)
    assert numbers(arrivals)[-3:] == [2, 3, 4]
    refused = await admin(client, "reschedule", id=new_id, when="61 * * * *")
    assert "minute '61' is not within 0-59" in refused["message"]
    await client.cancel(new_id)


async def test_what_was_missed(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """While no daemon ran: `once` sends one for all, `all` each, `skip` none.

    Where one was missed, the one for all stands also for what is not later than the grace.
    """
    server = servers.start()
    first = await daemons.serve(server)
    await first.ready()
    client = await clients.connect(server)
    await first.terminate()
    policies = {policy: await client.arrivals() for policy in ("once", "all", "skip")}
    now = int(time.time())
    publish = client.nats.jetstream().publish
    for policy, arrivals in policies.items():
        headers = {
            "Gozo-When": "@every 10s",
            "Gozo-Subject": arrivals.subject,
            "Gozo-Start": str(now - 3_600),
            "Gozo-Misfire": policy,
            "Gozo-Misfire-Grace": "0",
            "Gozo-Format": "1",
            "Gozo-Due": f"{now - 45}",
            "Gozo-Until": f"{now + 4}",
        }
        await publish(f"$KV.gozo.{policy}", b"work", headers=headers)
    partly = await client.arrivals()
    headers = {
        "Gozo-When": "@every 10s",
        "Gozo-Subject": partly.subject,
        "Gozo-Due": f"{now - 35}",
        "Gozo-Until": f"{now + 4}",
    }
    await publish("$KV.gozo.partly", b"work", headers=headers)
    single = await client.arrivals()
    headers = {
        "Gozo-Subject": single.subject,
        "Gozo-When": str(now - 45),
        "Gozo-Due": f"{now - 45}",
    }
    await publish(
        "$KV.gozo.strict",
        b"",
        headers=headers | {"Gozo-Misfire": "skip", "Gozo-Misfire-Grace": "5s"},
    )
    await publish("$KV.gozo.patient", b"", headers=headers)
    second = await daemons.serve(server)
    await second.ready()
    await policies["all"].wait(5)
    await single.wait(1)
    reasons = {"once": "delivered", "skip": "missed", "strict": "missed", "patient": "delivered"}
    for id_, reason in {**reasons, "partly": "delivered"}.items():
        await until_reason(client, id_, reason)
    await second.event("schedule.missed", id="strict")
    assert [round(due(one)) - now for one in policies["all"].all] == [-45, -35, -25, -15, -5]
    assert [round(due(one)) - now for one in policies["once"].all] == [-45]
    assert [round(due(one)) - now for one in partly.all] == [-35]
    assert policies["skip"].all == []
    assert [one.headers["Gozo-Id"] for one in single.all] == ["patient"]


async def test_while_the_bucket_cannot_be_written(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """What is delivered goes on from memory, and is written once that is possible again."""
    server = servers.start()
    daemon = await daemons.serve(server, *OFTEN)
    await daemon.ready()
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    await create(client, "tick", "@every 50ms", arrivals, **ALL)
    await arrivals.wait(3)
    js = client.nats.jetstream()
    config = (await js.stream_info("KV_gozo")).config
    await js.update_stream(config.evolve(max_bytes=1))
    await daemon.event("store.full")
    stuck = int((await entry(client, "tick")).get("Gozo-Occurred", "0"))
    await arrivals.wait(len(arrivals.all) + 20)
    assert int((await entry(client, "tick")).get("Gozo-Occurred", "0")) <= stuck + 1
    await js.update_stream(config.evolve(max_bytes=-1))

    async def is_written() -> bool:
        return int((await entry(client, "tick"))["Gozo-Occurred"]) > stuck + 20

    await until(is_written, "the bucket knows what was delivered")
    assert numbers(arrivals) == list(range(1, len(arrivals.all) + 1))
    assert await daemon.terminate() == 0


async def test_a_cancel_waits_for_what_was_sent(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """A cancel that cannot be written yet keeps the next occurrence from being sent as well."""
    server = servers.start()
    daemon = await daemons.serve(server, *OFTEN)
    await daemon.ready()
    client = await clients.connect(server)
    arrivals, others = await client.arrivals(), await client.arrivals()
    await create(client, "tick", "@every 20ms", arrivals, **ALL)
    await create(client, "other", "@every 20ms", others, **ALL)
    await arrivals.wait(3)
    js = client.nats.jetstream()
    config = (await js.stream_info("KV_gozo")).config
    await js.update_stream(config.evolve(max_bytes=1))
    await daemon.event("store.full")
    await arrivals.wait(len(arrivals.all) + 3)
    cancelled = asyncio.create_task(admin(client, "cancel", ids=["tick"]))
    await others.wait(len(others.all) + 5)
    count = len(arrivals.all)
    await others.wait(len(others.all) + 10)
    assert len(arrivals.all) == count
    await js.update_stream(config.evolve(max_bytes=-1))
    assert (await cancelled)["results"][0]["status"] == "cancelled"
    await until_reason(client, "tick", "cancelled")
    assert len(arrivals.all) == count


async def test_skip_due_before(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What a restored backup holds and went out since is left out; the schedule goes on."""
    server = servers.start()
    first = await daemons.serve(server)
    await first.ready()
    client = await clients.connect(server)
    await first.terminate()
    arrivals = await client.arrivals()
    now = int(time.time())
    headers = {
        "Gozo-When": "@every 2s",
        "Gozo-Subject": arrivals.subject,
        "Gozo-Due": str(now - 60),
        "Gozo-Misfire": "all",
    }
    publish = client.nats.jetstream().publish
    await publish("$KV.gozo.goes-on", b"", headers=headers)
    await publish("$KV.gozo.over", b"", headers=headers | {"Gozo-Until": str(now - 50)})
    await daemons.serve(server, "--skip-due-before", str(now - 3))
    await arrivals.wait(2)
    assert [round(due(one)) - now for one in arrivals.all[:2]] == [-2, 0]
    await until_reason(client, "over", "missed")


async def test_one_that_fails_for_good(running: Running, client: Client, new_id: str) -> None:
    """An occurrence that no stream takes is given up on, and the next ones are tried."""
    mark = running.daemon.mark()
    spec = {"Gozo_Confirm": "stream", "Gozo_Attempts": "2", "Gozo_Count": "3"}
    await create(client, new_id, "@every 100ms", f"{new_id}.nowhere", **spec)
    await until_reason(client, new_id, "failed")
    given_up = running.daemon.events("delivery.failed", since=mark)
    assert len([event for event in given_up if event.fields["key"] == new_id]) >= 1
    name = new_id.replace("-", "")
    await client.nats.jetstream().add_stream(name=name, subjects=[f"{new_id}.into"])
    await create(client, new_id, "@every 50ms", f"{new_id}.into", **(spec | ALL))
    await until_reason(client, new_id, "delivered")
    info = await client.nats.jetstream().stream_info(name)
    assert info.state.messages == 3
