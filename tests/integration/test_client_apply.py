"""`Client.apply`: schedules as they are wanted, whoever else writes to the bucket."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gozo.client import Client, Wanted
from gozo.client import apply as applying
from gozo.client.apply import _Lock
from gozo.errors import ExistsError, RequestError
from gozo.schedule.model import ScheduleSpec
from gozo.store.bucket import open_bucket
from tests.support.places import LATER, Place, listed
from tests.support.processes import Servers


def wanted(id_: str, payload: bytes = b"", *, set_: str = "set") -> Wanted:
    """Want something in an hour."""
    return Wanted(id_, "to", "+1h", payload, managed_by=set_)


async def actions(client: Client, *all_: Wanted, prune: str = "") -> list[str]:
    """Apply, and tell what was done."""
    done = await client.apply(all_, prune=[prune] if prune else [])
    return [one.action for one in done]


async def test_it_is_done_once(client: Client, place: Place, new: str) -> None:
    """The second time everything is as it is wanted, the due time included."""
    one, two = wanted(new, b"1"), wanted(f"{new}.2", b"2")
    assert await actions(client, one, two) == ["create", "create"]
    before = await listed(client)
    assert await actions(client, one, two) == ["leave", "leave"]
    assert await listed(client) == before
    (done,) = await client.apply([wanted(new, b"other")])
    assert (done.action, done.keys) == ("change", ("payload",))
    found = await client.get(new)
    assert found is not None
    assert (found.payload, found.managed_by) == (b"other", "set")


async def test_what_a_daemon_delivers_is_not_there_again(client: Client, place: Place) -> None:
    """What it delivered, at a moment that has passed, is not made anew; the set is not told."""
    past = Wanted("past", "to", "2020-01-01T00:00:00Z", managed_by="set")
    assert await actions(client, past) == ["past"]
    if not place.daemon:
        return
    async with client.listen("to") as messages:
        soon = Wanted("soon", "to", "+0", managed_by="set")
        assert await actions(client, soon) == ["create"]
        message = await anext(messages)
        assert [name for name, _ in message.headers] == ["Gozo-Reply", "Gozo-Id", "Gozo-Due"]


async def test_only_its_own_is_removed(client: Client, place: Place, new: str) -> None:
    """--prune removes what belongs to the set and is not wanted any more; nothing else."""
    await client.schedule("to", when=LATER, id=f"{new}-free")
    await actions(client, wanted(f"{new}-a", set_=new), wanted(f"{new}-b", set_=new))
    await actions(client, wanted(f"{new}-c", set_="another"))
    assert await actions(client, wanted(f"{new}-a", set_=new), prune=new) == ["leave", "remove"]
    left = {key for key in await listed(client) if key.startswith(new)}
    assert left == {f"{new}-free", f"{new}-a", f"{new}-c"}


async def test_what_was_there_before(client: Client, place: Place, new: str) -> None:
    """What is as it is wanted is adopted and stays as it is; another set's is an error."""
    stored = await client.schedule("to", b"x", when="+1h", id=new)
    assert await actions(client, wanted(new, b"x")) == ["adopt"]
    found = await client.get(new)
    assert found is not None
    assert (found.due, found.managed_by) == (stored.due, "set")
    # A new due time is no new owner.
    await client.reschedule(new, "+2h")
    assert (await listed(client))[new].managed_by == "set"
    with pytest.raises(ExistsError, match="belongs to the set 'set', not to 'mine'"):
        await actions(client, wanted(f"{new}-x"), wanted(new, set_="mine"))
    assert f"{new}-x" not in await listed(client)


async def test_nothing_is_done_where_one_is_wrong(client: Client, place: Place, new: str) -> None:
    """What a daemon would refuse is refused before anything is written."""
    with pytest.raises(RequestError):
        await actions(client, wanted(new), Wanted(f"{new}-2", "a..b", "+1h"))
    assert new not in await listed(client)
    await client.apply([wanted(new)], dry_run=True)
    assert new not in await listed(client)


async def test_times_stay_unless_they_are_changed(client: Client, place: Place, new: str) -> None:
    """Another payload is no other due time; what recurs goes on as it did."""
    hourly = ScheduleSpec(recurs=True, until_us=4_000_000_000_000_000)
    for when, spec in (("+1h", None), ("@every 1h", hourly)):
        one = Wanted(new, "to", when, b"1", spec=spec, managed_by=new)
        await actions(client, one)
        before = (await listed(client))[new]
        assert await actions(client, one) == ["leave"]
        (done,) = await client.apply([replace(one, payload=b"2")])
        assert (done.action, done.keys) == ("change", ("payload",))
        after = (await listed(client))[new]
        assert (after.due, after.created) == (before.due, before.created)
        assert (after.spec, after.when) == (before.spec, before.when)


async def test_a_pause_is_wanted_or_not_spoken_of(client: Client, place: Place, new: str) -> None:
    """What is to be paused is so from the start; what says nothing of it leaves it as it is."""
    one = Wanted(new, "to", "@every 1h", managed_by=new, paused=True, note="till Monday")
    silent = replace(one, paused=None, note="")

    async def apply(wanted: Wanted) -> tuple[str, ...]:
        (done,) = await client.apply([wanted])
        assert await actions(client, wanted) == ["leave"]
        return done.keys

    async def state() -> tuple[str, str]:
        found = (await listed(client))[new]
        return found.state, found.reason

    assert await apply(one) == ()
    assert await state() == ("paused", "till Monday")
    assert await apply(replace(silent, payload=b"2")) == ("payload",)
    assert await state() == ("paused", "till Monday")
    due = (await listed(client))[new].due
    assert await apply(replace(one, note="for ever", payload=b"2")) == ("note",)
    assert await state() == ("paused", "for ever")
    assert await apply(replace(one, paused=False, payload=b"2")) == ("paused", "note")
    assert await state() == ("pending", "")
    assert await apply(replace(silent, payload=b"3")) == ("payload",)
    assert await state() == ("pending", "")
    assert (await listed(client))[new].due == due
    with pytest.raises(RequestError, match="the note has 201"):
        await client.apply([replace(one, note="x" * 201)])


async def test_two_who_apply_at_once(servers: Servers) -> None:
    """What is there afterwards is all of one, however often they meet."""
    server = servers.start()
    async with (
        await Client.connect(server.url) as first,
        await Client.connect(server.url) as second,
    ):
        for number in range(5):
            ones = [wanted(f"id-{i}", b"1-%d" % number) for i in range(300)]
            twos = [wanted(f"id-{i}", b"2-%d" % number) for i in range(300, 0, -1)]
            await asyncio.gather(
                first.apply(ones, prune=["set"]), second.apply(twos, prune=["set"])
            )
            found = [await first.get(id_) for id_ in await listed(first)]
            assert len({one.payload for one in found if one is not None}) == 1
            assert len(found) == 300


async def test_who_is_gone_is_not_waited_for(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mark that is not renewed is nobody's after a while, and who thaws then stops."""
    monkeypatch.setattr(applying, "LEASE", 0.2)
    server = servers.start()
    async with await Client.connect(server.url) as client:
        reader, writes = client._reader, client._writes
        bucket = await open_bucket(reader.js, reader.name, replicas=None)
        frozen = _Lock(reader, writes, bucket)
        await frozen.take(1)
        assert await actions(client, wanted("a")) == ["create"]
        frozen._renewed = 0
        with pytest.raises(RequestError, match="apply again"):
            await frozen.renew()


async def test_the_mark_is_nobodys_schedule(client: Client, place: Place, new: str) -> None:
    """Neither listed nor watched, nor invalid to a daemon."""
    watched = []
    async for change in client.watch():
        watched.append(change)
        if change.kind == "current":
            await actions(client, wanted(new))
        elif change.id == new:
            break
    assert all(not change.key.startswith("=_") for change in watched)
    assert all(not key.startswith("=_") for key in await listed(client))
    assert all(one.invalid == 0 for one in await client.replicas())
