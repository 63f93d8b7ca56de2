"""Those who are compared, on the same server: gozo, and the server's own schedules (ADR-51)."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Protocol

from tests.benchmarks.load import Plan, fill
from tests.benchmarks.scenarios import Scenario
from tests.benchmarks.ways import Entry, Request, ServerSchedule, Way
from tests.support.daemon import Daemon
from tests.support.patience import allow, until
from tests.support.raw import RawClient, request
from tests.support.server import NatsServer

ANSWER = "benchmark.answer"
STREAM = "own"
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


class _OnServer:
    """What both need of the server: questions and answers."""

    def __init__(self, server: NatsServer) -> None:
        self.server = server
        self._client: RawClient | None = None

    def ask(self, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the server, or a daemon, and return the answer."""
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
        return int(self.ask(f"$JS.API.STREAM.INFO.{stream}")["state"]["last_seq"])


class Gozo(_OnServer):
    """A daemon of gozo's."""

    name = "gozo"
    keeps = False

    def __init__(self, server: NatsServer) -> None:
        super().__init__(server)
        self._daemon: Daemon | None = None

    @property
    def pid(self) -> int:
        """The daemon."""
        assert self._daemon is not None
        return self._daemon.pid

    def start(self) -> None:
        """Start a daemon, and wait until it delivers."""
        self._daemon = Daemon("serve", "--address", self.server.url).start()
        self._daemon.find_event("daemon.ready", {"role": "leader"}, since=0, timeout=allow(20))

    def stop(self) -> None:
        """End the daemon; what it said must not tell of an error that nobody foresaw."""
        daemon, self._daemon = self._daemon, None
        if daemon is None:
            return
        try:
            code = asyncio.run(daemon.terminate())
            if code or "Traceback" in daemon.stderr:
                raise RuntimeError(f"gozo ended with {code}:\n{daemon.stderr}")
        finally:
            daemon.close()

    def clear(self) -> None:
        """Remove gozo's buckets."""
        for stream in self.ask("$JS.API.STREAM.NAMES")["streams"] or ():
            self.ask(f"$JS.API.STREAM.DELETE.{stream}")
        self.hang_up()

    def way(self, scenario: Scenario, run: str) -> Way:
        """Return a request, or an entry where the scenario says so."""
        if scenario.entries:
            return Entry(run, self.listen(run))
        return Request(run, self.listen(run), scenario.ids)

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

    def _statistics(self) -> dict[str, Any]:
        endpoint: dict[str, Any] = self.ask("$SRV.STATS.gozo")["endpoints"][0]
        return endpoint


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

    def _target(self, run: str) -> str:
        return f"{STREAM}.due.{run}"
