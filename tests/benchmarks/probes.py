"""What somebody waits for who looks at a scheduler's schedules, in seconds."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gozo.client import Client
from tests.support.gozoctl import Gozoctl
from tests.support.raw import RawClient, request

ROUNDS = 3  # of which the medians
PROBE = "benchmark.probe"
BEAT = 0.02  # seconds between two requests while nobody leads
LONGEST = 60.0  # seconds to wait for a delivery


def look(url: str, begun: str) -> dict[str, float | None]:
    """Return how long it takes to list what is pending, in each way that there is.

    `begun` is the beginning of a few ids that is completed.

    Each has its turn in every round: what a long run leaves behind goes away with time.
    """
    with tempfile.TemporaryDirectory(prefix="gozo-benchmark-") as home:
        tool = Gozoctl(Path(home), url)
        ways: dict[str, Callable[[], int]] = {
            "list": lambda: _run(tool, "list"),
            "status": lambda: _run(tool, "status"),
            "client": lambda: asyncio.run(_list(url)),
            "completion": lambda: _complete(tool, begun),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        offered = []
        for _ in range(ROUNDS):
            for name, way in ways.items():
                began = time.monotonic()
                found = way()
                taken[name].append(time.monotonic() - began)
                if name == "completion":
                    offered.append(found)
    figures: dict[str, float | None] = {"offered": min(offered)}
    return figures | {f"{name}_s": statistics.median(some) for name, some in taken.items()}


def first_delivery(url: str, began: float) -> float:
    """Ask for something at once until it is delivered; seconds since `began`, monotonic."""
    with RawClient(url) as client:
        client.subscribe(PROBE)
        while time.monotonic() < began + LONGEST:
            headers = b"NATS/1.0\r\nGozo-When: +0\r\n\r\n"
            client.send(request(b"gozo", reply=PROBE.encode(), headers=headers, payload=b"probe"))
            try:
                # That nobody listens is answered as well, without a payload.
                if any(message.payload for message in client.receive(BEAT)):
                    return time.monotonic() - began
            except TimeoutError:
                continue
            time.sleep(BEAT)
    raise RuntimeError(f"nothing was delivered within {LONGEST:g} s")


def _run(tool: Gozoctl, command: str) -> int:
    done = tool.run(command)
    if done.code:
        raise RuntimeError(f"gozoctl {command} ended with {done.code}: {done.err}")
    return len(done.out)


def _complete(tool: Gozoctl, begun: str) -> int:
    """Press TAB behind the beginning of an id, and return how many ids are offered."""
    variables = {
        "_GOZOCTL_COMPLETE": "complete_bash",
        "_TYPER_COMPLETE_ARGS": f"gozoctl cancel {begun}",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": begun,
    }
    return len(tool.run(variables=variables).out.splitlines()) - 1  # the first says what follows


async def _list(url: str) -> int:
    async with await Client.connect(url) as client:
        return len([schedule async for schedule in client.list()])
