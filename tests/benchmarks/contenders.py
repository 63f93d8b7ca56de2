"""Those who are compared, on the same server: gozo, and the server's own schedules (ADR-51)."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Protocol

from tests.benchmarks.load import Plan, fill
from tests.benchmarks.probes import first_delivery, look
from tests.benchmarks.processes import memory_mb
from tests.benchmarks.scenarios import Kind, Scenario
from tests.benchmarks.ways import Entry, Request, ServerSchedule, Way
from tests.support.daemon import Daemon
from tests.support.patience import allow, until
from tests.support.raw import RawClient, request
from tests.support.server import NatsServer

ANSWER = "benchmark.answer"
STREAM = "own"
_CONFIRMED = (Kind.CONFIRMED, Kind.RUNNING)
FILLING = "pending"  # the run that far-off schedules belong to


OLDEST = (2, 12)
"""The version of nats-server from which on it has schedules."""


def has_schedules(version: str) -> bool:
    """Tell whether a nats-server of this version has schedules of its own."""
    major, minor, *_ = version.split(".")
    return (int(major), int(minor)) >= OLDEST


class Contender(Protocol):
    """A scheduler that runs, and how to deal with it."""

    name: str
    keeps: bool
    """Whether what was due while nobody listened is there for who listens later."""

    @property
    def pid(self) -> int:
        """The process that schedules."""

    def start(self) -> None:
        """Start it, and return once it serves."""

    def stop(self) -> None:
        """End it in an orderly way; what is pending stays."""

    def clear(self) -> None:
        """Remove all that is stored."""

    def way(self, scenario: Scenario, run: str) -> Way:
        """Return how the schedules of a run are asked for."""

    def listen(self, run: str) -> str:
        """Return the subject on which the messages of a run arrive."""

    def fill(self, count: int, size: int) -> None:
        """Store so many far-off schedules, and return once it has taken notice of them."""

    def taken(self, scenario: Scenario) -> int:
        """Return how many requests of a scenario's kind it has ever taken, and its own writes."""

    def size(self) -> dict[str, float | None]:
        """Return how much memory it has, and how much is in the server's store."""

    def examine(self) -> dict[str, float | None]:
        """Return how long it takes to look at it, to start it anew and to replace it."""


IDLE = 60.0  # seconds after which a connection is made anew: nothing answers the server's pings


class _OnServer:
    """What both need of the server: questions and answers."""

    def __init__(self, server: NatsServer) -> None:
        self.server = server
        self._client: RawClient | None = None
        self._asked_at = 0.0

    def ask(self, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the server, or a daemon, and return the answer."""
        if time.monotonic() > self._asked_at + IDLE:
            self.hang_up()
        self._asked_at = time.monotonic()
        if self._client is None:
            self._client = RawClient(self.server.url)
            self._client.subscribe(ANSWER)
        payload = b"" if body is None else json.dumps(body).encode()
        self._client.send(request(subject.encode(), reply=ANSWER.encode(), payload=payload))
        answer: dict[str, Any] = json.loads(self._client.receive()[0].payload)
        if "error" in answer:
            raise RuntimeError(f"{subject} was refused: {answer['error']}")
        return answer

    def hang_up(self) -> None:
        """Close the connection; the next question makes another."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def last_sequence(self, stream: str) -> int:
        """Return how many messages were ever written to a stream."""
        return int(self._state(stream)["last_seq"])

    def stored(self, stream: str) -> dict[str, float | None]:
        """Return what a stream holds."""
        state = self._state(stream)
        return {"messages": int(state["messages"]), "stored_mb": int(state["bytes"]) / 1e6}

    def _state(self, stream: str) -> dict[str, Any]:
        state: dict[str, Any] = self.ask(f"$JS.API.STREAM.INFO.{stream}")["state"]
        return state


class Gozo(_OnServer):
    """A daemon of gozo's."""

    name = "gozo"
    keeps = False

    def __init__(self, server: NatsServer) -> None:
        super().__init__(server)
        self._daemon: Daemon | None = None
        self._standby: Daemon | None = None

    @property
    def pid(self) -> int:
        """The daemon."""
        assert self._daemon is not None
        return self._daemon.pid

    def start(self) -> None:
        """Start a daemon, and wait until it delivers."""
        self._daemon = self._serve("leader")

    def stop(self) -> None:
        """End the daemons; what they said must not tell of an error that nobody foresaw."""
        daemons = (self._standby, self._daemon)
        self._daemon = self._standby = None
        for daemon in daemons:
            if daemon is not None:
                _end(daemon)

    def clear(self) -> None:
        """Remove gozo's buckets."""
        for stream in self.ask("$JS.API.STREAM.NAMES")["streams"] or ():
            self.ask(f"$JS.API.STREAM.DELETE.{stream}")
        self.hang_up()

    def way(self, scenario: Scenario, run: str) -> Way:
        """Return a request, or an entry where the scenario says so."""
        if scenario.entries:
            return Entry(run, self.listen(run))
        more = b"Gozo-Confirm: reply\r\n" if scenario.kind in _CONFIRMED else b""
        return Request(run, self.listen(run), scenario.ids, more)

    def listen(self, run: str) -> str:
        """Return the reply subject of a run."""
        return f"benchmark.delivered.{run}"

    def fill(self, count: int, size: int) -> None:
        """Write entries to the bucket, and wait until the daemon has seen them."""
        if not count:
            return
        way = Entry(FILLING, self.listen(FILLING))
        fill(Plan(self.server.url, way, "", count, 0, size, 0))

        async def is_known() -> bool:
            return int(self._statistics()["data"]["pending"]) >= count

        asyncio.run(until(is_known, f"{count} schedules are known", allow(20)))

    def taken(self, scenario: Scenario) -> int:
        """Count in the bucket; what has no id, the daemon counts."""
        if scenario.ids:
            return self.last_sequence("KV_gozo")
        return int(self._statistics()["num_requests"])

    def size(self) -> dict[str, float | None]:
        """Return the memory of leader and standby, and what the bucket holds."""
        memory: dict[str, float | None] = {"memory_mb": memory_mb(self.pid), "standby_mb": None}
        if self._standby is not None:
            memory["standby_mb"] = memory_mb(self._standby.pid)
        return memory | self.stored("KV_gozo")

    def examine(self) -> dict[str, float | None]:
        """Look at it, start a standby, kill the leader, and start all anew.

        Leaves a leader and a standby that know nothing but what is stored.
        """
        figures = look(self.server.url, f"{FILLING}-99")
        if self._standby is not None:
            _end(self._standby)
        figures["load_s"] = self._stand_by()
        assert self._daemon is not None
        began = time.monotonic()
        asyncio.run(self._daemon.kill())
        figures["takeover_s"] = first_delivery(self.server.url, began)
        self._daemon.close()
        self._daemon, self._standby = self._standby, None
        self.stop()
        began = time.monotonic()
        self.start()
        figures["restart_s"] = time.monotonic() - began
        self._stand_by()
        return figures

    def _stand_by(self) -> float:
        """Start a standby; returns how long it took to know everything."""
        began = time.monotonic()
        self._standby = self._serve("standby")
        return time.monotonic() - began

    def _serve(self, role: str) -> Daemon:
        """Start a daemon, and wait until it leads, or could."""
        daemon = Daemon("serve", "--address", self.server.url).start()
        daemon.find_event("daemon.ready", {"role": role}, since=0, timeout=allow(20))
        return daemon

    def _statistics(self) -> dict[str, Any]:
        endpoint: dict[str, Any] = self.ask("$SRV.STATS.gozo")["endpoints"][0]
        return endpoint


def _end(daemon: Daemon) -> None:
    try:
        code = asyncio.run(daemon.terminate())
        if code or "Traceback" in daemon.stderr:
            raise RuntimeError(f"gozo ended with {code}:\n{daemon.stderr}")
    finally:
        daemon.close()


class Server(_OnServer):
    """The server's own schedules: a stream with a push consumer that awaits no acknowledgements.

    What is due goes into the stream, and a consumer is how it is heard.
    """

    name = "server"
    keeps = True

    @property
    def pid(self) -> int:
        """The server."""
        return self.server.pid

    def start(self) -> None:
        """Start the server, afresh if it runs; make the stream unless it is there."""
        self.hang_up()
        self.server.restart()
        config = {
            "name": STREAM,
            "subjects": [f"{STREAM}.>"],
            "storage": "file",
            "allow_msg_schedules": True,
        }
        if STREAM not in (self.ask("$JS.API.STREAM.NAMES")["streams"] or ()):
            self.ask(f"$JS.API.STREAM.CREATE.{STREAM}", config)

    def stop(self) -> None:
        """Stop the server."""
        self.hang_up()
        self.server.stop()

    def clear(self) -> None:
        """Do nothing: the server and its storage end with it."""

    def way(self, scenario: Scenario, run: str) -> Way:
        """Return a schedule for the stream."""
        return ServerSchedule(run, self._target(run))

    def listen(self, run: str) -> str:
        """Make a consumer, and return where it delivers to."""
        subject = f"benchmark.consumed.{run}"
        config = {
            "name": run,
            "durable_name": run,
            "ack_policy": "none",
            "deliver_policy": "all",
            "deliver_subject": subject,
            "filter_subject": self._target(run),
        }
        self.ask(
            f"$JS.API.CONSUMER.CREATE.{STREAM}.{run}.{self._target(run)}",
            {"stream_name": STREAM, "config": config},
        )
        return subject

    def fill(self, count: int, size: int) -> None:
        """Store schedules; once stored they are known."""
        if count:
            way = ServerSchedule(FILLING, self._target(FILLING))
            fill(Plan(self.server.url, way, "", count, 0, size, 0))

    def taken(self, scenario: Scenario) -> int:
        """Count in the stream."""
        return self.last_sequence(STREAM)

    def size(self) -> dict[str, float | None]:
        """Return the server's memory, and what the stream holds, with what it delivered."""
        return {"memory_mb": memory_mb(self.pid)} | self.stored(STREAM)

    def examine(self) -> dict[str, float | None]:
        """Start it anew: nobody can look at its schedules, and nobody stands by."""
        began = time.monotonic()
        self.start()
        return {"restart_s": time.monotonic() - began}

    def _target(self, run: str) -> str:
        return f"{STREAM}.due.{run}"
