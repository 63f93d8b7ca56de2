"""Daemons with `--metrics`, and what they answer."""

from __future__ import annotations

import asyncio
import http.client
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.support.daemon import Daemon
from tests.support.patience import allow
from tests.support.processes import Daemons
from tests.support.server import HOST, NatsServer


@dataclass(frozen=True, slots=True)
class Answer:
    """What came over HTTP."""

    status: int
    kind: str
    body: str


async def serve(daemons: Daemons, server: NatsServer, *options: str) -> tuple[Daemon, int]:
    """Start a daemon with metrics on a port of its own, and return the port as well."""
    daemon = await daemons.serve(server, "--metrics", f"{HOST}:0", *options)
    return daemon, int((await daemon.event("metrics.ready")).fields["port"])


async def get(port: int, path: str, method: str = "GET", accept: str = "*/*") -> Answer:
    """Ask a daemon over HTTP."""

    def ask() -> Answer:
        connection = http.client.HTTPConnection(HOST, port, timeout=allow(5))
        try:
            connection.request(method, path, headers={"Accept": accept})
            answer = connection.getresponse()
            return Answer(
                answer.status, answer.headers["Content-Type"], answer.read().decode("utf-8")
            )
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


async def scrape(port: int) -> dict[str, float]:
    """Return all figures, by their names and labels, such as `gozo_connected{name=main}`."""
    answer = await get(port, "/metrics")
    assert answer.status == 200
    figures = {}
    for family in text_string_to_metric_families(answer.body):
        assert family.documentation, family.name
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sample.labels.items())
            figures[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return figures
