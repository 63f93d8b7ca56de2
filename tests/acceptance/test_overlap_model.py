"""`Gozo-Overlap` under random requests, answers, silence and crashes, against a model.

The usual run has a few examples. `GOZO_TEST_EXAMPLES=200 pytest
tests/acceptance/test_overlap_model.py` runs more, and shrinks failing ones.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from nats import errors as nats_errors
from nats.aio.msg import Msg

from tests.support.client import Client
from tests.support.daemon import Daemon
from tests.support.hand import Hand, Job
from tests.support.overlap import Overlaps, Seen, number_of
from tests.support.patience import allow, until
from tests.support.processes import Daemons
from tests.support.replicas import leader_of
from tests.support.run_events import RunEvents
from tests.support.server import NatsServer

EXAMPLES = int(os.environ.get("GOZO_TEST_EXAMPLES", "3"))
FEW = 10  # examples up to which a failing one is shown as it is
EVERY = 0.2  # seconds
ACK_WAIT, ATTEMPTS = 1.0, 3
WAIT = 0.1  # seconds before the next attempt
GRACE = 0.5  # seconds in which what was sent before may still arrive
ANSWER = 1.0  # seconds to wait for an answer before the same is asked again

WORDS = {
    "done": b"+ACK",
    "failed": b'-NAK {"delay": 100000000}',
    "terminated": b"+TERM",
    "alive": b"+WPI",
}


@dataclass(frozen=True, slots=True)
class Act:
    """A step of an example: a verb and an id."""

    verb: str
    id: str = "a"
    mode: str = ""
    by: str = "reply"
    nap: float = 0.0
    """Seconds to wait afterwards."""


IDS = st.sampled_from("ab")
NAPS = st.sampled_from([0.0, 0.1, 0.3])
ACTS = st.one_of(
    st.builds(
        Act,
        st.just("store"),
        IDS,
        st.sampled_from(["", "allow", "skip", "skip", "queue", "queue", "plain"]),
        st.sampled_from(["reply", "claim"]),
        NAPS,
    ),
    st.builds(
        Act,
        st.sampled_from(["pause", "resume", "resume", "put off", "hurry", "cancel"]),
        IDS,
        nap=NAPS,
    ),
    *[st.builds(Act, st.sampled_from([*WORDS, "done"]), IDS, nap=NAPS)] * 2,
    st.builds(Act, st.sampled_from(["trigger", "force"]), IDS, nap=NAPS),
    st.builds(Act, st.just("silence"), nap=st.just(ACK_WAIT)),
    st.builds(Act, st.sampled_from(["SIGKILL", "SIGKILL", "SIGTERM", "restart"])),
)
FAULTS = frozenset({"SIGKILL", "SIGTERM", "restart"})
RUNS = st.lists(ACTS, min_size=8, max_size=16)


class World:
    """A server with two daemons, on which one example after the other runs."""

    def __init__(self, server: NatsServer, daemons: Daemons, client: Client) -> None:
        self.server = server
        self.daemons = daemons
        self.client = client
        self.replicas: list[Daemon] = []
        self.numbers = itertools.count(1)
        self.example = 0
        self.model = Overlaps(ACK_WAIT, ATTEMPTS, GRACE, WAIT)
        self.hand = Hand(client.nats, self.on_job)
        self.paused: set[str] = set()
        self.latest: dict[tuple[int, int], Job] = {}
        """The latest attempt of each run, by version and occurrence."""
        self.names: dict[int, str] = {}
        """The id of each version."""

    async def run(self, acts: list[Act]) -> None:
        """Run one example, and hold that all is as the model says."""
        self.example += 1
        self.model = Overlaps(ACK_WAIT, ATTEMPTS, GRACE, WAIT)
        self.paused, self.latest, self.names = set(), {}, {}
        self.hand = await Hand.start(self.client.nats, self.on_job)
        fault: asyncio.Task[None] | None = None
        try:
            for id_ in "ab":
                await self.act(Act("store", id_, "skip" if id_ == "a" else "queue"))
            for act in acts:
                if act.verb in FAULTS:
                    if fault is not None:
                        await fault
                    fault = asyncio.create_task(self.fail(act.verb))
                else:
                    await self.act(act)
                await asyncio.sleep(act.nap)
            if fault is not None:
                await fault
            await self.end()
        finally:
            await self.hand.close()
        assert not self.model.problems, "\n".join(self.model.problems)

    async def end(self) -> None:
        """Let everything that waits continue, and check that nothing is stuck or lost."""
        since = time.time()
        for id_ in (self.name("a"), self.name("b")):
            if self.model.is_live(id_) and self.model.course(id_).versions[-1].mode != "plain":
                await until(lambda id_=id_: self.goes_on(id_, since), f"{id_} goes on", allow(10))
        await self.client.confirm()
        for id_ in (self.name("a"), self.name("b")):
            gaps = self.model.account(id_, EVERY)
            assert not gaps, f"{id_}: nothing was heard of {gaps}"
            await self.change(id_, "cancel")
        await until(self.is_settled, "all runs are settled", allow(10))

    def goes_on(self, id_: str, since: float) -> bool:
        """Finish all running attempts, and tell whether another run has begun."""
        self.finish(id_)
        version = self.model.course(id_).versions[-1]
        return any(run.version is version and run.began > since for _, run in self.runs(id_))

    async def is_settled(self) -> bool:
        """Finish all running attempts, and tell whether all runs left are failed ones."""
        for id_ in (self.name("a"), self.name("b")):
            self.finish(id_)
        states = [await RunEvents(self.client, self.name(letter)).states() for letter in "ab"]
        return {"failed"}.issuperset(itertools.chain(*states))

    def finish(self, id_: str) -> None:
        """Answer all running attempts."""
        for of, run in self.runs(id_):
            if not run.answer:
                self.say(of, run, "done")

    def runs(self, id_: str) -> list[tuple[tuple[int, int], Seen]]:
        """Return the runs of a schedule that have arrived."""
        return list(self.model.course(id_).runs.items())

    def name(self, letter: str) -> str:
        """Return the id for a letter in this example."""
        return f"x{self.example}-{letter}"

    # What the receiver sees and says

    def on_job(self, job: Job) -> None:
        """Tell the model that an attempt has begun."""
        version = int(job.data.split()[1])
        if (id_ := self.names.get(version)) is not None:
            number = number_of(job.occurrence, job.due)
            self.latest[version, number] = job
            self.model.arrives(id_, version, job.due, number, job.attempt, job.at)

    def say(self, of: tuple[int, int], run: Seen, word: str) -> None:
        """Answer the latest attempt of a run."""
        self.model.says(run, word, time.time())
        self.hand.answer_soon(self.latest[of], WORDS[word])

    async def on_skipped(self, message: Msg) -> None:
        """Tell the model that an occurrence was skipped."""
        event = json.loads(message.data)
        self.model.skips(event["id"], datetime.fromisoformat(event["due"]).timestamp())

    # What clients do

    async def act(self, act: Act) -> None:
        """Do something, and tell the model."""
        id_ = self.name(act.id)
        course = self.model.course(id_)
        live = bool(course.versions) and not course.versions[-1].replaced
        match act.verb:
            case "store":
                self.paused.discard(id_)
                await self.store(id_, act)
            case "pause" | "resume" | "put off" | "hurry" if live:
                if (id_ in self.paused) == (act.verb == "resume"):
                    await self.change(id_, act.verb)
            case "trigger" | "force" if live:
                course.is_forced |= act.verb == "force"
                body = {"ids": [id_], "force": act.verb == "force"}
                await self.ask("trigger", body)
            case "cancel" if live:
                self.paused.discard(id_)
                await self.change(id_, "cancel")
            case word if word in WORDS:
                open_ = [one for one in self.runs(id_) if not one[1].answer]
                if open_:
                    self.say(*open_[-1], word)

    async def store(self, id_: str, act: Act) -> None:
        """Ask for a new version of a schedule until one is stored."""
        headers = {"Gozo-Id": id_, "Gozo-When": f"@every {EVERY}s", "Gozo-Misfire": "all"}
        if act.mode != "plain":
            headers |= {
                "Gozo-Confirm": act.by,
                "Gozo-Ack-Wait": f"{ACK_WAIT}s",
                "Gozo-Attempts": str(ATTEMPTS),
                "Gozo-Backoff": "100ms",
            }
        if act.mode not in ("", "plain"):
            headers["Gozo-Overlap"] = act.mode
        for _ in range(round(allow(10))):
            version = next(self.numbers)
            self.names[version] = id_
            self.model.asks(id_, time.time())
            self.model.stores(id_, version, act.mode)
            payload = b"%s %d" % (act.by.encode(), version)
            inbox = self.client.nats.new_inbox()
            subscription = await self.client.nats.subscribe(inbox)
            whole = {**headers, "Gozo-Receipt": inbox}
            await self.client.send(whole, reply=self.hand.subject, payload=payload)
            try:
                receipt = json.loads((await subscription.next_msg(timeout=ANSWER)).data)
            except nats_errors.TimeoutError:
                continue
            finally:
                await subscription.unsubscribe()
            if receipt["status"] == "stored":
                self.model.answered(id_, "store", time.time())
                return
            assert receipt["error"] == "unavailable", receipt
        raise AssertionError(f"never answered: {headers}")

    async def change(self, id_: str, verb: str) -> None:
        """Ask the leader to change a schedule until it answers."""
        body: dict[str, Any] = {"ids": [id_]}
        call = verb
        if verb in ("put off", "hurry"):
            when = "+0.3" if verb == "put off" else "+0"
            call, body = "reschedule", {"id": id_, "when": when}
        for _ in range(round(allow(10))):
            self.model.asks(id_, time.time())
            status = await self.ask(call, body)
            if status not in ("", "refused"):
                self.model.answered(id_, verb, time.time())
                (self.paused.add if verb == "pause" else self.paused.discard)(id_)
                return
        raise AssertionError(f"never answered: {verb} {id_}")

    async def ask(self, verb: str, body: dict[str, Any]) -> str:
        """Ask the leader once, and return the status, or nothing if it does not answer."""
        asked = json.dumps(body).encode()
        try:
            message = await self.client.nats.request(f"gozo.admin.{verb}", asked, timeout=ANSWER)
        except nats_errors.NoRespondersError:
            await asyncio.sleep(0.1)
            return ""
        except nats_errors.TimeoutError:
            return ""
        answer = json.loads(message.data)
        return str(answer.get("status") or answer["results"][0]["status"])

    # Faults

    async def fail(self, fault: str) -> None:
        """End the leader, and start another replica; or restart the server."""
        leader = await leader_of(self.replicas)
        self.model.breaks()
        if fault == "restart":
            await asyncio.to_thread(self.server.restart)
        else:
            leader.send(signal.Signals[fault])
            await leader.wait()
            self.replicas.remove(leader)
        await self.complete()
        await self.client.confirm()
        self.model.mends(time.time())

    async def complete(self) -> None:
        """Start replicas until there are two, and wait until one leads."""
        while len(self.replicas) < 2:
            self.replicas.append(await self.daemons.serve(self.server, "--events"))
        await leader_of(self.replicas)


@pytest.mark.timeout(120 + 60 * EXAMPLES)
def test_overlap_model() -> None:
    """No run begins beside another that it must wait for, none is lost, none outlives a change."""
    with NatsServer() as server, Daemons() as daemons, asyncio.Runner() as runner:
        client = runner.run(Client.connect(server.url))
        world = World(server, daemons, client)
        runner.run(world.complete())
        runner.run(subscribe(client, world))
        phases = [Phase.generate] if EXAMPLES <= FEW else [Phase.generate, Phase.shrink]

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        )
        @given(RUNS)
        def run(acts: list[Act]) -> None:
            runner.run(world.run(acts))

        try:
            run()
        finally:
            runner.run(client.close())


async def subscribe(client: Client, world: World) -> None:
    """Subscribe to the events about skipped occurrences."""
    await client.nats.subscribe("gozo.event.skipped.>", cb=world.on_skipped)
    await client.confirm()
