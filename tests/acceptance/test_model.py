"""Random requests, writes of others, faults and time, against a simple model.

A few examples are part of the usual run. More, and failing ones made smaller, with
`GOZO_TEST_EXAMPLES=200 pytest tests/acceptance/test_model.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from nats import errors as nats_errors

from tests.support.client import Arrivals, Client
from tests.support.daemon import Daemon
from tests.support.model import Model, Version
from tests.support.patience import allow, until, wall_clock
from tests.support.processes import Daemons
from tests.support.replicas import leader_of
from tests.support.server import NatsServer

EXAMPLES = int(os.environ.get("GOZO_TEST_EXAMPLES", "4"))
FEW = 10  # examples up to which a failing one is shown as it is
NEAR = 0.5  # seconds
FAR = 3600.0  # seconds
ANSWER = 1.0  # seconds to wait for an answer before the same is asked again
SLACK = 1.0  # seconds until the leader has seen what others wrote, for certain


@dataclass(frozen=True, slots=True)
class Act:
    """Something that a client does: `verb` about an id, with a due time so far from now."""

    verb: str
    id: str
    ahead: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """What happens at the same time: acts on different ids, and perhaps a fault."""

    acts: tuple[Act, ...]
    fault: str = ""
    wait: bool = False
    """Whether time passes afterwards, until all that is near has arrived."""


AHEAD = st.one_of(st.just(-10.0), st.floats(0, NEAR), st.just(FAR))
ACTS = st.builds(
    Act,
    st.sampled_from(["schedule", "write", "cancel", "reschedule"]),
    st.sampled_from("abcd"),
    AHEAD,
) | st.builds(Act, st.just("anonymous"), st.just(""), st.floats(-1, NEAR))
STEPS = st.builds(
    Step,
    st.lists(ACTS, min_size=1, max_size=4, unique_by=lambda act: act.id).map(tuple),
    st.sampled_from(["", "", "", "", "", "SIGTERM", "SIGKILL", "standby", "both"]),
    st.booleans(),
)
RUNS = st.lists(STEPS, min_size=2, max_size=6)


class World:
    """A server with two daemons, on which one example after the other runs."""

    def __init__(self, server: NatsServer, daemons: Daemons, client: Client) -> None:
        self.server = server
        self.daemons = daemons
        self.client = client
        self.replicas: list[Daemon] = []
        self.numbers = itertools.count(1)
        self.example = 0
        self.model = Model()
        self.arrivals = Arrivals("")

    async def run(self, steps: list[Step]) -> None:
        """Run one example, and hold that all is as the model says."""
        self.example += 1
        self.model = Model()
        self.arrivals = await self.client.arrivals()
        for step in steps:
            work: list[Awaitable[object]] = [self.act(act) for act in step.acts]
            if step.fault:
                work.append(self.fail(step.fault))
            await asyncio.gather(*work)
            if step.wait:
                await self.come(time.time() + NEAR)
        await self.come(time.time() + NEAR)
        # All that is due has come, so what is still missing will not.
        await self.matches()
        killed = any(step.fault in ("SIGKILL", "both") for step in steps)
        problems = self.model.judge(self.arrivals.all, once=not killed)
        assert not problems, "\n".join(problems)
        for id_ in self.model.stays(time.time()):
            await self.ask({"Gozo-Del-Id": id_}, b"")

    async def come(self, moment: float) -> None:
        """Wait until a moment has passed, and all has arrived that was due by then."""
        await wall_clock(moment)
        due = self.model.due_by(moment)
        await until(lambda: due <= set(self.arrivals.payloads), f"{due} come", allow(10))

    async def matches(self) -> None:
        """Wait until the bucket holds exactly what is pending, with its payload and due time."""
        expected = {
            id_: (one.payload, f"{one.due:.6f}")
            for id_, one in self.model.stays(time.time()).items()
        }
        found: dict[str, tuple[bytes, str]] = {}

        async def same() -> bool:
            found.clear()
            for id_ in self.model.versions:
                headers, payload = await self.stored(id_)
                if headers and "KV-Operation" not in headers:
                    due = headers.get("Gozo-Due", headers.get("Gozo-When", ""))
                    found[id_] = (payload, due)
            return found == expected

        try:
            await until(same, "the bucket holds what is pending")
        except AssertionError as error:
            raise AssertionError(f"{error}: {found}, not {expected}") from None

    async def stored(self, id_: str) -> tuple[dict[str, str], bytes]:
        """Return headers and payload of what is stored under an id, if anything is."""
        stream = self.client.nats.jetstream()
        try:
            message = await stream.get_last_msg("KV_gozo", f"$KV.gozo.{id_}")
        except nats_errors.Error:
            return {}, b""
        return message.headers or {}, message.data or b""

    # What clients do

    async def act(self, act: Act) -> None:
        """Do something, and tell the model how it was answered."""
        id_ = f"x{self.example}-{act.id}"
        due = round(time.time() + act.ahead, 6)
        payload = b"%s %d" % (id_.encode(), next(self.numbers))
        match act.verb:
            case "schedule" | "anonymous":
                headers = {"Gozo-When": f"{due:.6f}"}
                if act.id:
                    headers["Gozo-Id"] = id_
                else:
                    id_ = f"{id_}{payload.decode()}"
                answer, attempts = await self.ask(headers, payload)
                self.model.sent[payload] += attempts
                replaced = bool(answer["replaced"]) if attempts == 1 else None
                self.model.stored(id_, Version(payload, due), time.time(), replaced=replaced)
            case "write":
                self.model.sent[payload] += 1
                headers = {"Gozo-When": f"{due:.6f}", "Gozo-Subject": self.arrivals.subject}
                stream = self.client.nats.jetstream()
                await stream.publish(f"$KV.gozo.{id_}", payload, headers=headers)
                new = Version(payload, due)
                self.model.stored(id_, new, time.time(), replaced=None, slack=SLACK)
            case "cancel":
                answer, attempts = await self.ask({"Gozo-Del-Id": id_}, b"")
                now = time.time()
                self.model.cancelled(id_, answer["status"], now, again=attempts > 1)
            case "reschedule":
                asked = json.dumps({"id": id_, "when": f"{due:.6f}"}).encode()
                answer, attempts = await self.ask_leader("reschedule", asked)
                status, now = answer["status"], time.time()
                self.model.rescheduled(id_, status, due, now, again=attempts > 1)

    async def ask(self, headers: dict[str, str], payload: bytes) -> tuple[dict[str, Any], int]:
        """Send a request until it is answered; returns the receipt and how often it was sent."""
        for attempt in range(1, round(allow(10))):
            inbox = self.client.nats.new_inbox()
            subscription = await self.client.nats.subscribe(inbox)
            whole = {**headers, "Gozo-Receipt": inbox}
            await self.client.send(whole, reply=self.arrivals.subject, payload=payload)
            try:
                receipt = json.loads((await subscription.next_msg(timeout=ANSWER)).data)
            except nats_errors.TimeoutError:
                continue
            finally:
                await subscription.unsubscribe()
            if receipt["status"] != "refused":
                return receipt, attempt
        raise AssertionError(f"never answered: {headers}")

    async def ask_leader(self, verb: str, asked: bytes) -> tuple[dict[str, Any], int]:
        """Ask the leader until it answers."""
        for attempt in range(1, round(allow(10))):
            try:
                subject = f"gozo.admin.{verb}"
                message = await self.client.nats.request(subject, asked, timeout=ANSWER)
            except nats_errors.NoRespondersError:
                await asyncio.sleep(0.1)
                continue
            except nats_errors.TimeoutError:
                continue
            answer = json.loads(message.data)
            if answer["status"] != "refused":
                return answer, attempt
        raise AssertionError(f"never answered: {asked!r}")

    # Faults

    async def fail(self, fault: str) -> None:
        """End replicas, and start others in their place."""
        leader = await leader_of(self.replicas)
        struck = [
            one
            for one in self.replicas
            if fault == "both" or (one is leader) == (fault != "standby")
        ]
        ending = signal.SIGTERM if fault in ("SIGTERM", "standby") else signal.SIGKILL
        for one in struck:
            one.send(ending)
        for one in struck:
            await one.wait()
            self.replicas.remove(one)
        await self.complete()

    async def complete(self) -> None:
        """Start replicas until there are two, and wait until one leads."""
        while len(self.replicas) < 2:
            self.replicas.append(await self.daemons.serve(self.server))
        await leader_of(self.replicas)


@pytest.mark.timeout(120 + 60 * EXAMPLES)
def test_model() -> None:
    """At least once with the latest payload, never early, never after a cancel, and no more."""
    with NatsServer() as server, Daemons() as daemons, asyncio.Runner() as runner:
        client = runner.run(Client.connect(server.url))
        world = World(server, daemons, client)
        runner.run(world.complete())
        phases = [Phase.generate] if EXAMPLES <= FEW else [Phase.generate, Phase.shrink]

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        )
        @given(RUNS)
        def run(steps: list[Step]) -> None:
            runner.run(world.run(steps))

        try:
            run()
        finally:
            runner.run(client.close())
