"""Storage that is full: by a limit of the bucket's or of the server's, or a disk that is.

What is removed makes room, so it is filled up again all the time until it is to end.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from subprocess import run
from types import TracebackType
from typing import Any, Self

import pytest
from nats import errors as nats_errors

from tests.support.client import Client
from tests.support.patience import allow, until
from tests.support.processes import Servers
from tests.support.server import NatsServer

BYTES = 400_000
"""What a limit leaves for everything, in bytes."""

PAUSE = 0.001  # seconds between attempts to store more
DISK = "24m"  # of which the server itself takes some


class Limit:
    """A limit of the `bucket`, or of the `server`, that is reached from `async with` on."""

    def __init__(self, kind: str, client: Client) -> None:
        self._kind = kind
        self._client = client
        self._filling: asyncio.Task[None] | None = None
        self._refused = asyncio.Event()
        self._ended = False
        self._subject = f"$KV.{client.bucket}.fill" if kind == "bucket" else "fill"

    async def reached(self) -> None:
        """Wait until what has become free is taken again."""
        self._refused.clear()
        await self._refused.wait()

    @staticmethod
    def start(kind: str, servers: Servers) -> NatsServer:
        """Start a server that can have such a limit."""
        return servers.start(storage=f"max_file: {BYTES}" if kind == "server" else "")

    async def __aenter__(self) -> Self:
        if self._kind == "bucket":
            await self._set(BYTES)
        else:
            stream = {"name": "fill", "subjects": ["fill.*"]}
            await call(self._client, "STREAM.CREATE.fill", stream)
        self._filling = asyncio.create_task(self._fill())
        await self.reached()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._filling is not None
        self._ended = True
        await self._filling
        if self._kind == "bucket":
            await self._set(-1)
        else:
            await call(self._client, "STREAM.DELETE.fill")

    async def _set(self, most: int) -> None:
        stream = f"KV_{self._client.bucket}"
        config = (await call(self._client, f"STREAM.INFO.{stream}"))["config"]
        await call(self._client, f"STREAM.UPDATE.{stream}", config | {"max_bytes": most})

    async def _fill(self) -> None:
        number, size = 0, BYTES // 10
        # At the end as small as an entry can be: no delete marker finds room in its place.
        headers = {"Gozo-When": "9999999999", "Gozo-Subject": "x"}
        while not self._ended:
            number += 1
            with suppress(nats_errors.Error):
                answer = await self._client.nats.request(
                    f"{self._subject}.{number}", bytes(size), timeout=1, headers=headers
                )
                if b'"error"' not in answer.data:
                    continue
                if size:
                    size //= 10
                    continue
                self._refused.set()
                await asyncio.sleep(PAUSE)


async def call(client: Client, verb: str, body: object = None) -> dict[str, Any]:
    """Call the JetStream API."""
    payload = b"" if body is None else json.dumps(body).encode()
    answer = await client.nats.request(f"$JS.API.{verb}", payload, timeout=allow(5))
    answered: dict[str, Any] = json.loads(answer.data)
    assert "error" not in answered, answered
    return answered


@contextmanager
def small_disk() -> Iterator[Path]:
    """Mount a disk that is soon full; skips the test where that is not allowed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gozo-disk-")))
        mount, umount = shutil.which("mount"), shutil.which("umount")
        if mount is None or umount is None:
            pytest.skip("nothing can be mounted here")
        made = run([mount, "-t", "tmpfs", "-o", f"size={DISK}", "none", str(folder)], check=False)
        if made.returncode:
            pytest.skip("nothing may be mounted here")
        stack.callback(run, [umount, "--lazy", str(folder)], check=True)
        yield folder


def fill_disk(folder: Path) -> Path:
    """Take all of the room that is left on a disk, by a file that is returned."""
    path = folder / "fill"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4_096))
    return path


async def without(client: Client, prefix: str) -> None:
    """Wait until the bucket holds no schedule whose key begins with a prefix and a dot."""

    async def none() -> bool:
        wanted = {"subjects_filter": f"$KV.{client.bucket}.{prefix}.*"}
        state = (await call(client, f"STREAM.INFO.KV_{client.bucket}", wanted))["state"]
        held = [await marker(client, subject) for subject in state.get("subjects") or ()]
        return None not in held

    await until(none, f"no schedule {prefix}.* is left")


async def marker(client: Client, subject: str) -> str | None:
    """Return the reason of a delete marker; empty where there is nothing, None for a schedule."""
    stream = client.nats.jetstream()
    try:
        message = await stream.get_last_msg(f"KV_{client.bucket}", subject, direct=False)
    except nats_errors.Error:
        return ""
    headers = message.headers or {}
    return headers.get("Gozo-Reason") if "KV-Operation" in headers else None
