"""Entries that others write to the bucket: clients, with or without a daemon, and the original."""

from __future__ import annotations

import asyncio
import json
import time

import msgpack
from nats.js.api import KeyValueConfig

from tests.support.client import Client
from tests.support.patience import allow
from tests.support.processes import Clients, Daemons, Servers
from tests.support.running import Running


async def test_stored_by_a_client(client: Client, new_id: str) -> None:
    """A JetStream publish to the bucket is a schedule; a relative time counts from storing."""
    arrivals = await client.arrivals()
    # A value is no header, whatever it looks like.
    passed = {"trace": "1", "note": "Gozo-Due: 1"}
    headers = {"Gozo-When": "+0.5", "Gozo-Subject": arrivals.subject, **passed}
    sent = time.time()
    js = client.nats.jetstream()
    await js.publish(f"$KV.gozo.{new_id}", b"durable", headers=headers)
    (arrival,) = await arrivals.wait()
    assert sent + 0.49 <= arrival.at
    assert arrival.data == b"durable"
    due = arrival.headers.pop("Gozo-Due")
    assert arrival.headers == {"Gozo-Reply": "Yes", "Gozo-Id": new_id, **passed}
    assert due.startswith("20")


async def test_stored_while_no_daemon_runs(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """What was stored without a daemon is delivered by the next one, and cancelled by it."""
    server = servers.start()
    first = daemons.start("serve", "--address", server.url)
    await first.ready()
    await first.terminate()
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    js = client.nats.jetstream()
    for key, when in (("one", "1"), ("two", "+0.1"), ("never", "+3600")):
        headers = {"Gozo-When": when, "Gozo-Subject": arrivals.subject}
        await js.publish(f"$KV.gozo.{key}", key.encode(), headers=headers)
    second = daemons.start("serve", "--address", server.url)
    await second.ready()
    await arrivals.wait(2)
    assert sorted(arrivals.payloads) == [b"one", b"two"]
    reply = await client.nats.request("gozo.admin.cancel", b'{"ids": ["never"]}', timeout=5)
    assert json.loads(reply.data)["results"][0]["status"] == "cancelled"


async def test_an_end_of_the_servers_is_taken_off(client: Client, new_id: str) -> None:
    """An entry that the server would remove before it is due is stored again without that."""
    arrivals = await client.arrivals()
    js = client.nats.jetstream()
    headers = {"Gozo-When": "+3", "Gozo-Subject": arrivals.subject, "Nats-TTL": "1s"}
    await js.publish(f"$KV.gozo.{new_id}", b"lives", headers=headers)
    (arrival,) = await arrivals.wait()
    assert arrival.data == b"lives"


async def test_invalid_ones_are_kept_and_reported(
    running: Running, client: Client, new_id: str
) -> None:
    """An entry that cannot be read is reported with the reason, and stays."""
    mark = running.daemon.mark()
    js = client.nats.jetstream()
    headers = {"Gozo-When": "soon", "Gozo-Subject": "to"}
    await js.publish(f"$KV.gozo.{new_id}", b"kept", headers=headers)
    event = await running.daemon.event("entry.invalid", since=mark, key=new_id)
    assert "soon" in event.fields["reason"]
    assert (await js.get_last_msg("KV_gozo", f"$KV.gozo.{new_id}")).data == b"kept"


async def test_the_originals_bucket(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Schedules of the original gozo are delivered, cancelled and replaced like any other."""
    server = servers.start()
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    js = client.nats.jetstream()
    bucket = await js.create_key_value(KeyValueConfig(bucket="gozo"))
    now = int(time.time())

    async def store(id_: str, when: int, payload: bytes) -> None:
        value = msgpack.packb({"when": when, "subject": arrivals.subject, "payload": payload})
        await bucket.put(id_, value)

    await store("past", now - 100, b"\xff\x00")
    await store("soon", now + 4, b"soon")
    await store("odd=", now + 4, b"odd")
    await store("cancelled", now + 4, b"no")
    await store("cancelled=", now + 4, b"no")
    await store("replaced=", now + 4, b"no")
    await store("moved=", now + 3600, b"moved")
    await bucket.put("foreign", b"no schedule")
    daemon = daemons.start("serve", "--address", server.url)
    await daemon.ready()
    await arrivals.wait(1)
    await client.cancel("cancelled")
    await client.cancel("cancelled=")
    await client.schedule(now + 5, reply=arrivals, id="replaced=", payload=b"new")
    moved = await client.nats.request(
        "gozo.admin.reschedule", b'{"id": "moved=", "when": "+1"}', timeout=5
    )
    assert json.loads(moved.data)["status"] == "rescheduled"
    await arrivals.wait(5)
    await asyncio.wait_for(daemon.event("entry.invalid", key="foreign"), allow(5))
    assert arrivals.payloads[0] == b"\xff\x00"
    assert sorted(arrivals.payloads[1:]) == [b"moved", b"new", b"odd", b"soon"]
    assert {"Gozo-Reply": "Yes", "Gozo-Id": "odd="} in [a.headers for a in arrivals.all]
    assert (await bucket.get("foreign")).value == b"no schedule"


async def test_entries_of_a_newer_version_are_left_alone(client: Client, new_id: str) -> None:
    """What a later version stored is neither replaced nor removed."""
    js = client.nats.jetstream()
    await js.publish(f"$KV.gozo.{new_id}", b"new", headers={"Gozo-Format": "3"})
    receipts = await client.arrivals()
    asked = {"Gozo-Receipt": receipts.subject}
    await client.send({**asked, "Gozo-Del-Id": new_id})
    await client.send({**asked, "Gozo-Id": new_id, "Gozo-When": "+1"}, reply="to")
    await receipts.wait(2)
    assert [json.loads(receipt)["error"] for receipt in receipts.payloads] == ["newer_format"] * 2
    assert (await js.get_last_msg("KV_gozo", f"$KV.gozo.{new_id}")).data == b"new"
    await js.purge_stream("KV_gozo", subject=f"$KV.gozo.{new_id}")


async def test_no_value_ends_the_daemon(running: Running, client: Client, new_id: str) -> None:
    """A value that only looks like one of the original's is set aside."""
    mark = running.daemon.mark()
    value = msgpack.packb({"when": "x" * 900_000, "subject": "a", "payload": b""})
    await client.nats.jetstream().publish(f"$KV.gozo.{new_id}", value)
    await running.daemon.event("entry.invalid", since=mark, key=new_id)
    assert running.daemon.alive


async def test_entries_too_large_to_be_kept_up_are_invalid(
    running: Running, client: Client, new_id: str
) -> None:
    """An entry that leaves no room for what gozo notes is reported, with its size."""
    mark = running.daemon.mark()
    headers = {"Gozo-When": "+60", "Gozo-Subject": "to"}
    payload = b"x" * (1024 * 1024 - 200)
    await client.nats.jetstream().publish(f"$KV.gozo.{new_id}", payload, headers=headers)
    event = await running.daemon.event("entry.invalid", since=mark, key=new_id)
    assert "bytes" in event.fields["reason"]


async def test_a_full_bucket_takes_cancels(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """While nothing can be stored, requests with receipts are answered, and others delivered."""
    server = servers.start()
    client = await clients.connect(server)
    js = client.nats.jetstream()
    await js.create_key_value(KeyValueConfig(bucket="gozo", max_bytes=400_000))
    daemon = daemons.start("serve", "--address", server.url)
    await daemon.ready()
    for number in range(9_000):
        await client.schedule("+3600", reply="to", id=f"many-{number}", payload=b"x" * 100)
    await client.confirm()
    arrivals = await client.arrivals()
    await client.schedule("+0", reply=arrivals, payload=b"in memory")
    await arrivals.wait(1)
    receipts = await client.arrivals()
    headers = {"Gozo-When": "+60", "Gozo-Id": "one more", "Gozo-Receipt": receipts.subject}
    # Larger than the others: a smaller one might fit.
    await client.send(headers, reply="to", payload=b"x" * 1_000)
    await receipts.wait(1, timeout=allow(15))
    assert json.loads(receipts.payloads[0])["error"] == "unavailable"
