"""How a delivery is confirmed, from client to bucket and back, with and without a daemon."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from gozo.client import Client, Wanted, manifest
from gozo.errors import RequestError
from gozo.schedule.model import Confirm, Confirmation, Overlap, ScheduleSpec
from tests.support.patience import until
from tests.support.places import LATER, Place

FULL = Confirmation(
    Confirm.REPLY,
    ack_wait_us=90_000_000,
    backoff_us=(1_000_000, 60_000_000),
    max_age_us=600_000_000,
    overlap=Overlap.SKIP,
    dead_letter="failed",
)


async def test_what_is_asked_for_is_stored(client: Client, place: Place, new: str) -> None:
    """Every option is, both by a request and by a write to the bucket."""
    await client.schedule(
        *("jobs", b"full"),
        when="@daily",
        id=new,
        confirm="reply",
        attempts=3,
        ack_wait=timedelta(seconds=90),
        backoff="1s,1m",
        max_age="10m",
        overlap="skip",
        dead_letter="failed",
    )
    found = await client.get(new)
    assert found is not None
    assert (found.confirm, found.attempts, found.confirmation) == ("reply", 3, FULL)
    assert (found.state, found.is_run) == ("pending", False)
    await client.schedule("jobs", when=LATER, id=new, confirm="stream", ttl="5m")
    found = await client.get(new)
    assert found is not None
    assert (found.confirm, found.attempts) == (True, 0)
    assert found.confirmation == Confirmation(Confirm.STREAM, ttl_us=300_000_000)


async def test_an_export_is_applied_without_changes(client: Client, place: Place, new: str) -> None:
    """A file has what was read, and applying it changes nothing."""
    wanted = [
        Wanted(f"{new}-plain", "jobs", "+10h"),
        Wanted(f"{new}-stream", "jobs", "+10h", confirm=True, attempts=3),
        Wanted(f"{new}-ttl", "jobs", "+10h", confirm=True, ttl="5m", max_age="1h"),
        Wanted(f"{new}-claim", "jobs", "+10h", confirm="claim", dead_letter="failed"),
        Wanted(
            *(f"{new}-reply", "jobs", "@daily"),
            spec=ScheduleSpec(recurs=True),
            confirm=Confirm.REPLY,
            ack_wait="1m30s",
            backoff=["1s", timedelta(minutes=1)],
            max_age=timedelta(minutes=10),
            overlap="allow",
        ),
    ]
    wanted = [replace(one, managed_by=new) for one in wanted]
    assert {one.action for one in await client.apply(wanted)} == {"create"}
    assert {one.action for one in await client.apply(wanted)} == {"leave"}
    stored = [found for one in wanted if (found := await client.get(one.id))]
    text = manifest.write(stored)
    read = manifest.parse(text, "f.toml", "f", lambda path: b"").wanted
    assert [one.action for one in await client.apply(read, prune=[new])] == ["leave"] * 5
    changed = [replace(one, max_age="2h") for one in read if one.confirm]
    plan = await client.apply(changed, dry_run=True)
    assert [one.keys for one in plan] == [("max-age",)] * 4
    for old, one in zip(stored[1:], changed, strict=True):
        shown = manifest.difference(one.id, old, one, ("a", "b"))
        assert '+max-age = "7200s"' in shown
        assert len([line for line in shown[3:] if line[0] != " "]) in (1, 2)


async def test_a_change_keeps_the_due_time(client: Client, place: Place, new: str) -> None:
    """A change of how it is confirmed does not restart the schedule."""
    wanted = Wanted(new, "jobs", "+10h", confirm=True, managed_by=new)
    await client.apply([wanted])
    before = await client.get(new)
    (done,) = await client.apply([replace(wanted, confirm="claim", ack_wait="1m")])
    assert (done.action, done.keys) == ("change", ("confirm", "ack-wait"))
    after = await client.get(new)
    assert before is not None
    assert after is not None
    assert (after.due, after.confirm) == (before.due, "claim")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dead_letter": "$SYS.x"}, "the dead-letter subject '$SYS.x' begins with '$'"),
        ({"dead_letter": "gozo"}, "the dead-letter subject 'gozo' belongs to gozo"),
        ({"dead_letter": "a.*"}, "the dead-letter subject 'a.*' has the wildcard '*'"),
        ({"ack_wait": "0"}, "invalid Gozo-Ack-Wait '0': expected 1s or more"),
    ],
)
async def test_what_is_refused(
    client: Client, place: Place, new: str, options: dict[str, str], said: str
) -> None:
    """Invalid options are refused before anything is sent."""
    with pytest.raises(RequestError) as caught:
        await client.request("jobs", when=LATER, confirm="reply", **options)  # type: ignore[arg-type]
    assert said in str(caught.value)
    with pytest.raises(RequestError) as caught:
        client.check(Wanted(new, "jobs", "+1h", confirm="reply", **options))  # type: ignore[arg-type]
    assert said in str(caught.value)


async def test_a_daemon_s_run_is_seen_and_cancelled(client: Client, place: Place, new: str) -> None:
    """While its receiver is silent, it is shown as running under the id of its schedule."""
    if not place.daemon:
        return

    async def is_running() -> bool:
        return bool([one async for one in client.list(prefix=new, state="running")])

    async def is_gone() -> bool:
        return await client.get(new) is None

    async def is_ended() -> bool:
        return all(run.last_attempt for run in await client.current_runs(new))

    async with client.listen(new) as messages:
        await client.schedule(new, b"x", when="+0", id=new, confirm="reply", dead_letter="failed")
        assert ("Gozo-Attempt", "1") in (await anext(messages)).headers
        await until(is_running, "its attempt is in the bucket")
        (run,) = await client.current_runs(new)
        assert (run.id, run.subject, run.payload, run.attempt) == (new, new, b"x", 1)
        assert (run.is_run, run.confirm, run.claimed) == (True, "reply", False)
        await until(is_gone, "its schedule is settled, a moment after its run is stored")
        (done,) = await client.cancel(new)
        assert (done.status, done.running) == ("cancelled", True)
        await until(is_ended, "it is not tried again")
        (run,) = await client.current_runs(new)
        assert run.state == "running"
