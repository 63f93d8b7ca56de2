"""Workers that are killed, frozen or stopped: nothing starts twice, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import time
from pathlib import Path

import pytest

from gozo.client import Client
from tests.support.hosts import Hosts, apply, settled, starts_of, table
from tests.support.patience import allow, until
from tests.support.running import Running

ACK_WAIT = 1.0  # seconds
AGAIN = 3.0  # seconds after the ack wait within which a run starts again


async def test_a_killed_worker(gozo: Client, hosts: Hosts) -> None:
    """What it ran starts again on the other one, once, and is ended where it ran."""
    out = hosts.folder
    text = table("j", f"echo $$ >> '{out}/j'; sleep 1000", attempts=9, ack_wait="1s", backoff="0")
    text = "".join(text.replace('"j"', f'"j{n}"').replace("cron.j", f"cron.j{n}") for n in range(4))
    workers = [await hosts.start(text, f"web{n}") for n in range(2)]
    await apply(gozo, text)
    for number in range(4):
        await gozo.trigger(f"j{number}")
    await hosts.written("j", 4)
    await until(lambda: len(starts_of(*workers)) == 4, "all are logged")
    ours = {one["id"]: one["pid"] for one in starts_of(workers[0])}
    if not ours:
        workers.reverse()
        ours = {one["id"]: one["pid"] for one in starts_of(workers[0])}
    before = len(starts_of(workers[1]))
    mark = workers[1].mark()
    killed_at = time.time()
    await workers[0].kill()
    for id_ in ours:
        await workers[1].event("job.started", id=id_, attempt="2", since=mark)
    assert time.time() - killed_at < allow(ACK_WAIT + AGAIN)
    folders = [Path(f"/proc/{pid}") for pid in ours.values()]
    await until(lambda: not any(folder.exists() for folder in folders), "they have ended")
    await asyncio.sleep(2 * ACK_WAIT)  # those that run show signs of life: nothing more starts
    assert len(starts_of(workers[1])) == before + len(ours)
    assert len(hosts.lines("j")) == 4 + len(ours)


async def test_a_frozen_worker(gozo: Client, hosts: Hosts) -> None:
    """When it wakes, it starts nothing of what went elsewhere, though it has been offered it."""
    out = hosts.folder
    text = table("tick", f"echo $GOZO_ID >> '{out}/tick'", attempts=9, ack_wait="1s")
    frozen = await hosts.start(text, "web1")
    await apply(gozo, text)
    frozen.send(signal.SIGSTOP)
    async with gozo.listen("cron.tick") as offers:
        await gozo.trigger("tick")
        await anext(offers)  # only the frozen one is there to take it
    awake = await hosts.start(text, "web2")
    await hosts.written("tick")
    await settled(gozo, "tick")
    for count in range(1, 3):
        await gozo.trigger("tick")
        await hosts.written("tick", count + 1)
        await settled(gozo, "tick")
    mark = frozen.mark()
    async with gozo.listen("gozo.ack.*") as acks:
        frozen.send(signal.SIGCONT)
        asked = await asyncio.wait_for(anext(acks), allow(10))
        assert asked.payload.startswith(b"+CLAIM")  # the test would prove nothing otherwise
        await gozo.trigger("tick")
        await hosts.written("tick", 4)
        await settled(gozo, "tick")
    await until(lambda: len(starts_of(frozen, awake)) == 4, "four are logged")
    assert len(frozen.events("job.started", since=mark)) <= 1  # the last one may be its own
    assert len(hosts.lines("tick")) == 4


async def test_a_claim_that_was_granted_to_a_frozen_worker(gozo: Client, hosts: Hosts) -> None:
    """It is asked again after the thaw, since the run may have gone elsewhere."""
    out = hosts.folder
    script = f"echo $GOZO_ID >> '{out}/late'"
    text = table("late", script, "@every 1h", attempts=9, ack_wait="1s", overlap="allow")
    await apply(gozo, text)
    one = await hosts.start(text, "web1")
    async with gozo.listen("cron.late") as offers, gozo.listen("gozo.ack.*") as acks:
        for _ in range(20):
            await gozo.trigger("late")
            await anext(offers)
            while not (await anext(acks)).payload.startswith(b"+CLAIM"):
                pass  # the answer of the round before
            one.send(signal.SIGSTOP)
            await asyncio.sleep(0.05)  # enough for the command, if it was started
            if not hosts.lines("late"):
                break
            one.send(signal.SIGCONT)
            await settled(gozo, "late")
            (out / "late").unlink()
        else:
            pytest.skip("it was never frozen early enough")
        two = await hosts.start(text, "web2")
        await two.event("job.started")
        await settled(gozo, "late")
        before = len(hosts.lines("late"))
        one.send(signal.SIGCONT)
        await gozo.trigger("late")
        await hosts.written("late", before + 1)
        await settled(gozo, "late")
    assert len(hosts.lines("late")) == before + 1


async def test_a_command_that_outlives_its_worker(gozo: Client, hosts: Hosts) -> None:
    """It holds its lock until it has ended, so it never runs beside itself on a host."""
    out = hosts.folder / "lock"
    script = (
        f"trap '' TERM; first=$(head -n 1 {out} 2>&1); echo $$ >> {out}; "
        f"kill -0 $first 2>&1 && echo beside >> {out}; sleep 1000"
    )
    text = table("lock", script.replace("'", '"'), attempts=9, ack_wait="1s", backoff="0")
    await apply(gozo, text)
    one = await hosts.start(text)
    await gozo.trigger("lock")
    (first,) = await hosts.written("lock")
    two = await hosts.start(text)
    await one.kill()
    await two.event("job.locked", id="lock")
    assert Path(f"/proc/{first}").exists()
    await two.event("job.started", attempt="2")
    assert len(await hosts.written("lock", 2)) == 2
    two.send(signal.SIGTERM)
    await two.event("worker.stopping")
    two.send(signal.SIGTERM)
    two.send(signal.SIGINT)
    assert await two.wait() == 130
    assert len(hosts.lines("lock")) == 2


async def test_the_end_of_a_worker(gozo: Client, hosts: Hosts) -> None:
    """It waits for what runs and reports it, and gives back what comes meanwhile."""
    out = hosts.folder
    os.mkfifo(out / "go")
    text = table("waits", f"echo x >> '{out}/waits'; read -r _ < '{out}/go'")
    text += table("other", f"echo x >> '{out}/other'")
    await apply(gozo, text)
    one = await hosts.start(text)
    await gozo.trigger("waits")
    await hosts.written("waits")
    one.send(signal.SIGTERM)
    await one.event("worker.stopping", signal="SIGTERM", running="1")
    await gozo.trigger("other")
    two = await hosts.start(text)
    await hosts.written("other")
    assert one.alive
    (out / "go").write_text("go\n")
    assert await one.wait() == 0
    assert await settled(gozo, "waits") == ""
    assert [start["id"] for start in starts_of(two)] == ["other"]


async def test_an_answer_that_nobody_confirms(gozo: Client, hosts: Hosts, running: Running) -> None:
    """A second signal ends the wait for it, and the log says which one is lost."""
    os.mkfifo(hosts.folder / "go")
    text = table("lost", f"read -r _ < '{hosts.folder / 'go'}'")
    await apply(gozo, text)
    one = await hosts.start(text)
    await gozo.trigger("lost")
    await one.event("job.started")
    running.daemon.send(signal.SIGSTOP)
    try:
        (hosts.folder / "go").write_text("go\n")
        await one.event("job.ended")
        one.send(signal.SIGTERM)
        await one.event("worker.stopping")
        one.send(signal.SIGTERM)
        await one.event("job.unanswered", id="lost")
        assert await one.wait() == 130
    finally:
        running.daemon.send(signal.SIGCONT)


async def test_files_are_read_again(gozo: Client, hosts: Hosts) -> None:
    """On SIGHUP; what runs keeps its table, and a mistake changes nothing."""
    out = hosts.folder
    os.mkfifo(out / "go")
    text = table(
        "again", f"echo one >> '{out}/again'; read -r _ < '{out}/go'; echo end >> '{out}/again'"
    )
    await apply(gozo, text)
    worker = await hosts.start(text)
    await gozo.trigger("again")
    await hosts.written("again")
    file = worker.folder / "cron.toml"
    other = table("new", f"echo two >> '{out}/new'")
    await apply(gozo, other)
    file.write_text("wrong = 1")
    worker.send(signal.SIGHUP)
    failed = await worker.event("worker.not_reloaded")
    assert "unknown key 'wrong'" in failed.fields["reason"]
    file.write_text(other)
    worker.send(signal.SIGHUP)
    await worker.event("worker.reloaded", jobs="1")
    await gozo.trigger("new")
    await hosts.written("new")
    (out / "go").write_text("go\n")
    assert await hosts.written("again", 2) == ["one", "end"]
    assert await settled(gozo, "again") == ""
    await gozo.trigger("again")
    await asyncio.sleep(0.1)  # nobody subscribes to it any more
    assert hosts.lines("again") == ["one", "end"]
    assert await worker.terminate() == 0


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
async def test_another_user(gozo: Client, hosts: Hosts) -> None:
    """A worker of root runs commands as others, with their groups and nothing of its own."""
    text = table("who", "id -un; id -gn; id -Gn; echo $HOME $USER", user="nobody", directory="/")
    await apply(gozo, text)
    worker = await hosts.start(text)
    async with gozo.listen("gozo.ack.*") as answers:
        await gozo.trigger("who")
        async for answer in answers:
            if answer.headers:
                break
    nobody = pwd.getpwnam("nobody")
    group = answer.payload.split()[1].decode()
    assert answer.payload.decode().splitlines() == [
        *("nobody", group, group),
        f"{nobody.pw_dir} nobody",
    ]
    assert worker.alive
