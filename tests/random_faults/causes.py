"""What goes wrong: each cause picks whom it strikes, notes it, and ends when that is over.

A cause that finds nobody to strike returns False at once.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import Awaitable, Callable

from nats import errors as nats_errors

from tests.random_faults.replica import NEVER, Replica
from tests.support.account import Faults, Finding
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.patience import until
from tests.support.proxy import Mode
from tests.support.server import NatsServer

SHORTEST, LONGEST = 0.5, 15.0  # seconds that a pause or a broken link lasts
APART = 15.0  # seconds between two that lose what a replica has in memory
WHOLE = 12.0  # seconds for which another must have heard all: longer than any request waits
LEASE = 10.0  # seconds for which a leader that hears nothing may go on sending
ELECTION = 5.0  # seconds in which a stream may have no leader
SERVES = 30.0  # seconds after a fault in which a daemon must act on requests again
ANSWER = 0.5  # seconds
LONG = 300.0  # seconds

Cause = Callable[[], Awaitable[bool]]


class Causes:
    """All of them, for one set of replicas and servers."""

    def __init__(
        self,
        rng: random.Random,
        faults: Faults,
        replicas: list[Replica],
        servers: list[NatsServer],
        cluster: Cluster | None,
        control: Client,
        guest: Callable[[], Replica],
    ) -> None:
        self.findings: list[Finding] = []
        self.is_hopeless = False
        """Whether the run is to end: nobody acts on requests, or a daemon does not start."""
        self._rng = rng
        self._faults = faults
        self._replicas = replicas
        self._servers = servers
        self._cluster = cluster
        self._control = control
        self._guest = guest
        self._forgot_at = 0.0
        """When a replica's memory was last lost."""
        self._stopped = 0
        """How many replicas are stopped."""
        self._server_busy = False
        self.all: dict[str, tuple[int, Cause]] = {
            "SIGTERM": (3, lambda: self._end(signal.SIGTERM)),
            "SIGKILL": (3, lambda: self._end(signal.SIGKILL)),
            "SIGSTOP": (3, self._stop),
            "link": (6, self._break_link),
            "reload": (1, self._reload),
            "server": (2, self._restart_server),
            "lease": (1, self._delete_lease),
            "guest": (2, self._join_and_leave),
        }
        """How often each is chosen, in proportion, and what it does."""
        if cluster is not None:
            self.all["step-down"] = (3, self._step_down)

    # Whether all is well

    async def serves(self) -> None:
        """Wait until a daemon acts on a request; where none does, the run is to end."""
        deadline = time.time() + SERVES
        while not self.is_hopeless and not await self._is_answered():
            if time.time() > deadline:
                self._find("deaf", f"no request was answered for {SERVES:g} s")
                self.is_hopeless = True
            await asyncio.sleep(0.1)

    async def _is_answered(self) -> bool:
        inbox = self._control.nats.new_inbox()
        receipts = await self._control.nats.subscribe(inbox)
        try:
            await self._control.send({"Gozo-Del-Id": "nobody", "Gozo-Receipt": inbox})
            answer = json.loads((await receipts.next_msg(timeout=ANSWER)).data or b"{}")
        except nats_errors.Error:
            return False
        finally:
            await receipts.unsubscribe()
        return bool(answer.get("status") == "not_found")

    def _find(self, kind: str, what: str) -> None:
        self.findings.append(Finding(kind, what, time.time()))

    def _pick(self, replicas: list[Replica]) -> Replica | None:
        free = [one for one in replicas if one.is_up and not one.busy]
        return self._rng.choice(free) if free else None

    def _may_forget(self, replica: Replica) -> bool:
        """Tell whether what a replica has in memory another one has as well."""
        now = time.time()
        return now > self._forgot_at + APART and any(
            one.whole_since < now - WHOLE for one in self._replicas if one is not replica
        )

    # Processes

    async def _end(self, how: signal.Signals) -> bool:
        replica = self._pick(self._replicas)
        if replica is None or not self._may_forget(replica):
            return False
        replica.busy = True
        try:
            await self._end_one(replica, how)
            await asyncio.sleep(self._rng.uniform(0, 3))
            await self._start(replica)
        finally:
            replica.busy = False
        return True

    async def _end_one(self, replica: Replica, how: signal.Signals) -> None:
        self._forgot_at = time.time()
        replica.whole_since = NEVER
        role = "leader" if replica.leads else "standby"
        # A standby has sent nothing; what an orderly end repeats, nothing explains.
        crashed = how is signal.SIGKILL and role == "leader"
        self._faults.note(f"{how.name} {replica.name}, {role}", repeats=crashed)
        if crashed:
            await replica.daemon.kill()
        else:
            replica.daemon.send(how)
            code = await replica.daemon.wait()
            if how is signal.SIGTERM and code:
                self._find("exit", f"{replica.name} ended with {code} after SIGTERM")

    async def _start(self, replica: Replica) -> None:
        try:
            await replica.start()
        except AssertionError as error:
            self._find("start", f"{replica.name}: {str(error).splitlines()[0]}")
            self.is_hopeless = True
        else:
            self._faults.note(f"{replica.name} is ready", repeats=False)

    async def _stop(self) -> bool:
        replica = self._pick(self._replicas)
        if replica is None or self._server_busy or time.time() < self._forgot_at + APART:
            return False
        seconds = self._rng.uniform(SHORTEST, LONGEST)
        replica.busy = True
        whole_since, replica.whole_since = replica.whole_since, NEVER
        self._stopped += 1
        role = "leader" if replica.leads else "standby"
        what = f"SIGSTOP {replica.name}, {role}"
        self._faults.note(f"{what}, for {seconds:.1f} s", repeats=role == "leader")
        replica.daemon.send(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        replica.daemon.send(signal.SIGCONT)
        self._faults.note(f"{replica.name} goes on", repeats=False)
        self._stopped -= 1
        replica.whole_since = whole_since
        replica.busy = False
        return True

    async def _join_and_leave(self) -> bool:
        guest = self._guest()
        async with guest:
            self._faults.note(f"{guest.name} joins", repeats=False)
            await self._start(guest)
            self._replicas.append(guest)
            await asyncio.sleep(self._rng.uniform(3, 20))
            await until(lambda: not guest.busy and self._may_forget(guest), "it may leave", LONG)
            self._replicas.remove(guest)
            if guest.is_up:
                await self._end_one(guest, signal.SIGTERM)
        return True

    # Links

    async def _break_link(self) -> bool:
        replica = self._pick(self._replicas)
        if replica is None:
            return False
        # What the name of the connection ends with.
        which = {"link": "", "requests link": " requests", "main link": replica.name}
        name = self._rng.choice(["link", *which])
        mode = self._rng.choice([Mode.PASS, Mode.HOLD, Mode.HOLD, Mode.DEAF, Mode.SWALLOW])
        seconds = self._rng.uniform(SHORTEST, LONGEST)
        cut = mode in {Mode.PASS, Mode.SWALLOW} or self._rng.random() < 0.5
        does = "cut" if mode is Mode.PASS else f"{mode.name}, {seconds:.1f} s" + ", cut" * cut
        replica.busy, replica.whole_since = True, NEVER
        leads = replica.leads
        role = "leader" if leads else "standby"
        what = f"{name} of {replica.name}"
        fault = self._faults.note(f"{what}, {role}: {does}", repeats=leads)
        if mode is Mode.DEAF:
            # What it sends arrives, but nothing that it settles is known to it.
            fault.end += min(seconds, LEASE)
        trouble = self._faults.note("", repeats=False, deaf=leads)
        trouble.end = NEVER
        if mode is not Mode.PASS:
            for way in replica.ways:
                way.be(mode, which[name])
            await asyncio.sleep(seconds)
        trouble.deaf |= replica.leads
        if cut:
            self._faults.note(f"{what} is cut", repeats=replica.leads or leads)
        for way in replica.ways:
            way.be(Mode.PASS)
            if cut:
                way.cut(which[name])
        replica.busy = False
        await self.serves()
        # A connection that was held may only now be found broken.
        await asyncio.sleep(3)
        await self.serves()
        replica.whole_since = time.time()
        trouble.end = time.time()
        trouble.deaf |= replica.leads
        return True

    # Servers

    async def _reload(self) -> bool:
        if self._server_busy:
            return False
        server = self._rng.choice(self._servers)
        self._faults.note(f"SIGHUP {server.name}", repeats=False)
        server.reload()
        return True

    async def _restart_server(self) -> bool:
        if self._server_busy or self._stopped:
            return False
        self._server_busy = True
        server = self._rng.choice(self._servers)
        killed = self._rng.random() < 0.5
        seconds = self._rng.uniform(0, 3)
        for replica in self._replicas:
            replica.whole_since = NEVER
        end, name = (server.kill, "SIGKILL") if killed else (server.stop, "SIGTERM")
        self._faults.note(f"{name} {server.name}, away for {seconds:.1f} s")
        trouble = self._faults.note("", repeats=False, deaf=True)
        trouble.end = NEVER
        await asyncio.to_thread(end)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(server.start)
        await self.serves()
        trouble.end = time.time()
        for replica in self._replicas:
            if replica.is_up and not replica.busy:
                replica.whole_since = time.time()
        if self._cluster is not None:
            await self._settled(self._cluster)
        self._server_busy = False
        return True

    async def _settled(self, cluster: Cluster) -> None:
        """Wait until all copies of the buckets are current: another server may go then."""
        streams = ("KV_gozo", "KV_gozo_lease")

        async def current() -> bool:
            return all([await cluster.is_current(self._control, name) for name in streams])

        await until(current, "all copies are current", LONG)

    async def _step_down(self) -> bool:
        stream = self._rng.choice(["KV_gozo", "KV_gozo_lease"])
        fault = self._faults.note(f"step-down of {stream}", repeats=False)
        fault.end += ELECTION
        subject = f"$JS.API.STREAM.LEADER.STEPDOWN.{stream}"
        await self._control.nats.publish(subject)
        return True

    async def _delete_lease(self) -> bool:
        self._faults.note("lease key deleted: two may lead until the next renewal", two_lead=True)
        headers = {"KV-Operation": "DEL"}
        await self._control.nats.publish("$KV.gozo_lease.leader", headers=headers)
        return True
