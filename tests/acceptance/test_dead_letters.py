"""Messages that no stream takes are given up by attempts or age, with or without a dead letter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from nats.aio.msg import Msg

from gozo.store.bucket import TTL_SINCE, is_before
from tests.support.client import Client
from tests.support.metrics import scrape, serve
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receipts import ask, entry_of
from tests.support.rights import LOGIN, admin, grant, withholding
from tests.support.running import Running

ONCE = {"Gozo-When": "+0", "Gozo-Confirm": "stream", "Gozo-Attempts": "1"}
ACK = b'{"stream": "DEAD", "seq": 1}'


@pytest.fixture(scope="module")
def options() -> tuple[str, ...]:
    """Return the options of the module's daemon, which publishes events."""
    return ("--events",)


async def stream(client: Client, name: str, *subjects: str, **settings: Any) -> None:
    """Create a stream that captures some subjects."""
    await client.nats.jetstream().add_stream(name=name, subjects=list(subjects), **settings)


async def stored(client: Client, name: str) -> list[Mapping[str, str]]:
    """Return the headers of all messages in a stream."""
    js = client.nats.jetstream()
    last = (await js.stream_info(name)).state.last_seq
    return [dict((await js.get_msg(name, number + 1)).headers or {}) for number in range(last)]


async def gone(client: Client, key: str) -> None:
    """Wait until an entry was removed as failed."""

    async def is_gone() -> bool:
        return (await entry_of(client, key)).get("Gozo-Reason") == "failed"

    await until(is_gone, f"{key} is removed")


async def next_message(subscription: Any) -> Msg:
    """Wait for the next message."""
    message: Msg = await subscription.next_msg(timeout=allow(5))
    return message


async def kept_runs(client: Client) -> list[str]:
    """Return the keys of occurrences in the bucket, without delete markers."""
    info = await client.nats.jetstream().stream_info("KV_gozo", subjects_filter="$KV.gozo.=_run.>")
    keys = [subject.removeprefix("$KV.gozo.") for subject in info.state.subjects or {}]
    found = {key: await entry_of(client, key) for key in keys}
    return [key for key, headers in found.items() if "Gozo-Subject" in headers]


@pytest.mark.parametrize("has_id", [True, False])
async def test_given_up(client: Client, new_id: str, has_id: bool) -> None:
    """The dead letter reaches its stream and says what happened, and the schedule is removed."""
    await stream(client, f"S{new_id}", f"dead.{new_id}")
    events = await client.arrivals(f"gozo.event.*.{new_id}" if has_id else "gozo.event.failed")
    headers = {**ONCE, "Gozo-Dead-Letter": f"dead.{new_id}", "Trace": "7", "Nats-Msg-Id": new_id}
    if has_id:
        headers["Gozo-Id"] = new_id
    receipt = await ask(client, headers, reply=f"nowhere.{new_id}", payload=b"x")
    assert receipt["status"] == "stored"

    async def arrived() -> bool:
        return bool(await stored(client, f"S{new_id}"))

    await until(arrived, "the dead letter is stored")
    [letter] = await stored(client, f"S{new_id}")
    assert letter == {
        "Gozo-Reply": "Yes",
        **({"Gozo-Id": new_id} if has_id else {}),
        "Gozo-Due": receipt["due"],
        "Gozo-Subject": f"nowhere.{new_id}",
        "Gozo-Tried": "1",
        "Gozo-Reason": "no stream stores its subject",
        "Trace": "7",
        "Nats-Msg-Id": f"{new_id}@dead-letter",
    }
    await events.wait(2 if has_id else 1)
    if has_id:
        await gone(client, new_id)
    await client.confirm()
    kinds = [json.loads(event.data)["type"].rpartition(".")[2] for event in events.all]
    assert kinds == ["accepted", "failed"][not has_id :], "it was not delivered"


async def test_a_recurring_one_goes_on(running: Running, client: Client, new_id: str) -> None:
    """Each occurrence that a full stream refuses twice has a dead letter, with its number."""
    await stream(client, f"F{new_id}", f"full.{new_id}", max_msgs=1, discard="new")
    await stream(client, f"S{new_id}", f"dead.{new_id}")
    headers = {
        "Gozo-When": "@every 100ms",
        "Gozo-Count": "4",
        "Gozo-Id": new_id,
        "Gozo-Confirm": "stream",
        "Gozo-Attempts": "2",
        "Gozo-Max-Age": "1m",
        "Gozo-Misfire": "all",
        "Gozo-Dead-Letter": f"dead.{new_id}",
    }
    await client.send(headers, reply=f"full.{new_id}", payload=b"x")
    await gone(client, new_id)

    async def all_arrived() -> bool:
        return len(await stored(client, f"S{new_id}")) == 3

    await until(all_arrived, "three dead letters")
    letters = await stored(client, f"S{new_id}")
    assert [letter["Gozo-Occurrence"] for letter in letters] == ["2", "3", "4"]
    assert {(letter["Gozo-Tried"], letter["Gozo-Reason"]) for letter in letters} == {
        ("2", "the stream refused it: maximum messages exceeded")
    }

    async def none_left() -> bool:
        return not [key for key in await kept_runs(client) if new_id in key]

    await until(none_left, "the dead letters are removed")


async def test_its_stream_is_away_and_comes_back(
    running: Running, client: Client, new_id: str
) -> None:
    """A dead letter is retried forever, with a log event, and delays no others."""
    mark = running.daemon.mark()
    headers = {**ONCE, "Gozo-Id": new_id, "Gozo-Dead-Letter": f"dead.{new_id}"}
    await client.send(headers, reply=f"nowhere.{new_id}", payload=b"x")
    for attempts in ("1", "2", "3"):
        event = await running.daemon.event(
            "dead_letter.postponed", since=mark, key=new_id, attempts=attempts
        )
        assert event.fields["reason"] == "no stream stores its subject"
    entry = await entry_of(client, new_id)
    assert (entry["Gozo-State"], entry["Gozo-Tried"]) == ("failed", "1")
    assert entry["Gozo-Reason"] == "no stream stores its subject"
    await stream(client, f"S{new_id}", f"dead.{new_id}")
    await gone(client, new_id)
    assert len(await stored(client, f"S{new_id}")) == 1


async def test_cancelled_while_it_waits(running: Running, client: Client, new_id: str) -> None:
    """A cancel ends the dead letter as well."""
    mark = running.daemon.mark()
    headers = {**ONCE, "Gozo-Id": new_id, "Gozo-Dead-Letter": f"dead.{new_id}"}
    await client.send(headers, reply=f"nowhere.{new_id}")
    await running.daemon.event("dead_letter.postponed", since=mark, key=new_id)
    assert (await ask(client, {"Gozo-Del-Id": new_id}))["status"] == "cancelled"


@pytest.mark.parametrize("recurs", [False, True])
async def test_the_leader_is_killed_before_the_acknowledgement(
    servers: Servers, daemons: Daemons, clients: Clients, recurs: bool
) -> None:
    """The next leader publishes the dead letter again, then removes it."""
    server = servers.start()
    first = await daemons.serve(server)
    client = await clients.connect(server)
    letters = await client.nats.subscribe("dead")
    headers = {**ONCE, "Gozo-Id": "job", "Gozo-Dead-Letter": "dead"}
    if recurs:
        headers |= {"Gozo-When": "@every 100ms", "Gozo-Count": "1"}
    await client.send(headers, reply="nowhere", payload=b"x")
    await next_message(letters)
    if recurs:
        [key] = await kept_runs(client)
        await gone(client, "job")
    else:
        key = "job"
    await first.kill()
    await daemons.serve(server)
    letter = await next_message(letters)
    assert letter.data == b"x"
    assert (letter.headers or {})["Gozo-Id"] == "job"
    await letter.respond(ACK)
    await gone(client, key)


async def test_a_dead_letter_outlives_its_recurring_schedule(
    running: Running, client: Client, new_id: str
) -> None:
    """Neither a cancel nor a new schedule with the same id ends that of an occurrence."""
    headers = {
        "Gozo-When": "@every 100ms",
        "Gozo-Id": new_id,
        "Gozo-Confirm": "stream",
        "Gozo-Attempts": "1",
        "Gozo-Dead-Letter": f"dead.{new_id}",
    }
    await client.send(headers, reply=f"nowhere.{new_id}", payload=b"x")
    mark = running.daemon.mark()
    await running.daemon.event("dead_letter.postponed", since=mark)
    assert (await ask(client, {"Gozo-Del-Id": new_id}))["status"] == "cancelled"
    waiting = await kept_runs(client)
    assert waiting
    assert all(key.startswith(f"=_run.{new_id}.d") for key in waiting)
    await stream(client, f"S{new_id}", f"dead.{new_id}")
    for key in waiting:
        await gone(client, key)
    assert len(await stored(client, f"S{new_id}")) == len(waiting)


async def test_while_the_bucket_cannot_be_written(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """A recurring schedule waits until its dead letter is stored, even across a crash."""
    server = servers.start()
    first = await daemons.serve(server)
    client = await clients.connect(server)
    headers = {
        **ONCE,
        "Gozo-When": "@every 200ms",
        "Gozo-Count": "3",
        "Gozo-Id": "job",
        "Gozo-Misfire": "all",
        "Gozo-Dead-Letter": "dead",
    }
    js = client.nats.jetstream()
    config = (await js.stream_info("KV_gozo")).config
    assert (await ask(client, headers, reply="nowhere"))["status"] == "stored"
    await js.update_stream(config.evolve(max_bytes=1))
    await first.event("store.full")
    await stream(client, "DEAD", "dead")
    await first.kill()
    second = await daemons.serve(server)
    await second.event("store.full")
    assert await stored(client, "DEAD") == []
    await js.update_stream(config.evolve(max_bytes=-1))
    await gone(client, "job")

    async def all_arrived() -> bool:
        return len(await stored(client, "DEAD")) == 3

    await until(all_arrived, "three dead letters")
    letters = await stored(client, "DEAD")
    assert [letter["Gozo-Occurrence"] for letter in letters] == ["1", "2", "3"]


async def test_a_dead_letter_is_not_skipped(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """`--skip-due-before` is for schedules, not for dead letters."""
    server = servers.start()
    first = await daemons.serve(server)
    client = await clients.connect(server)
    await first.terminate()
    await stream(client, "DEAD", "dead")
    failed = {"Gozo-State": "failed", "Gozo-Next": "1763871235.000000", "Gozo-Tried": "1"}
    headers = {**ONCE, **failed, "Gozo-Subject": "nowhere", "Gozo-Dead-Letter": "dead"}
    await client.nats.jetstream().publish("$KV.gozo.job", b"x", headers=headers)
    await daemons.serve(server, "--skip-due-before", "2099-01-01T00:00:00Z")
    await gone(client, "job")
    assert len(await stored(client, "DEAD")) == 1


@pytest.mark.parametrize("recurs", [False, True])
async def test_a_receiver_that_failed_for_good(
    running: Running, client: Client, new_id: str, recurs: bool
) -> None:
    """Schedules that a receiver confirms have dead letters as well."""
    events = await client.arrivals(f"gozo.event.failed.{new_id}")

    async def fail(message: Msg) -> None:
        await message.respond(b"+TERM no disk")

    await client.nats.subscribe(f"jobs.{new_id}", cb=fail)
    mark = running.daemon.mark()
    headers = {
        "Gozo-When": "@every 100ms" if recurs else "+0",
        "Gozo-Id": new_id,
        "Gozo-Confirm": "reply",
        "Gozo-Dead-Letter": f"dead.{new_id}",
    }
    count = 2 if recurs else 1
    if recurs:
        headers["Gozo-Count"] = f"{count}"
    await client.send(headers, reply=f"jobs.{new_id}", payload=b"x")
    await events.wait(count)
    waiting = [key for key in await kept_runs(client) if new_id in key]
    assert len(waiting) == count
    for key in waiting:
        await running.daemon.event("dead_letter.postponed", since=mark, key=key, attempts="2")
        entry = await entry_of(client, key)
        assert (entry["Gozo-State"], entry["Gozo-Tried"]) == ("failed", "1")
    assert (await ask(client, {"Gozo-Del-Id": new_id}))["status"] != "cancelled"
    await stream(client, f"S{new_id}", f"dead.{new_id}")
    for key in waiting:
        await gone(client, key)
    letters = await stored(client, f"S{new_id}")
    assert sorted(letter.get("Gozo-Occurrence", "") for letter in letters) == (
        ["1", "2"] if recurs else [""]
    )
    for letter in letters:
        assert letter["Gozo-Subject"] == f"jobs.{new_id}"
        assert (letter["Gozo-Tried"], letter["Gozo-Reason"]) == ("1", "no disk")
    assert len(events.all) == count


async def test_a_dead_letter_that_may_not_be_published(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """It is kept and reported, and published once the permission is granted."""
    server = servers.start(withholding("publish", "dead"))
    daemon = await daemons.serve(server, *LOGIN)
    client = await admin(clients, server)
    await stream(client, "DEAD", "dead")
    await client.send({**ONCE, "Gozo-Id": "job", "Gozo-Dead-Letter": "dead"}, reply="nowhere")
    event = await daemon.event("dead_letter.postponed", key="job")
    assert "permission" in event.fields["reason"]
    assert (await entry_of(client, "job"))["Gozo-State"] == "failed"
    grant(server, "dead")
    await gone(client, "job")
    assert len(await stored(client, "DEAD")) == 1


async def test_it_is_counted_as_what_it_is(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """It counts as a failed schedule and as a dead letter, not as a delivery."""
    server = servers.start()
    _, port = await serve(daemons, server)
    client = await clients.connect(server)
    headers = {**ONCE, "Gozo-Id": "job", "Gozo-Dead-Letter": "dead"}
    letters = await client.nats.subscribe("dead")
    await client.send(headers, reply="nowhere")
    letter = await next_message(letters)
    names = ("schedules_pending", "schedules_failed", "deliveries_total", "dead_letters_total")

    async def figures() -> list[float]:
        found = await scrape(port)
        return [found[f"gozo_{name}"] for name in (*names, "deliveries_failed_total")]

    assert await figures() == [0, 1, 0, 0, 1]
    answer = json.loads((await client.nats.request("gozo.admin.keys", b'{"counts":true}')).data)
    counts = [answer[name] for name in ("failed", "overdue", "next_due_epoch")]
    assert counts == [1, 0, None], "no schedule is due"
    await letter.respond(ACK)

    async def is_counted() -> bool:
        return await figures() == [0, 0, 0, 1, 1]

    await until(is_counted, "the dead letter is counted")


async def test_given_up_by_its_age(client: Client, new_id: str) -> None:
    """It is not retried later than that, even if attempts are left."""
    events = await client.arrivals(f"gozo.event.*.{new_id}")
    headers = {
        "Gozo-When": "+0",
        "Gozo-Id": new_id,
        "Gozo-Confirm": "stream",
        "Gozo-Max-Age": "700ms",
    }
    await client.send(headers, reply=f"nowhere.{new_id}")
    *_, failed = await events.wait(3)
    told = json.loads(failed.data)
    assert (told["type"], told["attempts"]) == ("gozo.event.v1.failed", 2)
    assert told["reason"] == "no stream stores its subject"
    entry = await entry_of(client, new_id)
    assert (entry["Gozo-State"], entry["Gozo-Tried"]) == ("failed", "2")


async def test_too_old_while_a_stream_is_silent(client: Client, new_id: str) -> None:
    """The attempt without an acknowledgement counts."""
    await client.arrivals(f"silent.{new_id}")
    events = await client.arrivals(f"gozo.event.failed.{new_id}")
    headers = {
        "Gozo-When": "+0",
        "Gozo-Id": new_id,
        "Gozo-Confirm": "stream",
        "Gozo-Max-Age": "1s",
    }
    await client.send(headers, reply=f"silent.{new_id}")
    [failed] = await events.wait()
    told = json.loads(failed.data)
    assert (told["attempts"], told["reason"]) == (1, "no stream acknowledged it within 3 s")


async def test_too_old_when_a_daemon_comes(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """One that was never tried is given up and the reason says so; a recurring one continues."""
    server = servers.start()
    first = await daemons.serve(server)
    client = await clients.connect(server)
    await stream(client, "TO", "to.>")
    await stream(client, "DEAD", "dead")
    common = {"Gozo-Confirm": "stream", "Gozo-Max-Age": "100ms", "Gozo-Dead-Letter": "dead"}
    once = {"Gozo-When": "+1", "Gozo-Id": "once", **common}
    often = {"Gozo-When": "@every 1s", "Gozo-Id": "often", "Gozo-Count": "2", **common}
    for headers in (once, often):
        assert (await ask(client, headers, reply=f"to.{headers['Gozo-Id']}"))["status"] == "stored"
    await first.kill()
    await asyncio.sleep(1.2)
    await daemons.serve(server)
    await gone(client, "once")

    async def both() -> bool:
        return len(await stored(client, "DEAD")) == 2

    await until(both, "both dead letters")
    letters = {letter["Gozo-Id"]: letter for letter in await stored(client, "DEAD")}
    for letter in letters.values():
        assert letter["Gozo-Tried"] == "0"
        assert letter["Gozo-Reason"] == "it could not be tried within 0.1s of its due time"
    assert letters["often"]["Gozo-Occurrence"] == "1"

    async def goes_on() -> bool:
        return [one["Gozo-Occurrence"] for one in await stored(client, "TO")] == ["2"]

    await until(goes_on, "the second occurrence is delivered")


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("$KV.gozo.x", "begins with '$'"),
        ("gozo.ack.x", "belongs to gozo"),
        ("dead.*", "has the wildcard"),
        ("", "Gozo-Dead-Letter is empty"),
        ("_R_.x", "a dead letter would not arrive"),
    ],
)
async def test_forbidden_subjects(client: Client, new_id: str, subject: str, words: str) -> None:
    """Requests with one are refused; entries with one that clients write are invalid."""
    headers = {**ONCE, "Gozo-Id": new_id, "Gozo-Dead-Letter": subject}
    receipt = await ask(client, headers, reply="to")
    assert (receipt["status"], receipt["error"]) == ("refused", "forbidden_subject")
    assert words in receipt["message"]


async def test_an_entry_with_a_forbidden_subject(
    running: Running, client: Client, new_id: str
) -> None:
    """It is reported and kept."""
    mark = running.daemon.mark()
    headers = {**ONCE, "Gozo-Subject": "to", "Gozo-Dead-Letter": "gozo.admin.cancel"}
    await client.nats.jetstream().publish(f"$KV.gozo.{new_id}", b"x", headers=headers)
    event = await running.daemon.event("entry.invalid", since=mark, key=new_id)
    assert "the dead-letter subject 'gozo.admin.cancel' belongs to gozo" in event.fields["reason"]


async def test_an_entry_of_a_client(client: Client, new_id: str) -> None:
    """A schedule that a client writes to the bucket has its dead letter as well."""
    await stream(client, f"S{new_id}", f"dead.{new_id}")
    headers = {**ONCE, "Gozo-Subject": f"nowhere.{new_id}", "Gozo-Dead-Letter": f"dead.{new_id}"}
    await client.nats.jetstream().publish(f"$KV.gozo.{new_id}", b"x", headers=headers)
    await gone(client, new_id)
    assert len(await stored(client, f"S{new_id}")) == 1


async def test_too_large_for_a_dead_letter(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """The size is checked with the request: every accepted one can be sent."""
    server = servers.start("max_payload: 16384")
    await daemons.serve(server)
    client = await clients.connect(server)
    await stream(client, "DEAD", "dead")
    headers = {**ONCE, "Gozo-Id": "job", "Gozo-Dead-Letter": "dead"}
    refused = {**headers, "Long": "x" * 4000}
    receipt = await ask(client, refused, reply="nowhere", payload=b"x" * 11_000)
    assert (receipt["status"], receipt["error"]) == ("refused", "too_large")
    taken = {**headers, "Long": "x" * 3600}
    assert (await ask(client, taken, reply="nowhere", payload=b"x" * 11_000))["status"] == "stored"
    await gone(client, "job")
    assert len(await stored(client, "DEAD")) == 1


async def api(client: Client, verb: str, config: object) -> None:
    """Call the JetStream API for settings that nats-py lacks."""
    answer = await client.nats.request(f"$JS.API.{verb}", json.dumps(config).encode())
    assert "error" not in json.loads(answer.data)


async def test_a_time_to_live(running: Running, client: Client, new_id: str) -> None:
    """A stream that allows it removes the message after that time; others refuse the message."""
    if is_before(running.server.version, TTL_SINCE):
        headers = {**ONCE, "Gozo-TTL": "1h"}
        receipt = await ask(client, headers, reply="to")
        assert (receipt["status"], receipt["error"]) == ("refused", "invalid_request")
        assert "Gozo-TTL needs nats-server 2.11" in receipt["message"]
        return
    for name, allowed in (("Y", True), ("N", False)):
        config = {
            "name": f"{name}{new_id}",
            "subjects": [f"{name}.{new_id}"],
            "allow_msg_ttl": allowed,
        }
        await api(client, f"STREAM.CREATE.{name}{new_id}", config)
    for number, ttl in enumerate(("1s", "1h")):
        headers = {**ONCE, "Gozo-Id": f"{new_id}-{number}", "Gozo-TTL": ttl}
        await client.send(headers, reply=f"Y.{new_id}")

    async def one_is_left() -> bool:
        state = (await client.nats.jetstream().stream_info(f"Y{new_id}")).state
        return (state.last_seq, state.messages) == (2, 1)

    await until(one_is_left, "one of the two has expired")
    left = await client.nats.jetstream().get_last_msg(f"Y{new_id}", f"Y.{new_id}")
    assert (left.headers or {})["Nats-TTL"] == "3600s"
    headers = {**ONCE, "Gozo-Id": new_id, "Gozo-TTL": "1h"}
    mark = running.daemon.mark()
    await client.send(headers, reply=f"N.{new_id}")
    event = await running.daemon.event("delivery.failed", since=mark, key=new_id)
    assert event.fields["reason"] == "the stream refused it: per-message TTL is disabled"
