"""Runs in a bucket, as a leader writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gozo.protocol.headers import block
from gozo.protocol.ids import escape_id
from gozo.schedule.model import NEVER, Confirm, Confirmation, Entry, State
from gozo.schedule.retry import given_up
from gozo.schedule.runs import begun, claimed, failed, refused, sent
from gozo.store.entry_codec import entry_headers
from gozo.store.run_codec import run_key
from tests.support.raw import RawClient, request
from tests.support.server import NatsServer

DUE_US = 1_795_000_000_000_000
"""When they are due: 2026-11-18T11:06:40Z."""
LATER_US = DUE_US + 10**15
HASH = "h" * 43


def run_of(
    id_: str,
    state: State = State.RUNNING,
    *,
    occurrence: str = "64a1-1",
    confirmation: Confirmation = Confirmation(Confirm.CLAIM),  # noqa: B008  # frozen
    due_us: int = DUE_US,
) -> Entry:
    """Make a run of the schedule with an id, in or after its second attempt of three."""
    schedule = Entry(
        id_, "jobs", "@daily", due_us, 1, size=4, attempts=3, confirmation=confirmation
    )
    entry = begun(schedule, escape_id(id_), occurrence, b"Kind: green\r\n", due_us)
    assert entry.run is not None
    entry = entry._replace(run=replace(entry.run, give_up_us=NEVER))
    entry = failed(sent(entry, HASH, due_us), "exit status 3", due_us)
    then: dict[State, Callable[[Entry], Entry]] = {
        State.PENDING: lambda entry: sent(entry, HASH, due_us + 1_000_000),
        State.RUNNING: lambda entry: claimed(
            sent(entry, HASH, due_us + 1_000_000), HASH, due_us + 2_000_000
        ),
        State.RETRYING: lambda entry: refused(entry, "nobody subscribes", 0, LATER_US)._replace(
            next_us=LATER_US + 100_000  # without the random part
        ),
        State.FAILED: lambda entry: given_up(entry, "exit status 4", due_us),
    }
    return then[state](entry)


def put_run(server: NatsServer, run: Entry, payload: bytes = b"full") -> str:
    """Write a run to the bucket; return its key."""
    assert run.run is not None
    key = run_key(run.run.key, run.run.occurrence)
    with RawClient(server.url) as raw:
        headers = block(entry_headers(run, b"abc"))
        raw.send(request(f"$KV.gozo.{key}".encode(), headers=headers, payload=payload))
        raw.confirm()
    return key
