"""Three real nats-servers that form a cluster with JetStream on loopback."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Self

from nats import errors as nats_errors

from tests.support.client import Client
from tests.support.patience import allow, until
from tests.support.server import HOST, NatsServer, free_port

SIZE = 3


class Cluster:
    """Servers that know each other; all state is removed with them."""

    def __init__(self, config: str = "") -> None:
        ports: set[int] = set()
        while len(ports) < SIZE:
            ports.add(free_port())
        routes = ", ".join(f'"nats://{HOST}:{port}"' for port in ports)
        self.servers = [
            NatsServer(
                config=f"""
                    {config}
                    cluster {{
                        name: test, listen: "{HOST}:{port}", routes: [{routes}]
                        no_advertise: true
                    }}
                """
            )
            for port in ports
        ]

    @property
    def urls(self) -> list[str]:
        """The addresses of all servers."""
        return [server.url for server in self.servers]

    def named(self, name: str) -> NatsServer:
        """Return the server with this name."""
        return next(server for server in self.servers if server.name == name)

    async def ready(self) -> None:
        """Wait until JetStream has a leader and all three servers take part."""
        async with await Client.connect(self.urls[0]) as client:

            async def up() -> bool:
                try:
                    answer = await client.nats.request(
                        "$JS.API.STREAM.CREATE.probe",
                        json.dumps(
                            {"name": "probe", "subjects": ["probe"], "num_replicas": SIZE}
                        ).encode(),
                        timeout=2,
                    )
                except nats_errors.Error:
                    return False
                return "error" not in json.loads(answer.data)

            await until(up, "the cluster has a leader", allow(20))
            await client.nats.request("$JS.API.STREAM.DELETE.probe", timeout=allow(5))

    async def leader_of(self, client: Client, stream: str) -> NatsServer:
        """Return the server that leads a stream."""
        found: list[str] = []

        async def known() -> bool:
            info = await _info(client, stream)
            leader = (info.get("cluster") or {}).get("leader")
            if leader:
                found.append(leader)
            return bool(leader)

        await until(known, f"{stream} has a leader", allow(10))
        return self.named(found[-1])

    async def led_elsewhere(self, client: Client, stream: str, spared: NatsServer) -> NatsServer:
        """Have a stream led by another server than the one spared, and return that one."""
        while (leader := await self.leader_of(client, stream)) is spared:
            await client.nats.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{stream}", timeout=allow(5))
        return leader

    async def is_current(self, client: Client, stream: str) -> bool:
        """Tell whether a stream has a leader, and its copies on the other servers are current."""
        group = (await _info(client, stream)).get("cluster") or {}
        others = group.get("replicas") or []
        current = [one for one in others if one.get("current") and not one.get("offline")]
        return bool(group.get("leader")) and len(current) == SIZE - 1

    def __enter__(self) -> Self:
        for server in self.servers:
            server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self.servers:
            server.close()


async def _info(client: Client, stream: str) -> dict[str, Any]:
    try:
        answer = await client.nats.request(f"$JS.API.STREAM.INFO.{stream}", timeout=2)
    except nats_errors.Error:
        return {}
    info: dict[str, Any] = json.loads(answer.data)
    return info
