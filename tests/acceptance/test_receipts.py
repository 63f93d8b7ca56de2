"""Receipts: a client learns what became of its request."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from datetime import datetime
from typing import Any

import pytest
from nats.aio.msg import Msg

from tests.support.client import Arrivals, Client
from tests.support.patience import allow
from tests.support.processes import Clients, Daemons, Servers
from tests.support.raw import RawClient, header_block, request
from tests.support.receipts import ask, entry_of
from tests.support.running import Running

SLOW = 16_000
"""Schedules whose acknowledgements come slowly: four times as many as are in flight."""


async def test_stored_replaced_and_delivered(client: Client, new_id: str) -> None:
    """A receipt says that it is stored, when it is due, and whether it replaced another."""
    arrivals = await client.arrivals()
    first = await ask(client, {"Gozo-When": "+60", "Gozo-Id": new_id}, reply=arrivals.subject)
    assert (first["status"], first["id"], first["replaced"]) == ("stored", new_id, False)
    due = time.time() + 0.5
    second = await ask(
        client, {"Gozo-When": f"{due:.3f}", "Gozo-Id": new_id}, reply=arrivals.subject, payload=b"x"
    )
    assert second["replaced"] is True
    assert second["due_epoch"] == pytest.approx(due, abs=0.001)
    assert datetime.fromisoformat(second["due"]).timestamp() == pytest.approx(due, abs=0.001)
    (arrival,) = await arrivals.wait()
    assert arrival.headers == {"Gozo-Reply": "Yes", "Gozo-Id": new_id, "Gozo-Due": second["due"]}


async def test_without_an_id_it_is_stored_all_the_same(running: Running, client: Client) -> None:
    """What has a receipt survives a crash, also without an id, and is delivered without one."""
    arrivals = await client.arrivals()
    before = await client.stored()
    receipt = await ask(client, {"Gozo-When": "+1"}, reply=arrivals.subject, payload=b"x")
    assert (receipt["status"], receipt["id"]) == ("stored", None)
    assert await client.stored() == before + 1
    (arrival,) = await arrivals.wait()
    assert set(arrival.headers) == {"Gozo-Reply", "Gozo-Due"}


async def test_cancels(client: Client, new_id: str) -> None:
    """A cancel's receipt tells apart: cancelled, already delivered, not found."""
    arrivals = await client.arrivals()
    cancel = {"Gozo-Del-Id": new_id}
    assert await ask(client, cancel) == {"status": "not_found", "id": new_id}
    await client.schedule("+60", reply=arrivals, id=new_id)
    assert (await ask(client, cancel))["status"] == "cancelled"
    assert (await ask(client, cancel))["status"] == "not_found"
    await client.schedule("+0", reply=arrivals, id=new_id)
    await arrivals.wait()
    assert (await ask(client, cancel))["status"] == "already_delivered"


@pytest.mark.parametrize(
    ("headers", "reply", "code"),
    [
        ({"Gozo-When": "soon"}, "to", "invalid_when"),
        ({"Gozo-When": "+1"}, "", "no_reply_subject"),
        ({"Gozo-When": "+1"}, "$JS.API.INFO", "forbidden_subject"),
        ({"Gozo-When": "+1", "Gozo-Del-Id": "x"}, "to", "invalid_request"),
        ({"Gozo-When": "+1", "Gozo-Id": "x" * 1025}, "to", "invalid_id"),
        ({"Gozo-When": "+1", "Gozo-Confirm": "maybe"}, "to", "invalid_request"),
        ({}, "to", "invalid_request"),
    ],
)
async def test_refusals(client: Client, headers: dict[str, str], reply: str, code: str) -> None:
    """A refusal has a code for programs and a sentence for people."""
    receipt = await ask(client, headers, reply=reply)
    assert (receipt["status"], receipt["error"]) == ("refused", code)
    assert receipt["message"]
    assert receipt["id"] == headers.get("Gozo-Id", headers.get("Gozo-Del-Id"))


async def test_too_large(client: Client) -> None:
    """A payload that is too large is refused with its size."""
    receipt = await ask(client, {"Gozo-When": "+1"}, reply="to", payload=b"x" * (1024 * 1024 - 500))
    assert receipt["error"] == "too_large"


async def test_no_receipt_where_none_may_go(client: Client) -> None:
    """A receipt cannot be used to publish where no schedule could."""

    async def refused() -> int:
        data = (await statistics(client))["endpoints"][0]["data"]
        return int(data["refused"].get("forbidden_subject", 0))

    before = await refused()
    await client.send({"Gozo-When": "+1", "Gozo-Receipt": "$JS.API.INFO"}, reply="to")

    async def counted() -> bool:
        return await refused() == before + 1

    await until(counted, "it is refused")


async def statistics(client: Client) -> dict[str, Any]:
    """Ask the daemon for its figures."""
    answer: dict[str, Any] = json.loads((await client.nats.request("$SRV.STATS.gozo")).data)
    return answer


def test_a_burst_is_answered_in_order(running: Running) -> None:
    """Each of 50,000 requests has its receipt, and those for one id come in order."""
    count, ids = 50_000, 5_000
    with RawClient(running.server.url) as sender, RawClient(running.server.url) as receiver:
        receiver.subscribe("burst.receipts.>")
        receiver.confirm()
        for start in range(0, count, 500):
            sender.send(
                b"".join(
                    request(
                        b"gozo",
                        reply=b"burst.nowhere",
                        headers=header_block(
                            Gozo_When=f"{4_000_000_000 + number}",
                            Gozo_Id=f"burst-{number % ids}",
                            Gozo_Receipt=f"burst.receipts.{number}",
                        ),
                        payload=b"x" * 100,
                    )
                    for number in range(start, start + 500)
                )
            )
        last: dict[str, float] = {}
        seen = 0
        while seen < count:
            for message in receiver.receive(allow(20)):
                receipt = json.loads(message.payload)
                assert receipt["status"] == "stored"
                assert receipt["due_epoch"] > last.get(receipt["id"], 0)
                last[receipt["id"]] = receipt["due_epoch"]
                seen += 1
        assert len(last) == ids


async def stream(client: Client, name: str, subject: str) -> None:
    """Make a stream that takes a subject."""
    await client.nats.jetstream().add_stream(name=name, subjects=[subject])


async def messages(client: Client, name: str) -> int:
    """Count the messages of a stream."""
    return (await client.nats.jetstream().stream_info(name)).state.messages


async def until(condition: Any, what: str) -> None:
    """Wait until a coroutine function returns something true."""
    async with asyncio.timeout(allow(15)):
        while not await condition():  # noqa: ASYNC110  # the server tells of no change
            await asyncio.sleep(0.02)


async def test_a_stream_confirms(client: Client, new_id: str) -> None:
    """What a stream acknowledged is delivered once, and gone from the bucket."""
    await stream(client, f"S{new_id}", f"confirm.{new_id}")
    headers = {"Gozo-When": "+0", "Gozo-Id": new_id, "Gozo-Confirm": "stream"}
    await client.send(headers, reply=f"confirm.{new_id}", payload=b"x")

    async def removed() -> bool:
        return (await entry_of(client, new_id)).get("Gozo-Reason") == "delivered"

    await until(removed, "it is settled")
    assert await messages(client, f"S{new_id}") == 1


async def test_retried_until_a_stream_is_there(client: Client, new_id: str) -> None:
    """Without a stream it is tried again, says so, and holds up nobody; then it arrives once."""
    headers = {
        "Gozo-When": "+0",
        "Gozo-Id": new_id,
        "Gozo-Confirm": "stream",
        "Nats-Msg-Id": new_id,
    }
    await client.send(headers, reply=f"confirm.{new_id}", payload=b"x")

    async def retrying() -> bool:
        found = await entry_of(client, new_id)
        return found.get("Gozo-State") == "retrying" and int(found["Gozo-Tried"]) >= 2

    await until(retrying, "it is tried again")
    arrivals = await client.arrivals()
    await client.schedule("+0", reply=arrivals, payload=b"meanwhile")
    await arrivals.wait()
    await stream(client, f"S{new_id}", f"confirm.{new_id}")

    async def stored() -> bool:
        return await messages(client, f"S{new_id}") == 1

    await until(stored, "the stream has it")


async def test_failed_after_so_many_attempts(client: Client, new_id: str) -> None:
    """After `Gozo-Attempts` it is kept as failed, with the reason, and can be cancelled."""
    headers = {
        "Gozo-When": "+0",
        "Gozo-Id": new_id,
        "Gozo-Confirm": "stream",
        "Gozo-Attempts": "2",
    }
    await client.send(headers, reply=f"confirm.{new_id}", payload=b"x")

    async def failed() -> bool:
        return (await entry_of(client, new_id)).get("Gozo-State") == "failed"

    await until(failed, "it is given up")
    assert (await entry_of(client, new_id))["Gozo-Reason"]
    assert (await ask(client, {"Gozo-Del-Id": new_id}))["status"] == "cancelled"


async def test_headers_are_passed_on(client: Client, new_id: str) -> None:
    """A trace context arrives with the message; the server's own headers do nothing."""
    arrivals = await client.arrivals()
    headers = {
        "Gozo-When": "+0.3",
        "Gozo-Id": new_id,
        "traceparent": "00-abc-01",
        "Odd%Name": "100 %",
        "Nats-Rollup": "all",
        "Nats-TTL": "1s",
        "Nats-Msg-Id": "one",
    }
    await client.schedule("+60", reply=arrivals, id=f"{new_id}-other")
    await client.send(headers, reply=arrivals.subject)
    (arrival,) = await arrivals.wait()
    assert arrival.headers == {
        "Gozo-Reply": "Yes",
        "Gozo-Id": new_id,
        "traceparent": "00-abc-01",
        "Odd%Name": "100 %",
        "Nats-Msg-Id": "one",
    }
    assert await entry_of(client, f"{new_id}-other")


async def admin(client: Client, verb: str, asked: object) -> dict[str, Any]:
    """Ask the leader."""
    request = json.dumps(asked).encode()
    reply = await client.nats.request(f"gozo.admin.{verb}", request, timeout=allow(5))
    answer: dict[str, Any] = json.loads(reply.data)
    return answer


async def cancel(client: Client, ids: list[str]) -> dict[str, str]:
    """Cancel them all, and return what became of each."""
    became: dict[str, str] = {}
    for first in range(0, len(ids), 1000):
        answer = await admin(client, "cancel", {"ids": ids[first : first + 1000]})
        became |= {result["id"]: result["status"] for result in answer["results"]}
    return became


async def test_administration(client: Client, new_id: str) -> None:
    """The leader cancels up to a thousand ids at once, and moves a due time."""
    arrivals: Arrivals = await client.arrivals()
    ids = [f"{new_id}-{number}" for number in range(1000)]
    for id_ in ids[:-1]:
        await client.schedule("+60", reply=arrivals, id=id_)
    results = (await admin(client, "cancel", {"ids": ids}))["results"]
    assert [result["id"] for result in results] == ids
    assert [result["status"] for result in results] == ["cancelled"] * 999 + ["not_found"]

    await client.schedule("+60", reply=arrivals, id=new_id, payload=b"kept")
    moved = await admin(client, "reschedule", {"id": new_id, "when": "+0.2"})
    assert moved["status"] == "rescheduled"
    (arrival,) = await arrivals.wait()
    assert arrival.data == b"kept"
    gone = await admin(client, "reschedule", {"id": new_id, "when": "+0.2"})
    assert gone["status"] == "already_delivered"
    bad = await admin(client, "reschedule", {"id": new_id, "when": "soon"})
    assert (bad["id"], bad["error"]) == (new_id, "invalid_when")
    assert (await admin(client, "cancel", {"ids": []}))["error"] == "invalid_request"


async def test_answers_too_large_for_a_message(running: Running, client: Client) -> None:
    """What would be answered with more than a message holds does not end gozo's connection."""
    since = running.daemon.mark()
    ids = [f"{number:04}" + "ö" * 500 for number in range(1000)]
    asked = json.dumps({"ids": ids}, ensure_ascii=False).encode()
    answer = json.loads((await client.nats.request("gozo.admin.cancel", asked, timeout=5)).data)
    assert (answer["status"], answer["error"]) == ("refused", "too_large")
    refused = await admin(client, "reschedule", {"id": ["x"] * 200_000, "when": "+1"})
    assert refused["error"] == "invalid_id"
    receipt = await ask(client, {"Gozo-When": "+1", "Gozo-Id": "ä" * 300_000}, reply="to")
    assert (receipt["error"], receipt["id"]) == ("too_large", None)
    receipt = await ask(client, {"Gozo-When": "+1", "Gozo-Id": "ä" * 30_000}, reply="to")
    assert (receipt["error"], receipt["id"]) == ("invalid_id", None)
    assert running.daemon.events("connection.lost", since=since) == []


@pytest.mark.parametrize("what", ["Gozo-When", "Gozo-Id", "Gozo-Del-Id", "Gozo-Misfire"])
async def test_a_refusal_is_no_larger_than_its_request(client: Client, what: str) -> None:
    """However it has to be encoded: a small request makes gozo send no large receipt."""
    receipts = await client.arrivals()
    for size in (1, 300, 2_000, 8_000, 30_000):
        asked = {"Gozo-When": "+9", "Gozo-Receipt": receipts.subject, "Gozo-Misfire": "bad"}
        asked |= {what: ("\x01" if what == "Gozo-Del-Id" else "\U0001f600") * size}
        seen = len(receipts.all)
        await client.send(asked, reply="to")
        await receipts.wait(seen + 1)
        most = sum(len(name) + len(value.encode()) + 4 for name, value in asked.items()) + 1_024
        assert len(receipts.payloads[-1]) <= most
        assert json.loads(receipts.payloads[-1])["status"] == "refused"


@pytest.mark.parametrize("subject", ["gozo.admin.cancel", "gozo.admin.leader", "$SRV.PING.gozo"])
async def test_answers_go_only_where_clients_may_listen(client: Client, subject: str) -> None:
    """A question cannot make gozo publish its answer with rights that the asker may lack."""
    await client.nats.publish(subject, b'{"ids": ["x"]}', reply="$KV.gozo.forged")
    await client.nats.request(subject, b'{"ids": ["x"]}', timeout=5)
    assert await entry_of(client, "forged") == {}


async def test_the_service_answers(client: Client) -> None:
    """`$SRV.STATS.gozo` tells who leads, how much waits, and how late deliveries were."""
    arrivals = await client.arrivals()
    await client.schedule("+0", reply=arrivals)
    await arrivals.wait()
    answer = await statistics(client)
    data = answer["endpoints"][0]["data"]
    assert answer["type"] == "io.nats.micro.v1.stats_response"
    assert (answer["name"], answer["metadata"]["role"]) == ("gozo", "leader")
    assert data["delivered"] >= 1
    assert 0 < data["lateness_p50_ms"] <= data["lateness_p99_ms"]
    assert {"pending", "overdue", "refused"} <= set(data)


async def test_the_service_counts_each_verb(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """Calls, and those of them that were refused, count for their verb, and for no request."""
    server = servers.start()
    await daemons.serve(server)
    client = await clients.connect(server)
    await client.schedule("+3600", reply="to", id="tea")
    for ids in (["tea", ""], ["tea"]):
        await client.nats.request("gozo.admin.cancel", json.dumps({"ids": ids}).encode(), timeout=5)
    await client.nats.request("gozo.admin.pause", b"nonsense", timeout=5)
    endpoints = (await statistics(client))["endpoints"]
    counted = {one["name"]: (one["num_requests"], one["num_errors"]) for one in endpoints}
    assert counted == {
        "request": (1, 0),
        "cancel": (2, 1),
        "reschedule": (0, 0),
        "pause": (1, 1),
        "resume": (0, 0),
        "trigger": (0, 0),
        "outcome": (0, 0),
    }


@pytest.mark.parametrize(
    "body", [b'{"ids": ["\\ud800"]}', b"[" * 200_000, b'{"ids": [1e999]}', b"null"]
)
async def test_no_question_ends_the_daemon(running: Running, client: Client, body: bytes) -> None:
    """Questions that cannot be read are answered, and everything goes on."""
    for verb in ("cancel", "reschedule"):
        reply = await client.nats.request(f"gozo.admin.{verb}", body, timeout=allow(5))
        assert json.loads(reply.data)["status"] == "refused"
    assert running.daemon.alive


async def test_refusals_come_in_order_too(client: Client, new_id: str) -> None:
    """The receipt of a bad request comes after those of earlier requests for the same id."""
    receipts = await client.arrivals()
    asked = {"Gozo-Id": new_id, "Gozo-Receipt": receipts.subject}
    for number in range(100):
        await client.send({**asked, "Gozo-When": f"{4_000_000_000 + number}"}, reply="to")
        await client.send({**asked, "Gozo-When": "soon"}, reply="to")
    await receipts.wait(200)
    statuses = [json.loads(receipt)["status"] for receipt in receipts.payloads]
    assert statuses == ["stored", "refused"] * 100


async def test_a_schedule_that_no_stream_took_can_be_cancelled(client: Client, new_id: str) -> None:
    """While an acknowledgement is awaited a cancel waits; then it is final."""
    arrivals = await client.arrivals()
    headers = {"Gozo-When": "+0", "Gozo-Id": new_id, "Gozo-Confirm": "stream"}
    await client.send(headers, reply=arrivals.subject)
    await arrivals.wait()
    assert (await ask(client, {"Gozo-Del-Id": new_id}))["status"] == "cancelled"
    assert (await entry_of(client, new_id))["Gozo-Reason"] == "cancelled"


async def test_whoever_answers_cannot_hold_a_schedule(client: Client, new_id: str) -> None:
    """What others answer to a delivery is kept short and readable, or is no acknowledgement."""
    answers = [
        b'{"error": {"description": "\\ud800"}}',
        json.dumps({"error": {"description": "x" * 1_000_000}}).encode(),
        b"[" * 100_000,
        b'{"stream": "x", "seq": 1e999}',
    ]
    subject = f"answered.{new_id}"

    async def answer(message: Any) -> None:
        await message.respond(answers.pop(0) if answers else b"{}")

    await client.nats.subscribe(subject, cb=answer)
    await client.confirm()
    headers = {"Gozo-When": "+0", "Gozo-Id": new_id, "Gozo-Confirm": "stream"}
    await client.send({**headers, "Gozo-Attempts": "2"}, reply=subject)

    async def failed() -> bool:
        return (await entry_of(client, new_id)).get("Gozo-State") == "failed"

    await until(failed, "both attempts are noted")
    assert len((await entry_of(client, new_id))["Gozo-Reason"]) <= 200
    assert (await ask(client, {"Gozo-Del-Id": new_id}))["status"] == "cancelled"


async def test_sent_again_at_once_where_a_stream_is_silent(client: Client, new_id: str) -> None:
    """What is not acknowledged in time, as while a cluster elects, is sent again without a note."""
    arrivals = await client.arrivals()
    headers = {"Gozo-When": "+0", "Gozo-Id": new_id, "Gozo-Confirm": "stream"}
    acknowledged = asyncio.Event()

    async def take(message: Msg) -> None:
        await arrivals.take(message)
        if len(arrivals.all) > 1:
            assert "Gozo-State" not in await entry_of(client, new_id)
            await message.respond(b'{"stream":"silent","seq":1}')
            acknowledged.set()

    await client.nats.subscribe(f"to.{new_id}", cb=take)
    await client.send(headers, reply=f"to.{new_id}")
    await asyncio.wait_for(acknowledged.wait(), allow(10))

    async def settled() -> bool:
        return (await entry_of(client, new_id)).get("Gozo-Reason") == "delivered"

    await until(settled, "it is settled")


async def test_those_that_wait_for_a_stream_hold_up_nobody(client: Client, new_id: str) -> None:
    """More schedules without an acknowledgement than may be in flight delay no other one."""
    deaf = await client.arrivals()
    due = time.time() + 2
    arrivals = await client.arrivals()
    moments = [due + 0.1 * number for number in range(1, 20)]
    for moment in moments:
        await client.schedule(moment, reply=arrivals)
    ids = [f"{new_id}-{number}" for number in range(4_500)]
    for id_ in ids:
        headers = {"Gozo-When": f"{due:.3f}", "Gozo-Id": id_, "Gozo-Confirm": "stream"}
        await client.send(headers, reply=deaf.subject)
    await arrivals.wait(len(moments))
    late = [arrival.at - moment for arrival, moment in zip(arrivals.all, moments, strict=True)]
    assert min(late) >= 0
    assert max(late) < allow(1)
    await cancel(client, ids)


async def test_a_slow_stream_holds_up_nobody(client: Client, new_id: str) -> None:
    """While one acknowledges a burst little by little, others are sent as they are due.

    What waits for it was not sent, and can be cancelled.
    """
    unanswered: deque[Msg] = deque()
    received: set[str] = set()

    async def note(message: Msg) -> None:
        unanswered.append(message)
        received.add(message.data.decode())

    async def acknowledge(most: int) -> int:
        count = min(most, len(unanswered))
        for _ in range(count):
            await client.nats.publish(unanswered.popleft().reply, b'{"stream":"slow","seq":1}')
        return count

    subject = f"slow.{new_id}"
    await client.nats.subscribe(subject, cb=note, pending_msgs_limit=SLOW)
    due = time.time() + 4
    arrivals = await client.arrivals()
    await client.schedule(due + 0.5, reply=arrivals)
    ids = [f"{new_id}-{number}" for number in range(SLOW)]
    for id_ in ids:
        headers = {"Gozo-When": f"{due:.3f}", "Gozo-Id": id_, "Gozo-Confirm": "stream"}
        await client.send(headers, reply=subject, payload=id_.encode())
    again = {"Gozo-When": "@every 1h", "Gozo-Start": f"{due + 0.1:.3f}", "Gozo-Confirm": "stream"}
    await client.send({**again, "Gozo-Id": new_id}, reply=subject, payload=new_id.encode())
    await client.confirm()
    answered = 0
    while answered < SLOW and not arrivals.all:
        answered += await acknowledge(5)
        await asyncio.sleep(0.001)  # a few at a time: the stream is slow
    assert arrivals.all
    assert answered < SLOW / 2
    waiting = [id_ for id_ in (new_id, *ids) if id_ not in received][:1000]
    became = await cancel(client, waiting)
    await client.confirm()
    cancelled = {id_ for id_, status in became.items() if status == "cancelled"}
    assert set(waiting) - cancelled <= received
    cancelled -= received

    async def all_came() -> bool:
        await acknowledge(SLOW)
        return len(received) == SLOW + 1 - len(cancelled)

    await until(all_came, "all others are sent")
    assert new_id in cancelled
    assert not cancelled & received
