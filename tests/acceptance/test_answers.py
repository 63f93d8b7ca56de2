"""What receivers answer to deliveries that they have to confirm, and the effect of each answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.patience import allow
from tests.support.receipts import ask, entry_of
from tests.support.receiver import Answer, Receiver, Say
from tests.support.run_events import RunEvents
from tests.support.running import Running
from tests.support.storage import call

QUICK = {"Gozo-Confirm": "reply", "Gozo-Backoff": "50ms", "Gozo-When": "+0"}
NOBODY = "nobody subscribes to "
REFUSED = "the receiver refused it"


@pytest.fixture(scope="module")
def options() -> tuple[str, ...]:
    """Publish events, which show what happens to runs."""
    return ("--events",)


@pytest.fixture
async def events(client: Client, new_id: str) -> RunEvents:
    """Record the events of the test's id."""
    return await RunEvents.listen(client, new_id)


async def schedule(
    client: Client, receiver: Receiver, id_: str | None, headers: Mapping[str, str] = {}
) -> None:
    """Store a schedule that is due now."""
    named = {} if id_ is None else {"Gozo-Id": id_}
    receipt = await ask(client, {**QUICK, **headers, **named}, reply=receiver.subject)
    assert receipt["status"] == "stored"


@pytest.mark.parametrize(
    "answer",
    [
        b"+ACK",
        b"",
        b"any text",
        b'{"answer": 42}',
        b'{"stream": "of words"}',
        b"+ACKNOWLEDGED",
        b"- no",
        b"\xff\x00",
        Say(b"done", {"Nats-Service": "yes"}),
    ],
)
async def test_done(client: Client, new_id: str, events: RunEvents, answer: Answer) -> None:
    """Any answer that is no word of the protocol means that the work is done."""
    receiver = await Receiver.start(client.nats, answer)
    await schedule(client, receiver, new_id)
    succeeded = await events.find("succeeded")
    assert (succeeded["attempts"], succeeded["subject"]) == (1, receiver.subject)
    assert events.kinds == ["accepted", "started", "succeeded"]
    assert len(receiver.all) == 1
    assert await events.runs() == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"-NAK", REFUSED),
        (b"-NAK ", REFUSED),
        (b"-NAK no disk", "no disk"),
        (b'-NAK {"reason": "no disk"}', "no disk"),
        (b'-NAK {"delay": 50000000}', REFUSED),
        (b'-NAK{"delay": 50000000}', REFUSED),
        (b'-NAK {"delay": -1}', REFUSED),
        (b'-NAK {"delay": true, "busy": 1}', REFUSED),
        (b"-NAK {" + b"\xff" * 500, "{" + "\ufffd" * 199),
        (
            Say(b"x", {"Nats-Service-Error-Code": "500", "Nats-Service-Error": "no disk"}),
            "service error 500 no disk",
        ),
        (Say(b"+ACK", {"Nats-Service-Error-Code": "9"}), "service error 9"),
    ],
)
async def test_not_done(
    client: Client, new_id: str, events: RunEvents, answer: Answer, reason: str
) -> None:
    """The failed attempt counts, and is repeated."""
    receiver = await Receiver.start(client.nats, answer)
    await schedule(client, receiver, new_id)
    assert (await events.find("succeeded"))["attempts"] == 2
    assert events.kinds == ["accepted", "started", "retrying", "started", "succeeded"]
    assert (await events.find("retrying"))["reason"] == reason
    assert [one.attempt for one in receiver.all] == [1, 2]
    assert receiver.all[0].reply != receiver.all[1].reply


async def test_delay(client: Client, new_id: str, events: RunEvents) -> None:
    """A receiver can set the delay before the next attempt."""
    receiver = await Receiver.start(client.nats, b'-NAK {"delay": 700000000}')
    await schedule(client, receiver, new_id)
    first, second = await receiver.wait(2)
    assert second.at - first.at >= 0.69
    await events.find("succeeded")


async def test_backoff(client: Client, new_id: str, events: RunEvents) -> None:
    """The last of the waits is repeated."""
    receiver = await Receiver.start(client.nats, *[b"-NAK"] * 3)
    await schedule(client, receiver, new_id, {"Gozo-Backoff": "10ms,300ms"})
    at = [one.at for one in await receiver.wait(4)]
    waits = [later - earlier for earlier, later in pairwise(at)]
    assert waits[0] >= 0.01
    assert min(waits[1:]) >= 0.29
    await events.find("succeeded")


async def test_busy(client: Client, new_id: str, events: RunEvents) -> None:
    """The attempt is repeated soon, less and less often, and never counts."""
    receiver = await Receiver.start(client.nats, *[b'-NAK {"busy": true}'] * 3)
    await schedule(client, receiver, new_id, {"Gozo-Attempts": "1"})
    at = [one.at for one in await receiver.wait(4)]
    assert (await events.find("succeeded"))["attempts"] == 1
    assert [one.attempt for one in receiver.all] == [1, 1, 1, 1]
    waits = [later - earlier for earlier, later in pairwise(at)]
    assert [waits[0] >= 0.09, waits[1] >= 0.19, waits[2] >= 0.39] == [True] * 3
    assert "retrying" not in events.kinds


async def test_silence(client: Client, new_id: str, events: RunEvents) -> None:
    """Without an answer within the ack wait, the attempt is repeated; signs of life extend it."""
    receiver = await Receiver.start(client.nats, None)
    await schedule(client, receiver, new_id, {"Gozo-Ack-Wait": "1s"})
    (first,) = await receiver.wait()
    for _ in range(4):
        await asyncio.sleep(0.5)
        await receiver.say(first, b"+WPI")
        assert len(receiver.all) == 1, "tried again though the receiver is at work"
    _, second = await receiver.wait(2)
    assert second.at - first.at >= 2.9
    assert (await events.find("retrying"))["reason"] == "no answer came in time"
    assert (await events.find("succeeded"))["attempts"] == 2


async def test_terminated(client: Client, new_id: str, events: RunEvents) -> None:
    """`+TERM` ends the run, whatever attempts are left; it is kept as failed."""
    receiver = await Receiver.start(client.nats, b"+TERM the \xff disk\r\nis gone")
    await schedule(client, receiver, new_id)
    failed = await events.find("failed")
    assert (failed["reason"], failed["attempts"]) == ("the \ufffd disk is gone", 1)
    (key,) = await events.runs()
    assert (await entry_of(client, key))["Gozo-State"] == "failed"
    assert len(receiver.all) == 1


async def test_attempts(client: Client, new_id: str, events: RunEvents) -> None:
    """After the last attempt, the run is given up."""
    receiver = await Receiver.start(client.nats, b"-NAK one", b"-NAK two", b"-NAK three")
    await schedule(client, receiver, new_id, {"Gozo-Attempts": "2"})
    failed = await events.find("failed")
    assert (failed["reason"], failed["attempts"]) == ("two", 2)
    assert [one.attempt for one in receiver.all] == [1, 2]


async def test_max_age(client: Client, new_id: str, events: RunEvents) -> None:
    """A run that is too old is given up, with its last answer as the reason."""
    receiver = await Receiver.start(client.nats, *[b"-NAK no disk"] * 100)
    await schedule(client, receiver, new_id, {"Gozo-Max-Age": "500ms", "Gozo-Backoff": "200ms"})
    assert (await events.find("failed"))["reason"] == "no disk"
    assert 2 <= len(receiver.all) <= 3


async def test_too_long_a_delay(client: Client, new_id: str, events: RunEvents) -> None:
    """A delay beyond that time does not keep the run any longer."""
    receiver = await Receiver.start(client.nats, b'-NAK {"delay": 3600000000000}')
    await schedule(client, receiver, new_id, {"Gozo-Max-Age": "500ms"})
    assert (await events.find("failed"))["reason"] == REFUSED
    assert len(receiver.all) == 1


async def test_nobody(client: Client, new_id: str, events: RunEvents) -> None:
    """While nobody subscribes, attempts are repeated soon and do not count."""
    receiver = await Receiver.start(client.nats)
    await receiver.leave()
    await schedule(client, receiver, new_id, {"Gozo-Attempts": "1", "Gozo-Ack-Wait": "1h"})
    (key,) = await events.wait_for_run("retrying")
    entry = await entry_of(client, key)
    assert entry["Gozo-Reason"] == NOBODY + receiver.subject
    assert entry["Gozo-Tried"] == "0"
    await receiver.listen()
    assert (await events.find("succeeded"))["attempts"] == 1
    assert "retrying" not in events.kinds


async def test_nobody_for_too_long(client: Client, new_id: str, events: RunEvents) -> None:
    """The run is given up, and that is the reason."""
    receiver = await Receiver.start(client.nats)
    await receiver.leave()
    await schedule(client, receiver, new_id, {"Gozo-Max-Age": "300ms"})
    failed = await events.find("failed")
    assert (failed["reason"], failed["attempts"]) == (NOBODY + receiver.subject, 0)


@pytest.mark.parametrize("state", ["full", "open"])
async def test_a_stream_is_no_receiver(
    running: Running, client: Client, new_id: str, events: RunEvents, state: str
) -> None:
    """The acknowledgement of a stream that captures the subject is ignored, with one warning."""
    stream = f"S{new_id[3:]}"
    receiver = await Receiver.start(client.nats, None, None, subject=f"captured.{new_id}")
    limits = {"max_msgs": 1, "discard": "new"} if state == "full" else {}
    if state == "full":
        config = {"name": stream, "subjects": [receiver.subject], **limits}
        await call(client, f"STREAM.CREATE.{stream}", config)
        await client.nats.jetstream().publish(receiver.subject, b"")
    else:
        await call(client, f"STREAM.CREATE.{stream}", {"name": stream, "subjects": ["captured.>"]})
    receiver.all.clear()
    mark = running.daemon.mark()
    await schedule(client, receiver, new_id, {"Gozo-Ack-Wait": "1s"})
    await receiver.wait(2)
    assert (await events.find("retrying"))["reason"] == "no answer came in time"
    await events.find("succeeded")
    told = await running.daemon.event("run.captured", id=new_id, since=mark)
    assert told.fields["reason"].startswith(f"a stream captures {receiver.subject}")
    await client.nats.jetstream().delete_stream(stream)


async def test_late(client: Client, new_id: str, events: RunEvents) -> None:
    """`+ACK` also counts for an attempt that had timed out."""
    receiver = await Receiver.start(client.nats, None, None)
    await schedule(client, receiver, new_id, {"Gozo-Ack-Wait": "1s"})
    first, _ = await receiver.wait(2)
    await receiver.say(first, b"+ACK")
    await events.find("succeeded")
    assert await events.runs() == []
    assert len(receiver.all) == 2


async def test_late_after_the_last(client: Client, new_id: str, events: RunEvents) -> None:
    """It counts even after the run was given up."""
    receiver = await Receiver.start(client.nats, None)
    await schedule(client, receiver, new_id, {"Gozo-Ack-Wait": "1s", "Gozo-Attempts": "1"})
    assert (await events.find("failed"))["reason"] == "no answer came in time"
    assert await receiver.ask(receiver.all[0], b"+ACK") == b"+OK"
    await events.find("succeeded")
    assert await events.runs() == []


async def test_a_late_sign_of_life(client: Client, new_id: str, events: RunEvents) -> None:
    """A receiver whose attempt had timed out keeps the job if it is still at work."""
    receiver = await Receiver.start(client.nats, None)
    headers = {"Gozo-Ack-Wait": "1s", "Gozo-Backoff": "2s"}
    await schedule(client, receiver, new_id, headers)
    await events.find("retrying")
    assert await receiver.ask(receiver.all[0], b"+WPI") == b"+OK"
    (key,) = await events.wait_for_run("running")
    assert (await entry_of(client, key))["Gozo-Tried"] == "0"
    for _ in range(4):
        await asyncio.sleep(0.6)
        await receiver.say(receiver.all[0], b"+WPI")
    await receiver.say(receiver.all[0], b"+ACK")
    assert (await events.find("succeeded"))["attempts"] == 1
    assert len(receiver.all) == 1


@pytest.mark.parametrize("first", [b"-NAK", b'-NAK {"busy": true}', b"+TERM", b"+ACK"])
async def test_the_first_final_answer_decides(
    client: Client, new_id: str, events: RunEvents, first: bytes
) -> None:
    """Further answers of the receiver to the same attempt are only counted."""
    receiver = await Receiver.start(client.nats, None, None)
    await schedule(client, receiver, new_id, {"Gozo-Backoff": "1s", "Gozo-Ack-Wait": "1h"})
    (came,) = await receiver.wait()
    said = [first, b"+TERM", b"+WPI", b"-NAK", b"+ACK", first]
    for one in said:
        await receiver.say(came, one)
    assert await receiver.ask(came, b"+ACK") == b"+OK"
    if first == b"+ACK":
        await events.find("succeeded")
        assert "failed" not in events.kinds
    elif first == b"+TERM":
        await events.find("failed")
        assert await receiver.ask(came, b"+ACK") == b"+OK"
        assert len(await events.runs()) == 1
    else:
        _, again = await receiver.wait(2)
        assert again.attempt == (2 if first == b"-NAK" else 1)
        await receiver.say(again, b"+ACK")
        await events.find("succeeded")
    assert events.kinds.count("succeeded") == (first != b"+TERM")


@pytest.mark.parametrize("answer", [b"+ACK", b"-NAK", b"+TERM", b'-NAK {"busy": true}'])
async def test_ok_once_it_is_stored(
    client: Client, new_id: str, events: RunEvents, answer: bytes
) -> None:
    """`+OK` means that the outcome is in the bucket; a repeated answer gets it as well."""
    receiver = await Receiver.start(client.nats, None)
    await schedule(client, receiver, new_id, {"Gozo-Backoff": "1h"})
    (came,) = await receiver.wait()
    assert await receiver.ask(came, b"+WPI") == b"+OK"
    assert await events.states() == ["running"]
    assert await receiver.ask(came, answer) == b"+OK"
    expected = {b"+ACK": [], b"+TERM": ["failed"]}
    if b"busy" not in answer:
        assert await events.states() == expected.get(answer, ["retrying"])
    assert await receiver.ask(came, answer) == b"+OK"


async def test_tokens_that_are_no_attempts(client: Client) -> None:
    """Answers to a schedule that is gone are no error, and claims are not granted."""
    for words, answer in [
        (b"+ACK", b"+OK"),
        (b"", b"+OK"),
        (b"-NAK", b"+OK"),
        (b"+WPI", b"+OK"),
        (b"+CLAIM n", b"+NO"),
    ]:
        told = await client.nats.request("gozo.ack.nothing", words, timeout=allow(5))
        assert told.data == answer


async def test_ack_sync(client: Client, new_id: str, events: RunEvents) -> None:
    """It works as with JetStream."""
    deliveries: asyncio.Queue[Any] = asyncio.Queue()
    await client.nats.subscribe(f"to.{new_id}", "q", deliveries.put)
    headers = {**QUICK, "Gozo-Id": new_id}
    assert (await ask(client, headers, reply=f"to.{new_id}"))["status"] == "stored"
    message = await deliveries.get()
    await message.in_progress()
    await message.ack_sync(timeout=allow(2))
    await events.find("succeeded")
    assert await events.runs() == []
