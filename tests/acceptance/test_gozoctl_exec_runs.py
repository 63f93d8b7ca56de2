"""`gozoctl exec` as the receiver of what it has to confirm: claims, answers, signals."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from tests.support import forking
from tests.support.client import Client
from tests.support.daemon import Daemon
from tests.support.gozoctl import PROGRAM, Gozoctl
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.programs import require_program
from tests.support.receipts import ask
from tests.support.receiver import Receiver
from tests.support.run_events import RunEvents
from tests.support.running import Running

HELD = "echo >>begun; n=0; until [ -e go ] || [ $n = 400 ]; do sleep 0.05; n=$((n+1)); done"
"""Runs until there is a file `go`; 20 s at most, should the test fail."""


@pytest.fixture(scope="module")
def options() -> tuple[str, ...]:
    """Publish events: they tell what becomes of a run."""
    return ("--events",)


@pytest.fixture
async def events(client: Client, new_id: str) -> RunEvents:
    """Listen to what is published about the test's id."""
    return await RunEvents.listen(client, new_id)


async def store(client: Client, id_: str, confirm: str = "claim", **headers: str) -> None:
    """Schedule what is due now on the subject that is called as its id."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = {"Gozo-When": "+0", "Gozo-Id": id_, "Gozo-Confirm": confirm, **named}
    assert (await ask(client, asked, reply=id_.partition(":")[0]))["status"] == "stored"


async def without_a_slot(
    running: Running, client: Client, daemons: Daemons, subject: str
) -> Daemon:
    """Start a worker whose only slot is taken until its folder has a file `go`."""
    worker = await daemons.work(running.server, subject, "--", "sh", "-c", HELD)
    await client.nats.publish(subject)
    await until(lambda: begun(worker) == 1, "it has no free slot")
    return worker


def begun(worker: Daemon) -> int:
    """Return how many commands a worker has started."""
    path = worker.folder / "begun"
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.parametrize("confirm", ["reply", "claim"])
async def test_the_exit_status_decides(
    running: Running, client: Client, daemons: Daemons, new_id: str, confirm: str
) -> None:
    """0 is success, and anything else a failed attempt; the answer says more."""
    worker = await daemons.work(
        running.server, new_id, "--timeout", "0.5", "--", "sh", "-c", "read -r line; eval $line"
    )
    final: list[dict[str, str]] = []

    async def note(message: Msg) -> None:
        if message.headers:
            final.append(message.headers)

    await client.nats.subscribe("gozo.ack.*", cb=note)
    for script, kind, reason in (
        ("exit 0", "succeeded", ""),
        ("exit 3", "failed", "exit code 3"),
        ("kill -9 $$", "failed", "killed by SIGKILL"),
        ("sleep 20", "failed", "timed out after 0.5 s"),
    ):
        id_ = f"{new_id}:{script.replace(' ', '')}"
        events = await RunEvents.listen(client, id_.replace(":", "=3A").replace("$", "=24"))
        headers = {"Gozo-When": "+0", "Gozo-Id": id_, "Gozo-Confirm": confirm}
        asked = {**headers, "Gozo-Attempts": "1"}
        await ask(client, asked, reply=new_id, payload=f"{script}\n".encode())
        event = await events.find(kind)
        assert event.get("reason", "") == reason
        assert event["exit_status"] == int(final[-1]["Gozo-Exit-Status"])
        assert event["host"] == socket.gethostname()
    assert [one["Gozo-Exit-Status"] for one in final] == ["0", "3", "137", "124"]
    assert all(one["Gozo-Started"].endswith("Z") for one in final)
    assert 0.5 <= float(final[-1]["Gozo-Duration"].removesuffix("s")) < 20
    assert await worker.terminate() == 0


async def test_from_the_command_line(
    running: Running, client: Client, daemons: Daemons, new_id: str, tmp_path: Path
) -> None:
    """What is created with --confirm-reply is failed by its command, and then succeeds."""
    events = await RunEvents.listen(client, new_id)
    await daemons.work(running.server, new_id, "--", "sh", "-c", "[ -e ran ] || { >ran; exit 1; }")
    ctl = Gozoctl(tmp_path, running.server.url)
    ctl.ok("create", new_id, new_id, "--in", "0", "--confirm-reply", "--backoff", "50ms")
    assert (await events.find("retrying"))["reason"] == "exit code 1"
    assert (await events.find("succeeded"))["attempts"] == 2


@pytest.mark.parametrize("confirm", ["reply", "claim"])
async def test_a_long_command(
    running: Running,
    client: Client,
    daemons: Daemons,
    new_id: str,
    events: RunEvents,
    confirm: str,
) -> None:
    """It runs once, on one of two workers, however short the ack wait."""
    workers = [await daemons.work(running.server, new_id, "--", "sh", "-c", HELD) for _ in range(2)]
    await store(client, new_id, confirm, Gozo_Ack_Wait="1s")
    await until(lambda: sum(map(begun, workers)) == 1, "one runs it")
    await asyncio.sleep(2)
    for worker in workers:
        (worker.folder / "go").touch()
    assert (await events.find("succeeded"))["attempts"] == 1
    assert sum(map(begun, workers)) == 1
    assert "retrying" not in events.kinds


@pytest.mark.parametrize("confirm", ["reply", "claim"])
async def test_what_waits_goes_elsewhere(
    running: Running,
    client: Client,
    daemons: Daemons,
    new_id: str,
    events: RunEvents,
    confirm: str,
) -> None:
    """A worker without a free slot says so, and keeps a run from nobody: it is no attempt."""
    hung = await without_a_slot(running, client, daemons, new_id)
    await store(client, new_id, confirm, Gozo_Attempts="1", Gozo_Ack_Wait="1s")
    await hung.event("exec.waiting", waiting="1")
    free = await daemons.work(running.server, new_id, "--", "sh", "-c", "echo >>begun")
    assert (await events.find("succeeded"))["attempts"] == 1
    assert (begun(hung), begun(free)) == (1, 1)
    (hung.folder / "go").touch()


async def test_what_waits_has_its_turn(
    running: Running, client: Client, daemons: Daemons, new_id: str
) -> None:
    """Where one worker gets more than it can run at a time, all run, each once."""
    listening = [await RunEvents.listen(client, f"{new_id}=3A{n}") for n in range(12)]
    worker = await daemons.work(running.server, new_id, "--", "sh", "-c", "echo >>begun")
    for number in range(12):
        await store(client, f"{new_id}:{number}", Gozo_Attempts="1")
    for events in listening:
        await events.find("succeeded")
    assert begun(worker) == 12


@pytest.mark.parametrize("confirm", ["reply", "claim"])
async def test_a_signal_gives_back_what_waits(
    running: Running,
    client: Client,
    daemons: Daemons,
    new_id: str,
    events: RunEvents,
    confirm: str,
) -> None:
    """What runs ends; what waits is offered again at once, and is no attempt."""
    first = await without_a_slot(running, client, daemons, new_id)
    await store(client, new_id, confirm, Gozo_Attempts="1", Gozo_Ack_Wait="1h")
    await first.event("exec.waiting", waiting="1")
    second = await daemons.work(running.server, new_id, "--", "sh", "-c", "echo >>begun")
    first.send(signal.SIGTERM)
    await first.event("exec.stopping", running="1", waiting="1")
    await until(lambda: begun(second) == 1, "it runs elsewhere")
    assert (await events.find("succeeded"))["attempts"] == 1
    (first.folder / "go").touch()
    assert await first.wait() == 0
    assert begun(first) == 1


async def test_a_second_signal(
    running: Running, client: Client, daemons: Daemons, new_id: str, events: RunEvents
) -> None:
    """What it interrupts has failed: another worker has it, long before the ack wait is over."""
    first = await daemons.work(running.server, new_id, "--", "sh", "-c", f"{HELD}; exit 1")
    await store(client, new_id, Gozo_Ack_Wait="1h", Gozo_Backoff="50ms")
    await until(lambda: begun(first) == 1, "it runs")
    second = await daemons.work(running.server, new_id, "--", "sh", "-c", "echo >>begun")
    first.send(signal.SIGTERM)
    await first.event("exec.stopping")
    first.send(signal.SIGTERM)
    assert await first.wait() == 130
    assert (await events.find("retrying"))["reason"] == "the command was interrupted"
    await events.find("succeeded")
    assert begun(second) == 1


async def test_an_end_while_no_daemon_runs(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """The answer waits until gozo is back; the slot is free meanwhile, and nothing starts twice."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    worker = await daemons.work(server, "jobs", "--", "sh", "-c", HELD)
    await store(client, "jobs", Gozo_Attempts="1")
    await until(lambda: begun(worker) == 1, "it runs")
    await daemon.kill()
    (worker.folder / "go").touch()
    await worker.event("command.ended", status="0")
    await client.nats.publish("jobs")
    await until(lambda: begun(worker) == 2, "something else runs")
    await daemons.serve(server, "--events")
    events = await RunEvents.listen(client, "jobs")

    async def is_settled() -> bool:
        return await events.runs() == []

    await until(is_settled, "the run is settled")
    assert await worker.terminate() == 0
    assert begun(worker) == 2


async def test_an_end_that_nobody_hears(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """A worker that has to end waits for gozo; after a second signal it exits with 1."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    worker = await daemons.work(server, "jobs", "--", "sh", "-c", HELD)
    await store(client, "jobs")
    await until(lambda: begun(worker) == 1, "it runs")
    await daemon.kill()
    worker.send(signal.SIGTERM)
    await worker.event("exec.stopping")
    (worker.folder / "go").touch()
    await worker.event("command.ended", status="0")
    assert worker.alive
    worker.send(signal.SIGTERM)
    assert await worker.wait() == 1
    assert (await worker.event("message.unanswered")).fields["id"] == "jobs"


async def test_once(
    running: Running, client: Client, daemons: Daemons, new_id: str, events: RunEvents
) -> None:
    """It waits for a run that it may start, and ends once gozo has its answer."""
    other = await Receiver.start(client.nats, None)
    asked = {"Gozo-When": "+0", "Gozo-Id": f"{new_id}:other", "Gozo-Confirm": "claim"}
    await ask(client, asked, reply=other.subject)
    job = (await other.wait())[0]
    assert await other.ask(job, b"+CLAIM nonce") == b"+GO"
    worker = await daemons.work(running.server, new_id, "--once", "--", "sh", "-c", "exit 7")
    seen = worker.mark()
    await client.nats.publish(new_id, reply=job.reply)
    await worker.event("message.refused")
    await worker.event("exec.ready", since=seen)
    await store(client, new_id, Gozo_Attempts="1")
    assert await worker.wait() == 7
    assert (await events.find("failed"))["reason"] == "exit code 7"
    assert await other.ask(job, b"+ACK") == b"+OK"


async def test_forged_messages(
    running: Running, client: Client, daemons: Daemons, new_id: str
) -> None:
    """What gozo did not offer is not started, and nothing is said where gozo does not listen."""
    worker = await daemons.work(running.server, new_id, "--", "sh", "-c", "echo >>begun")
    answers = await Receiver.start(client.nats, subject="victim.>")
    await client.nats.publish(new_id, reply="gozo.ack.unknown")
    await worker.event("message.refused")
    assert begun(worker) == 0
    await client.nats.publish(new_id, reply="victim.of.answers")
    await worker.event("command.ended", status="0")
    await client.nats.publish(new_id, reply="gozo.ack.unknown")
    await until(lambda: len(worker.events("message.refused")) == 2, "the second is refused too")
    assert answers.all == []


async def test_nobody_reads_the_log(
    running: Running, client: Client, new_id: str, events: RunEvents, tmp_path: Path
) -> None:
    """A command whose output is logged waits for the reader, and gozo still gets signs of life."""
    size = 20_000_000
    command = (
        "sh",
        "-c",
        f"yes 'a line of output' | head -c {size}; echo; echo >>{tmp_path}/ended",
    )
    with forking.start(
        [*PROGRAM, "exec", new_id, "--log-output", "--", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=Gozoctl(tmp_path, running.server.url).variables(),
        cwd=tmp_path,
    ) as process:
        try:
            assert process.stderr is not None
            while b"exec.ready" not in await asyncio.to_thread(process.stderr.readline):
                pass
            await store(client, new_id, Gozo_Ack_Wait="1s", Gozo_Attempts="1")
            await events.wait_for_run("running")
            await asyncio.sleep(2)
            assert await events.states() == ["running"]
            assert not (tmp_path / "ended").exists()
            reading = asyncio.create_task(asyncio.to_thread(process.stderr.read))
            assert (await events.find("succeeded"))["attempts"] == 1
            process.send_signal(signal.SIGTERM)
            log = await reading
        finally:
            process.kill()
    assert log.count(b'line="a line of output"') == size // 17
    assert b"command.ended" in log.splitlines()[-2]


async def test_the_first_process_of_a_container(
    running: Running, client: Client, daemons: Daemons, new_id: str
) -> None:
    """It reaps what a command leaves to it, and a time-out does not wait for what has ended."""
    unshare = require_program("unshare", package="util-linux")
    script = "(sleep 30 & sleep 30 & sleep 30 &); sleep 30"
    worker = daemons.start(
        *("exec", new_id, "--timeout", "0.5", "--kill-after", "30", "--", "sh", "-c", script),
        variables={"NATS_ADDRESS": running.server.url},
        program=[str(unshare), "--pid", "--fork", "--mount-proc", "--kill-child", *PROGRAM],
    )
    await worker.event("exec.ready")
    await client.nats.publish(new_id)
    ended = await worker.event("command.ended", status="124", timeout=allow(20))
    assert float(ended.fields["duration_ms"]) < 20_000
    (first,) = children(worker.pid)
    assert children(first) == []
    await client.nats.publish(new_id)
    await until(lambda: len(worker.events("command.ended")) == 2, "exit codes are kept")
    assert worker.events("command.ended")[1].fields["status"] == "124"


def children(pid: int) -> list[int]:
    """Return the child processes of a process, zombies too."""
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


async def test_once_without_a_log(
    running: Running, client: Client, new_id: str, tmp_path: Path
) -> None:
    """Closed standard error is no reason not to work."""
    ctl = Gozoctl(tmp_path, running.server.url)
    await store(client, new_id)
    script = f"gozoctl exec {new_id} --once -- sh -c 'exit 5' 2>&-"
    assert (await asyncio.to_thread(ctl.shell, script)).code == 5
