"""`gozoctl exec` as a cron replacement: real commands, real signals, messages of both kinds."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from nats.js import api

from tests.support.client import Client
from tests.support.daemon import Daemon
from tests.support.gozoctl import Gozoctl
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.running import Running

NOTE = 'read -r line; echo "$line" >>ran'
"""Writes the payload to the file of what was run; commands run in their worker's folder."""

HELD = (
    NOTE + "; n=0; until [ -e go ] || [ $n = 400 ]; do sleep 0.05; n=$((n+1)); done; echo . >>ended"
)
"""Runs until there is a file `go`; 20 s at most, should the test fail."""


def lines(worker: Daemon, name: str = "ran") -> list[str]:
    """Return what commands of a worker have written to a file."""
    path = worker.folder / name
    return path.read_text().split() if path.exists() else []


async def ran(worker: Daemon, *payloads: str) -> None:
    """Wait until commands were run for just these payloads, in this order."""
    await until(lambda: lines(worker) == list(payloads), f"{payloads} ran: {worker.stderr}")


async def test_what_a_command_is_given(
    running: Running, client: Client, daemons: Daemons, new_id: str
) -> None:
    """The payload on stdin, the rest in the environment, nothing in the arguments."""
    script = "env -0 >env; printf '%s' \"$0 $*\" >arguments; cat >payload; cat /dev/stdin >again"
    worker = await daemons.work(
        running.server,
        f"jobs.{new_id}",
        "--",
        *("/bin/sh", "-c", script, "$(touch evil)", "a b"),
        variables={"GOZO_MESSAGE_DUE": "of another", "GOZO_MESSAGE_HEADER_OLD": "x"},
    )
    payload = bytes(range(256)) * 1000
    await client.send(
        {
            "Gozo-When": "+0",
            "Gozo-Id": f"$(touch evil) {new_id}",
            "Gozo-Receipt": f"receipts.{new_id}",
            "X-Trace.id": "`touch evil`",
        },
        reply=f"jobs.{new_id}",
        payload=payload,
    )
    ended = await worker.event("command.ended")
    assert ended.fields["id"] == f"$(touch evil) {new_id}"
    assert (ended.fields["status"], ended.fields["subject"]) == ("0", f"jobs.{new_id}")
    assert int(ended.fields["duration_ms"]) >= 0
    folder = worker.folder
    assert (folder / "payload").read_bytes() == (folder / "again").read_bytes() == payload
    assert (folder / "arguments").read_text() == "$(touch evil) a b"
    given = dict(line.split("=", 1) for line in (folder / "env").read_text().split("\0") if line)
    own = {name: value for name, value in given.items() if name.startswith("GOZO_MESSAGE_")}
    due = own.pop("GOZO_MESSAGE_DUE")
    assert due.endswith("Z")
    assert own == {
        "GOZO_MESSAGE_SUBJECT": f"jobs.{new_id}",
        "GOZO_MESSAGE_ID": f"$(touch evil) {new_id}",
        "GOZO_MESSAGE_HEADER_GOZO_REPLY": "Yes",
        "GOZO_MESSAGE_HEADER_GOZO_ID": f"$(touch evil) {new_id}",
        "GOZO_MESSAGE_HEADER_GOZO_DUE": due,
        "GOZO_MESSAGE_HEADER_X_TRACE_ID": "`touch evil`",
    }
    assert given["HOME"] == str(folder)
    assert not (folder / "evil").exists()


async def test_a_header_that_is_too_long(
    running: Running, client: Client, daemons: Daemons, new_id: str
) -> None:
    """It is omitted and logged, by name; the command is run, with all the rest."""
    worker = await daemons.work(running.server, new_id, "--", "sh", "-c", "env -0 >env")
    headers = {"X-Long": "x" * 200_000, "X-Short": "y", "Gozo-Id": new_id}
    await client.nats.publish(new_id, b"", headers=headers)
    ended = await worker.event("command.ended", id=new_id)
    assert ended.fields["status"] == "0"
    given = (worker.folder / "env").read_text()
    assert "GOZO_MESSAGE_HEADER_X_SHORT=y" in given
    assert "X_LONG" not in given
    [omitted] = worker.events("command.variables_omitted")
    assert omitted.fields["names"] == "GOZO_MESSAGE_HEADER_X_LONG"
    assert omitted.fields["id"] == new_id


async def test_one_at_a_time_in_order(
    running: Running, client: Client, daemons: Daemons, new_id: str
) -> None:
    """What comes while a command runs waits for its turn."""
    worker = await daemons.work(running.server, new_id, "--", "sh", "-c", HELD)
    for number in range(5):
        await client.nats.publish(new_id, b"%d" % number)
    await client.confirm()
    await ran(worker, "0")
    (worker.folder / "go").touch()
    await ran(worker, "0", "1", "2", "3", "4")


async def test_some_at_a_time(
    running: Running, client: Client, daemons: Daemons, new_id: str
) -> None:
    """With --max-parallel 2 two run at the same time, and never three."""
    worker = await daemons.work(
        running.server, new_id, "--max-parallel", "2", "--", "sh", "-c", HELD
    )
    for number in range(3):
        await client.nats.publish(new_id, b"%d" % number)
    await until(lambda: sorted(lines(worker)) == ["0", "1"], "two run")
    (worker.folder / "go").touch()
    await until(lambda: sorted(lines(worker)) == ["0", "1", "2"], "the third runs")


async def test_a_queue_and_everybody(
    running: Running, client: Client, daemons: Daemons, new_id: str
) -> None:
    """Of two workers one gets each message; one that stands apart gets all."""
    command = ("--", "sh", "-c", NOTE)
    first = await daemons.work(running.server, new_id, *command)
    second = await daemons.work(running.server, new_id, *command)
    apart = await daemons.work(running.server, new_id, "--queue", "another", *command)
    alone = await daemons.work(running.server, new_id, "--everywhere", *command)
    for number in range(20):
        await client.nats.publish(new_id, b"%d" % number)
    all_ = [str(number) for number in range(20)]
    await ran(apart, *all_)
    await ran(alone, *all_)
    await until(lambda: len(lines(first) + lines(second)) == 20, "each ran")
    assert sorted(map(int, lines(first) + lines(second))) == list(range(20))
    assert lines(first)
    assert lines(second)


async def test_time_out(running: Running, client: Client, daemons: Daemons, new_id: str) -> None:
    """SIGTERM, then SIGKILL, to all of the process group; the next message has its turn."""
    stubborn = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >child; sleep 20' & wait; sleep 20"
    worker = await daemons.work(
        running.server,
        *(new_id, "--timeout", "0.3", "--kill-after", "0.3", "--"),
        *("sh", "-c", f"read -r line; [ $line = 1 ] && exec sleep 20; {stubborn}"),
    )
    for payload in (b"0", b"1"):
        await client.nats.publish(new_id, payload)
    await until(lambda: len(worker.events("command.ended")) == 2, "both were ended")
    assert [one.fields["status"] for one in worker.events("command.ended")] == ["124", "124"]
    assert "timed out after 0.3 s" in worker.events("command.ended")[0].fields["reason"]
    child = int((worker.folder / "child").read_text())
    await until(lambda: not is_alive(child), "the child was killed as well")


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_waits_for_what_runs(
    running: Running,
    client: Client,
    daemons: Daemons,
    new_id: str,
    signal_number: signal.Signals,
) -> None:
    """What runs goes on, what waits for its turn runs too, and the exit code is 0.

    A terminal that is closed may send SIGHUP more than once.
    """
    worker = await daemons.work(running.server, new_id, "--", "sh", "-c", HELD)
    for payload in (b"0", b"1", b"2"):
        await client.nats.publish(new_id, payload)
    await ran(worker, "0")
    if signal_number is signal.SIGINT:
        worker.press_ctrl_c()
    else:
        worker.send(signal_number)
    await worker.event("exec.stopping", running="1", waiting="2")
    await client.nats.publish(new_id, b"too late")
    await client.confirm()
    if signal_number is signal.SIGHUP:
        worker.send(signal_number)
    assert worker.alive
    (worker.folder / "go").touch()
    assert await worker.wait() == 0
    assert lines(worker) == ["0", "1", "2"]
    assert lines(worker, "ended") == [".", ".", "."]
    assert not worker.events("exec.dropped")


async def test_a_second_signal_ends_what_runs(
    running: Running, client: Client, daemons: Daemons, new_id: str
) -> None:
    """It gets a SIGTERM, the exit code is 130, and what waited for its turn is told of."""
    script = "trap 'echo told >>ran; exit' TERM; echo begun >>ran; sleep 20 & wait"
    worker = await daemons.work(running.server, new_id, "--", "sh", "-c", script)
    await client.nats.publish(new_id)
    await client.nats.publish(new_id)
    await ran(worker, "begun")
    await worker.event("exec.waiting", waiting="1")
    worker.send(signal.SIGTERM)
    await worker.event("exec.stopping")
    worker.send(signal.SIGTERM)
    assert await worker.wait() == 130
    assert lines(worker) == ["begun", "told"]
    assert (await worker.event("exec.dropped")).fields["messages"] == "1"


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("sleep 20", 124)]
)
async def test_once(
    running: Running, client: Client, daemons: Daemons, new_id: str, script: str, code: int
) -> None:
    """It ends with the command's status, and takes no message from others but the one."""
    options = ("--once", "--timeout", "1", "--")
    worker = await daemons.work(running.server, new_id, *options, "sh", "-c", f"{NOTE}; {script}")
    for number in range(3):
        await client.nats.publish(new_id, b"%d" % number)
    await client.confirm()
    assert await worker.wait() == code
    assert lines(worker) == ["0"]
    assert not worker.events("exec.dropped")


async def test_once_that_never_was(running: Running, daemons: Daemons, new_id: str) -> None:
    """Ended before a message came, it has no status of a command to exit with."""
    worker = await daemons.work(running.server, new_id, "--once", "--", "true")
    assert await worker.terminate() == 130


async def test_too_many_messages(
    running: Running, client: Client, daemons: Daemons, new_id: str
) -> None:
    """What there is no room for is dropped, and said to be; what waited runs."""
    worker = await daemons.work(
        running.server, new_id, "--max-backlog", "10kB", "--", "sh", "-c", HELD
    )
    await client.nats.publish(new_id, b"first")
    await ran(worker, "first")
    for number in range(100):
        await client.nats.publish(new_id, b"%d" % number)
    assert (await worker.event("message.dropped")).fields["subject"] == new_id
    await client.confirm()
    (worker.folder / "go").touch()
    await until(lambda: len(lines(worker, "ended")) > 5, "those that waited run")
    await worker.terminate()
    assert lines(worker)[:4] == ["first", "0", "1", "2"]
    assert len(lines(worker)) <= 12


async def test_output(running: Running, client: Client, daemons: Daemons, new_id: str) -> None:
    """It goes where the worker's goes; or is logged, each line with the id and told apart."""
    script = "echo to stdout; echo to stderr >&2; printf 'no end\\033[1m'; exit 3"
    plain = await daemons.work(running.server, new_id, "--", "sh", "-c", script)
    logged = await daemons.work(
        running.server, new_id, "--everywhere", "--log-output", "--", "sh", "-c", script
    )
    await client.schedule("+0", reply=new_id, id=new_id)
    assert (await plain.event("command.ended")).fields["status"] == "3"
    assert await plain.terminate() == 0
    assert plain.stdout == "to stdout\nno end\x1b[1m"
    assert "\nto stderr\n" in plain.stderr
    await logged.event("command.ended")
    said = [(one.fields["stream"], one.fields["line"]) for one in logged.events("command.output")]
    assert sorted(said) == [
        ("stderr", "to stderr"),
        ("stdout", "no end\x1b[1m"),
        ("stdout", "to stdout"),
    ]
    assert "\x1b" not in logged.stderr
    assert {one.fields["id"] for one in logged.events("command.output")} == {new_id}
    assert logged.stdout == ""


async def test_background_output_holds_nothing_up(
    running: Running, client: Client, daemons: Daemons, new_id: str
) -> None:
    """A process that a command leaves behind may keep its output open."""
    worker = await daemons.work(
        running.server, new_id, "--log-output", "--", "sh", "-c", "sleep 15 & echo $! >ran"
    )
    await client.nats.publish(new_id)
    await worker.event("command.ended", status="0")
    os.kill(int(lines(worker)[0]), signal.SIGKILL)


async def test_it_outlives_the_server(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """A lost connection is made again; what runs meanwhile goes on."""
    server = servers.start()
    worker = await daemons.work(server, "jobs", "--", "sh", "-c", HELD)
    client = await clients.connect(server)
    await client.nats.publish("jobs", b"0")
    await ran(worker, "0")
    seen = worker.mark()
    server.restart()
    await worker.event("connection.made", since=seen)
    (worker.folder / "go").touch()
    await client.confirm()

    async def is_back() -> bool:
        await client.nats.publish("jobs", b"1")
        return lines(worker)[:2] == ["0", "1"]

    await until(is_back, "the server has its subscription again")
    assert lines(worker, "ended")[0] == "."


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("jobs", "--", "no-such-command"), 2, "'no-such-command' not found"),
        (("jobs", "--", "/etc/passwd"), 2, "'/etc/passwd'"),
        (("jobs",), 2, "COMMAND"),
        (("a..b", "--", "true"), 2, "'a..b'"),
        (("jobs", "--queue", "a b", "--", "true"), 2, "'a b'"),
        (("jobs", "--timeout", "soon", "--", "true"), 2, "--timeout 'soon'"),
        (("jobs", "--kill-after", "0", "--", "true"), 2, "--kill-after '0'"),
        (("jobs", "--max-backlog", "much", "--", "true"), 2, "'much'"),
        (("jobs", "--retries", "1", "--", "true"), 2, "--stream"),
        (("jobs", "--stream", "S", "--", "true"), 2, "--consumer"),
        (("jobs", "--stream", "S", "--consumer", "a.b", "--", "true"), 2, "'a.b'"),
        (("jobs", "--stream", "S", "--consumer", "C", "--", "true"), 1, "no stream 'S'"),
    ],
)
def test_what_cannot_be_done(
    running: Running, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """A sentence, and the exit code that goes with it."""
    done = Gozoctl(tmp_path, running.server.url).run("exec", *arguments)
    assert done.code == code, done
    assert words in done.err


def test_not_allowed(servers: Servers, tmp_path: Path) -> None:
    """To listen where one may not exits 4."""
    users = 'authorization { user: u, password: p, permissions: { subscribe: ["_INBOX.>"] } }'
    server = servers.start(users.replace("user: u", "users: [{user: u").replace("} }", "} }] }"))
    done = Gozoctl(tmp_path, server.url).run("exec", "jobs", "-u", "u", "-p", "p", "--", "true")
    assert done.code == 4
    assert "jobs" in done.err


class Stream:
    """A stream with one consumer, whose messages are delivered again after half a second."""

    def __init__(self, client: Client, name: str) -> None:
        self.js = client.nats.jetstream()
        self.name = name
        self.options = (f"jobs.{name}", "--stream", name, "--consumer", "work")

    async def create(self, ack_wait: float = 0.5) -> None:
        """Create both."""
        await self.js.add_stream(name=self.name, subjects=[f"jobs.{self.name}"])
        await self.js.add_consumer(
            self.name,
            durable_name="work",
            filter_subject=f"jobs.{self.name}",
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ack_wait,
        )

    async def put(self, payload: str) -> None:
        """Store a message."""
        await self.js.publish(f"jobs.{self.name}", payload.encode())

    async def done(self) -> bool:
        """Tell whether nothing is to be delivered any more, and nothing is underway."""
        info = await self.js.consumer_info(self.name, "work")
        return (info.num_pending, info.num_ack_pending) == (0, 0)


@pytest.fixture
async def stream(client: Client, new_id: str) -> Stream:
    """Create a stream and a consumer on the module's server."""
    stream = Stream(client, new_id)
    await stream.create()
    return stream


async def test_acknowledged_after_the_end(
    running: Running, stream: Stream, daemons: Daemons
) -> None:
    """While a command runs its message is not delivered again, nor after it exits with 0."""
    await stream.put("0")  # before anybody works: it waits
    command = ("--max-parallel", "2", "--", "sh", "-c", f"{NOTE}; sleep 1.2")
    worker = await daemons.work(running.server, *stream.options, *command)
    await ran(worker, "0")
    assert not await stream.done()
    await until(stream.done, "it is acknowledged")
    await stream.put("1")
    await ran(worker, "0", "1")
    await until(stream.done, "both are acknowledged")
    info = await stream.js.consumer_info(stream.name, "work")
    assert info.delivered.consumer_seq == 2
    assert await worker.terminate() == 0


async def test_a_failure_is_tried_again(running: Running, stream: Stream, daemons: Daemons) -> None:
    """--retries times, after a while each; then it is given up, and the next has its turn."""
    worker = await daemons.work(
        running.server,
        *stream.options,
        *("--retries", "1", "--", "sh", "-c", 'read -r line; echo "$line" >>ran; exit $line'),
    )
    await stream.put("3")
    await worker.event("message.retried", attempt="1")
    await stream.put("0")
    given_up = await worker.event("message.given_up")
    assert given_up.fields["attempt"] == "2"
    await until(stream.done, "nothing is left")
    assert sorted(lines(worker)) == ["0", "3", "3"]


async def test_a_worker_that_dies(running: Running, stream: Stream, daemons: Daemons) -> None:
    """What it had not finished runs again on another."""
    # What the dead worker leaves behind does not hold on to the output that the test reads.
    command = ("--", "sh", "-c", f"exec >/dev/null 2>&1; {HELD}")
    first = await daemons.work(running.server, *stream.options, *command)
    await stream.put("0")
    await ran(first, "0")
    second = await daemons.work(running.server, *stream.options, *command)
    (second.folder / "go").touch()
    await first.kill()
    await ran(second, "0")
    await until(stream.done, "it is acknowledged")
    (first.folder / "go").touch()


async def test_a_second_signal_gives_the_message_back(
    running: Running, stream: Stream, client: Client, daemons: Daemons
) -> None:
    """Another worker has it at once, long before it would be delivered again."""
    await stream.js.delete_consumer(stream.name, "work")
    first = await daemons.work(
        running.server, *stream.options, "--", "sh", "-c", f"{NOTE}; sleep 20"
    )
    await stream.put("0")
    await ran(first, "0")
    first.send(signal.SIGTERM)
    await first.event("exec.stopping")
    second = await daemons.work(running.server, *stream.options, "--", "sh", "-c", NOTE)
    began = time.monotonic()
    first.send(signal.SIGTERM)
    assert await first.wait() == 130
    await ran(second, "0")
    info = await stream.js.consumer_info(stream.name, "work")
    assert info.config.ack_wait is not None
    assert time.monotonic() - began < info.config.ack_wait


async def test_a_consumer_outlives_the_server(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """What runs while the server restarts is acknowledged once it is back, and run once."""
    server = servers.start()
    client = await clients.connect(server)
    stream = Stream(client, "JOBS")
    await stream.create(ack_wait=5)
    worker = await daemons.work(server, *stream.options, "--", "sh", "-c", HELD)
    await stream.put("0")
    await ran(worker, "0")
    server.stop()
    (worker.folder / "go").touch()
    await worker.event("command.ended", status="0")
    server.start()
    await client.confirm()
    await stream.put("1")
    await ran(worker, "0", "1")
    await until(stream.done, "both are acknowledged")
    assert await worker.terminate() == 0


async def test_a_consumer_is_created(
    running: Running, client: Client, daemons: Daemons, new_id: str
) -> None:
    """Where there is none: not for what was stored before; the second worker uses the same."""
    js = client.nats.jetstream()
    await js.add_stream(name=new_id, subjects=[f"{new_id}.>"])
    await js.publish(f"{new_id}.a", b"old")
    options = (f"{new_id}.*", "--stream", new_id, "--consumer", "work", "--", "sh", "-c", NOTE)
    first = await daemons.work(running.server, *options)
    second = await daemons.work(running.server, *options)
    for number in range(10):
        await js.publish(f"{new_id}.b", b"%d" % number)
    await until(lambda: len(lines(first) + lines(second)) == 10, "each ran")
    assert sorted(map(int, lines(first) + lines(second))) == list(range(10))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"deliver_subject": "somewhere"}, "a push consumer"),
        ({"ack_policy": "none"}, "'none'"),
        ({"filter_subject": "jobs.other"}, "for the subject jobs.other"),
    ],
)
async def test_consumers_of_other_kinds(
    running: Running,
    client: Client,
    tmp_path: Path,
    new_id: str,
    config: dict[str, str],
    words: str,
) -> None:
    """They are refused with a sentence that says what is wrong with them."""
    js = client.nats.jetstream()
    await js.add_stream(name=new_id, subjects=[f"{new_id}.>", "jobs.other"])
    usual = {"durable_name": "work", "ack_policy": "explicit", "filter_subject": f"{new_id}.a"}
    body = {"stream_name": new_id, "config": usual | config}
    made = await client.nats.request(
        f"$JS.API.CONSUMER.DURABLE.CREATE.{new_id}.work", json.dumps(body).encode()
    )
    assert "error" not in json.loads(made.data)
    options = (f"{new_id}.a", "--stream", new_id, "--consumer", "work", "--", "true")
    done = Gozoctl(tmp_path, running.server.url).run("exec", *options)
    await js.delete_stream(new_id)
    assert done.code == 1
    assert words in done.err


async def test_a_consumer_that_is_deleted(
    running: Running, stream: Stream, daemons: Daemons
) -> None:
    """The worker finishes what runs, and ends with a sentence."""
    worker = await daemons.work(
        running.server, *stream.options, "--max-parallel", "2", "--", "sh", "-c", HELD
    )
    await stream.put("0")
    await ran(worker, "0")
    await stream.js.delete_consumer(stream.name, "work")
    (worker.folder / "go").touch()
    assert await worker.wait() == 1
    assert lines(worker, "ended") == ["."]
    assert "'work'" in worker.stderr
    assert "deleted" in worker.stderr
