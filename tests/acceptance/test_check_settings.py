"""`gozo check` and settings: of a bucket, an account, a server; sound ones and others.

The buckets share one server, the accounts another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gozo.daemon.check import Found, examine
from gozo.errors import JetStreamError, UnsuitableServerError
from gozo.leadership.lease_record import open_lease
from gozo.settings.model import ConnectionSettings, ServeSettings
from gozo.store.bucket import open_bucket, own_settings
from gozo.store.event_history import DESCRIPTION
from gozo.store.suitability import FEWEST, faults
from gozo.transport.connection import Connection
from gozo.transport.jetstream import JetStream
from tests.support.client import Client
from tests.support.processes import Clients, Daemons, Servers
from tests.support.rights import admin, withholding
from tests.support.server import NatsServer
from tests.support.storage import call

SECOND = 1_000_000_000  # nanoseconds

SOUND: dict[str, dict[str, Any]] = {
    "own": {},
    "of nats kv add": {"allow_msg_ttl": False, "allow_rollup_hdrs": True},
    "history": {"max_msgs_per_subject": 5},
    "large enough": {"max_bytes": 10_000_000, "max_msgs": 100_000, "max_msg_size": 100_000},
    "old where nothing is full": {"discard": "old"},
    "compressed": {"compression": "s2"},
    "no direct reads": {"allow_direct": False},
    "batches": {"allow_atomic": True},
    "no TTL, purged": {"allow_msg_ttl": False, "max_msgs_per_subject": -1},
    "idle consumers last": {"consumer_limits": {"inactive_threshold": 60 * SECOND}},
    "a few readers": {"max_consumers": 5},
}

NEVER: dict[str, tuple[dict[str, Any], str]] = {
    "no_ack": ({"no_ack": True}, "has no_ack true: no write is acknowledged"),
    "interest": ({"retention": "interest"}, "has retention interest: schedules vanish"),
    "workqueue": ({"retention": "workqueue"}, "has retention workqueue: schedules vanish"),
    "replaced": ({"discard_new_per_subject": True}, "has discard_new_per_subject true"),
    "moved": (
        {"subject_transform": {"src": "$KV.moved.>", "dest": "elsewhere.>"}},
        "has subject_transform from $KV.moved.> to elsewhere.>: schedules are not stored under",
    ),
    "counter": (
        {"allow_msg_counter": True, "allow_msg_ttl": False, "discard": "old"},
        "has allow_msg_counter true",
    ),
    "tiny": ({"max_msg_size": 20}, "has max_msg_size 20: even a schedule without payload"),
    "idle": (
        {"consumer_limits": {"inactive_threshold": SECOND}},
        "has consumer_limits.inactive_threshold 1s: gozo cannot follow",
    ),
}
"""Settings with which gozo never works, and what it says of them."""

UNSAFE: dict[str, tuple[dict[str, Any], str]] = {
    "memory": ({"storage": "memory"}, "has storage memory: all schedules are lost when"),
    "max_age": ({"max_age": 3600 * SECOND}, "has max_age 1h: older schedules vanish"),
    "old": ({"discard": "old", "max_msgs": 9}, "has discard old: since the bucket is limited"),
    "async": ({"persist_mode": "async"}, "has persist_mode async: schedules are acknowledged"),
    "small": ({"max_msg_size": 2_000}, "has max_msg_size 2000: a schedule with a long id"),
    "purge": ({"deny_purge": True}, "has deny_purge true: when storage is full, delivered"),
    "readers": ({"max_consumers": 1}, "has max_consumers 1: gozoctl and a standby cannot"),
    "one message": ({"max_msgs": 1}, "has max_msgs 1: gozo's own messages leave no room"),
    "room": ({"max_bytes": 100}, "gozo cannot write an entry: maximum bytes exceeded"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """Run one server for all buckets."""
    with NatsServer() as server:
        yield server


class Said:
    """What a checkup said."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    def take(self, topic: str, words: str) -> None:
        """Note some words."""
        self.all.append((topic, words))

    def of(self, topic: str) -> list[str]:
        """Return what was said about a topic."""
        return [words for one, words in self.all if one == topic]


async def look(
    server: NatsServer, bucket: str, user: str | None = None, history_us: int | None = None
) -> tuple[Found, Said]:
    """Run a checkup as the daemon of a bucket of this name would, with a subject of its own."""
    chosen = ConnectionSettings(
        (server.url,),
        user=user,
        password="p" if user else None,
        bucket=bucket,
        request_subject=f"ask-{bucket}",
    )
    said = Said()
    settings = ServeSettings(chosen, connect_timeout=2.0, history_us=history_us)
    return await examine(settings, said.take), said


async def make(client: Client, bucket: str, **changed: Any) -> dict[str, Any]:
    """Make a bucket as gozo does, but for some settings; skip the test on a server without them."""
    settings = own_settings(
        JetStream(Connection(ConnectionSettings(), "unused")), bucket, replicas=1
    )
    made = await call(client, f"STREAM.CREATE.KV_{bucket}", settings | changed)
    config: dict[str, Any] = made["config"]
    for name, value in changed.items():
        if name not in config and value:
            pytest.skip(f"this server does not know {name}")
    return config


async def streams(client: Client) -> set[str]:
    """Return the names of all streams."""
    return set((await call(client, "STREAM.NAMES"))["streams"] or [])


def bucket_named(case: str) -> str:
    """Make the name of a bucket."""
    return case.replace(" ", "-").replace(",", "")


@pytest.mark.parametrize("case", SOUND)
async def test_sound_bucket(server: NatsServer, clients: Clients, case: str) -> None:
    """Nothing is wrong with it, an entry lived in a temporary bucket, and all is as before."""
    client, bucket = await clients.connect(server), bucket_named(case)
    before = await make(client, bucket, **SOUND[case])
    there = await streams(client)
    found, said = await look(server, bucket)
    assert (found, said.of("problem"), said.of("note")[1:]) == (Found(0, 0, 0), [], [])
    assert said.of("trial")
    assert await streams(client) == there
    after = await call(client, f"STREAM.INFO.KV_{bucket}")
    assert (after["config"], after["state"]["last_seq"]) == (before, 0)


@pytest.mark.parametrize("case", NEVER)
async def test_impossible_bucket(server: NatsServer, clients: Clients, case: str) -> None:
    """The check fails, and a daemon refuses to start, with the same sentence.

    What is read is also so: with these settings, a trial finds that gozo does not work.
    """
    settings, words = NEVER[case]
    client, bucket = await clients.connect(server), bucket_named(case)
    await make(client, bucket, **settings)
    found, said = await look(server, bucket)
    (sentence,) = said.of("problem")
    assert sentence.startswith(f"the bucket {bucket} {words}")
    assert found == Found(0, 0, 1)
    connection = Connection(ConnectionSettings((server.url,)), "test")
    await connection.open(5)
    try:
        for opening in (
            open_bucket(JetStream(connection), bucket, replicas=1),
            open_lease(JetStream(connection), bucket, replicas=None),
        ):
            with pytest.raises(UnsuitableServerError) as refused:
                await opening
            assert str(refused.value) == sentence
    finally:
        await connection.close()


@pytest.mark.parametrize("case", NEVER)
async def test_trial_of_the_impossible(
    server: NatsServer, clients: Clients, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who does not read these settings finds out by doing."""
    if case == "moved":
        pytest.skip("what reaches beyond a bucket is not tried in another one")
    client, bucket = await clients.connect(server), f"try-{bucket_named(case)}"
    await make(client, bucket, **NEVER[case][0])
    monkeypatch.setattr("gozo.daemon.inspection.faults", lambda what, config: [])
    found, said = await look(server, bucket)
    assert found.problems
    assert any("in a temporary bucket with the settings of" in one for one in said.of("problem"))


@pytest.mark.parametrize("case", UNSAFE)
async def test_unsafe_bucket(server: NatsServer, clients: Clients, case: str) -> None:
    """The check fails, and says what would happen; a daemon works with it for a while."""
    settings, words = UNSAFE[case]
    client, bucket = await clients.connect(server), bucket_named(case)
    config = await make(client, bucket, **settings)
    found, said = await look(server, bucket)
    assert any(words in sentence for sentence in said.of("problem"))
    assert found.problems >= 1
    assert not any(fault.is_final for fault in faults("it", config))


async def test_sealed(server: NatsServer, clients: Clients) -> None:
    """So is a bucket that is sealed, the lease's too."""
    client = await clients.connect(server)
    for name in ("sealed", "held_lease"):
        config = await make(client, name)
        await call(client, f"STREAM.UPDATE.KV_{name}", config | {"sealed": True})
    for bucket, about in (("sealed", "sealed"), ("held", "held_lease")):
        found, said = await look(server, bucket)
        (sentence,) = said.of("problem")
        assert sentence.startswith(f"the bucket {about} has sealed true: nothing can be stored")
        assert found.problems == 1


async def test_sealed_history(server: NatsServer, clients: Clients) -> None:
    """Neither keeps a daemon events in a stream that is sealed."""
    client = await clients.connect(server)
    made = {"name": "told_history", "subjects": ["ask-told.event.>"], "description": DESCRIPTION}
    config = (await call(client, "STREAM.CREATE.told_history", made))["config"]
    await call(client, "STREAM.UPDATE.told_history", config | {"sealed": True})
    with pytest.raises(JetStreamError, match="the stream told_history is sealed"):
        await look(server, "told", history_us=3_600_000_000)


async def test_full(server: NatsServer, clients: Clients) -> None:
    """A bucket without room for another schedule is named."""
    client = await clients.connect(server)
    await make(client, "full", max_msgs=FEWEST)
    for number in range(FEWEST):
        await client.nats.request(f"$KV.full.{number}", b"x")
    found, said = await look(server, "full")
    assert (found.problems, said.of("problem")) == (
        1,
        [f"the bucket full is full: raise its max_msgs, {FEWEST}"],
    )


async def test_kept_requests(server: NatsServer, clients: Clients) -> None:
    """A stream that keeps requests is named, and what it does to clients."""
    client = await clients.connect(server)
    await call(client, "STREAM.CREATE.KEEPS", {"name": "KEEPS", "subjects": ["ask-kept.>"]})
    found, said = await look(server, "kept")
    (advice,) = [one for one in said.of("advice") if "KEEPS" in one]
    assert advice.startswith("the stream KEEPS captures messages to gozo")
    assert found.problems == 0


async def test_left_behind(server: NatsServer, clients: Clients) -> None:
    """A temporary bucket of another check is left alone, and that is said."""
    client = await clients.connect(server)
    await make(client, "busy")
    await make(client, "busy_check", description="temporary, of gozo check 1")
    found, said = await look(server, "busy")
    assert found.problems == 0
    assert any("the stream KV_busy_check exists" in one for one in said.of("note"))
    assert "KV_busy_check" in await streams(client)


ACCOUNTS: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({}, ""),
    "two": ({"max_streams": 2}, ""),
    "one": ({"max_streams": 1}, "the account has room for 1 more streams, but gozo serve creates"),
    "bytes": ({"max_bytes_required": True}, "the account requires max_bytes of each stream"),
    "reader": ({"max_consumers": 1}, "gozo cannot follow an entry"),
    "file": ({"max_file": 0}, "gozo serve cannot create the bucket"),
}
"""JetStream's limits of an account, and what is wrong with them."""


@pytest.fixture(scope="module")
def accounts() -> Iterator[NatsServer]:
    """Run one server for all accounts."""
    listed = {
        name.upper(): {"jetstream": limits or "enabled", "users": [{"user": name, "password": "p"}]}
        for name, (limits, _) in ACCOUNTS.items()
    }
    with NatsServer(config=f"accounts: {json.dumps(listed)}") as server:
        yield server


@pytest.mark.parametrize("account", ACCOUNTS)
async def test_account(accounts: NatsServer, account: str) -> None:
    """Its limits are read, and met."""
    words = ACCOUNTS[account][1]
    found, said = await look(accounts, "gozo", account)
    assert bool(found.problems) == bool(words)
    assert any(words in sentence for sentence in said.of("problem")) == bool(words)


async def test_no_room_for_a_trial(accounts: NatsServer, clients: Clients) -> None:
    """Where the account has no room for a temporary bucket, that is said, and is no fault."""
    client = await clients.connect(accounts, user="two", password="p")  # noqa: S106
    for bucket in ("mine", "mine_lease"):
        await make(client, bucket)
    found, said = await look(accounts, "mine", "two")
    assert found == Found(0, 0, 0)
    assert any(
        "not tried in a temporary bucket mine_check: " in one and "maximum number of streams" in one
        for one in said.of("note")
    )


@pytest.mark.parametrize(
    "withheld",
    [
        "$JS.API.STREAM.CREATE.KV_gozo_check",
        "$JS.API.STREAM.DELETE.KV_gozo_check",
        "$JS.API.STREAM.MSG.GET.KV_gozo_check",
        "$JS.API.CONSUMER.MSG.NEXT.KV_gozo_check.>",
        "$KV.gozo_check.>",
    ],
)
async def test_no_right_to_a_trial(servers: Servers, clients: Clients, withheld: str) -> None:
    """A permission that only the trial needs is named, is no fault, and leaves nothing behind."""
    server = servers.start(withholding("publish", withheld))
    found, said = await look(server, "gozo", "gozo")
    assert found == Found(0, 0, 0)
    (note,) = [one for one in said.of("note") if "not tried in a temporary bucket" in one]
    assert f"publish to {withheld.removesuffix('>')}" in note
    assert await streams(await admin(clients, server)) == set()


async def test_removed_unseen(servers: Servers, clients: Clients) -> None:
    """What was made is removed, also by who may not look at it."""
    server = servers.start(withholding("publish", "$JS.API.STREAM.INFO.KV_gozo_check"))
    found, said = await look(server, "gozo", "gozo")
    assert (found, len(said.of("trial"))) == (Found(0, 0, 0), 1)
    assert await streams(await admin(clients, server)) == set()


SERVERS = {
    "mapped requests": ('mappings: {"ask-gozo": "other"}', "", "maps ask-gozo to other, so no"),
    "mapped now and then": (
        'mappings: {"ask-gozo": [{destination: other, weight: 50%}]}',
        "",
        "maps ask-gozo to other, so no",
    ),
    "mapped verbs": (
        'mappings: {"ask-gozo.admin.pause": "other"}',
        "",
        "maps ask-gozo.admin.pause to other, and a daemon needs it to serve gozoctl",
    ),
    "mapped bucket": (
        'mappings: {"$KV.gozo.>": "other.>"}',
        "",
        "to other.=_check, and a daemon needs it to store schedules",
    ),
    "mapped lease": (
        'mappings: {"$KV.gozo_lease.*": "other.$1"}',
        "",
        "maps $KV.gozo_lease.leader to other.leader, and a daemon needs it to",
    ),
    "mapped others": ('mappings: {"$KV.gozo_other.>": "other.>", "ask": "other"}', "", ""),
    "short subjects": ("max_control_line: 1024", "", "raise its max_control_line"),
    "few subscriptions": ("max_subscriptions: 10", "", "raise max_subscriptions"),
    "one connection": ("max_connections: 1", "", "a daemon needs two connections, but gets only"),
    "small batches": ("", "limits { max_request_batch: 100 }", "409 Exceeded MaxRequestBatch"),
    "strict": ("", "strict: true", ""),
}
"""Options of a server, those of JetStream, and what is wrong with them."""


@pytest.mark.parametrize("case", SERVERS)
async def test_server(servers: Servers, case: str) -> None:
    """What limits connections and consumers is met."""
    config, storage, words = SERVERS[case]
    found, said = await look(servers.start(config, storage=storage), "gozo")
    assert found.problems == bool(words)
    assert any(words in sentence for sentence in said.of("problem")) == bool(words)


async def test_exit_codes(server: NatsServer, clients: Clients, daemons: Daemons) -> None:
    """As processes: the check exits with 1, and so does the daemon, with the same sentence."""
    client = await clients.connect(server)
    await make(client, "mute", no_ack=True)
    await make(client, "fine")
    await make(client, "fine_lease", no_ack=True)
    for bucket, about in (("mute", "mute"), ("fine", "fine_lease")):
        names = ("--address", server.url, "--bucket", bucket, "--request-subject", f"ask-{bucket}")
        check, serve = [daemons.start(command, *names) for command in ("check", "serve")]
        assert [await check.wait(), await serve.wait()] == [1, 1]
        sentence = f"the bucket {about} has no_ack true: no write is acknowledged"
        assert sentence in check.stdout
        assert sentence in serve.stderr.splitlines()[-1]


MAPPED = {
    "bucket": ("$KV.gozo.*", "$KV.gozo.=_check to other", "to store schedules"),
    "lease": ("$KV.gozo_lease.*", "$KV.gozo_lease.leader to other", "to lead"),
}
"""Mappings that take away a subject of a bucket, and what is said of them."""


@pytest.mark.parametrize("case", MAPPED)
async def test_serve_refuses_a_mapping(servers: Servers, daemons: Daemons, case: str) -> None:
    """It exits as the check does, with the same sentence, instead of waiting for its writes."""
    subject, words, purpose = MAPPED[case]
    server = servers.start(f'mappings: {{"{subject}": "other"}}')
    check, serve = [daemons.start(one, "--address", server.url) for one in ("check", "serve")]
    assert [await check.wait(), await serve.wait()] == [1, 1]
    sentence = f"the account maps {words}, and a daemon needs it {purpose}: remove that mapping"
    assert sentence in check.stdout
    assert sentence in serve.stderr.splitlines()[-1]


async def test_no_room_for_the_lease(servers: Servers, daemons: Daemons) -> None:
    """A daemon that cannot have what it leads by ends as well, instead of waiting for it."""
    account = "jetstream: { max_streams: 1, max_mem: 10M, max_file: 10M }"
    user = "users: [ { user: a, password: p } ]"
    server = servers.start(f"accounts {{ A {{ {account}, {user} }} }}")
    daemon = daemons.start("serve", "--address", server.url, "--user", "a", "--password", "p")
    assert await daemon.wait() == 1
    said = daemon.stderr.splitlines()[-1]
    assert "refused STREAM.CREATE.KV_gozo_lease: maximum number of streams reached" in said
