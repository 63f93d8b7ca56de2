"""How runs ended, as the client reads it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from gozo.client import Client, NotFoundError, Outcome
from tests.support.client import Client as RawClient
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receiver import Receiver, Say

WORK = {"Gozo-Exit-Status": "3", "Gozo-Host": "web1", "Gozo-Duration": "0.5"}
FAILED = Say(b"no disk\n", {**WORK, "Gozo-Answer": "-NAK"})


@contextlib.asynccontextmanager
async def connected(
    servers: Servers, daemons: Daemons, clients: Clients, *options: str
) -> AsyncIterator[tuple[Client, RawClient]]:
    """Start a server with a daemon, and connect the client and one that receives."""
    server = servers.start()
    await daemons.serve(server, *options)
    async with await Client.connect(server.url) as client:
        yield client, await clients.connect(server)


async def outcomes(client: Client, id_: str | None = None, *, failed: bool = False) -> list[str]:
    """Read how the runs of an id ended, or of all."""
    return [one.reason async for one in client.outcomes(id_, failed=failed)]


async def test_a_single_schedule(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """While its run is at work it has not left; then it is known how the run ended."""
    async with connected(servers, daemons, clients) as (client, raw):
        receiver = await Receiver.start(raw.nats, None)
        begun = datetime.now(UTC)
        await client.schedule(receiver.subject, when="+0", id="a", confirm="reply")
        (job,) = await receiver.wait()
        assert await client.last_outcome("a") is None
        assert await receiver.ask(job, b"+ACK") == b"+OK"
        # The schedule itself leaves the bucket a moment later than its run.
        await until(lambda: has(client, "a", "succeeded"), "the schedule is gone")
        found = await client.last_outcome("a")
        assert found is not None
        assert found.at is not None
        assert found.due is not None
        assert (found.reason, found.id, found.subject) == ("succeeded", "a", receiver.subject)
        assert (found.attempt, found.is_failure, found.detail) == (1, False, "")
        assert begun - timedelta(seconds=1) < found.due <= found.at

        receiver.script.append(b"+TERM no disk")
        await client.schedule(receiver.subject, when="+0", id="a", confirm="reply")
        await until(lambda: has(client, "a", "failed"), "it failed")
        assert await outcomes(client, "a") == ["succeeded", "failed"]

        await client.schedule(receiver.subject, when="+1h", id="a")
        await client.cancel("a")
        assert await has(client, "a", "cancelled"), "what came later counts"


async def has(client: Client, id_: str, reason: str) -> bool:
    """Tell whether the last outcome of an id is this one."""
    found = await client.last_outcome(id_)
    return found is not None and found.reason == reason


async def test_a_recurring_schedule(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """It has the last outcome; the streams have all, and the output of each."""
    async with connected(servers, daemons, clients) as (client, raw):
        receiver = await Receiver.start(raw.nats, b"+ACK", FAILED)
        await client.schedule(
            receiver.subject,
            when="@every 1h",
            id="a",
            confirm="claim",
            attempts=1,
            keep_output=True,
            expect="2h",
        )
        before = await client.get("a")
        assert before is not None
        assert (before.outcome, before.overdue_at) == (None, before.due + timedelta(hours=2))
        for number in (1, 2):
            await client.trigger("a", force=True)
            await until(lambda number=number: ended(client, number), f"run {number} ended")
        await until(lambda: has_last(client, "failed"), "the entry has the last outcome")
        after = await client.get("a")
        assert after is not None
        assert after.overdue_at == before.overdue_at
        found = after.outcome
        assert isinstance(found, Outcome)
        assert (found.reason, found.host, found.exit_status) == ("failed", "web1", 3)
        assert (found.took, found.attempt) == (timedelta(seconds=0.5), 1)
        assert found.is_failure
        (failed,) = [one async for one in client.outcomes(failed=True)]
        assert (failed.reason, failed.detail) == ("failed", "exit status 3")
        assert await outcomes(client, "a") == ["succeeded", "failed"]
        assert await outcomes(client, "b") == []
        assert await client.output("a") == await client.output("a", failed.occurrence)
        assert await client.output("a") == b"no disk\n"
        assert await client.output("a", "other") is None
        assert await client.output("b") is None
        later = datetime.now(UTC) + timedelta(minutes=1)
        assert [one async for one in client.outcomes(since=later)] == []


async def has_last(client: Client, reason: str) -> bool:
    """Tell whether the entry of the schedule says that it ended like this."""
    found = await client.get("a")
    return found is not None and found.outcome is not None and found.outcome.reason == reason


async def ended(client: Client, count: int) -> bool:
    """Tell whether this many runs of the schedule have ended, and its entry says so."""
    schedule = await client.get("a")
    assert schedule is not None
    return schedule.outcome is not None and len(await outcomes(client)) == count


async def test_outcomes_that_are_not_kept(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """The error says so; how a schedule left the bucket is known all the same."""
    async with connected(servers, daemons, clients, "--outcomes", "0") as (client, raw):
        receiver = await Receiver.start(raw.nats)
        await client.schedule(receiver.subject, when="+0", id="a", confirm="reply")
        await receiver.wait()
        await until(lambda: has(client, "a", "delivered"), "it is delivered")
        with pytest.raises(NotFoundError, match="without --outcomes 0"):
            await anext(aiter(client.outcomes()))
        assert await client.output("a") is None
