"""Finds out whether a daemon would work with some settings, and leaves everything as it is.

Each right is tried by what needs it, worded so that it has no effect: a write that expects a
revision which no key has, a stream to be made under a name that is none. The server tells of a
missing right before it answers an echo that was sent later.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gozo.administration import VERBS
from gozo.connection import Connection
from gozo.entries import block
from gozo.errors import ForeignDaemonError, UnsuitableServerError
from gozo.inboxes import SHARED
from gozo.jetstream import JetStream
from gozo.leaders import find_rivals
from gozo.logs import rendered
from gozo.lookout import check_alone
from gozo.policy import too_small
from gozo.rivals import complaint
from gozo.schedule import MICROSECONDS
from gozo.service import SERVICE
from gozo.settings import ConnectionSettings, ServeSettings
from gozo.settling import settle_inboxes
from gozo.store.bucket import Bucket, deviations, find_bucket, own_settings, stream_of
from gozo.store.history import check_room, find_history, history_of, how_long
from gozo.store.probe import KEY, NO_REVISION
from gozo.when import print_duration

HEAR = 0.3  # seconds to wait for the answers of daemons
FAR_US = MICROSECONDS // 2  # by which a clock is worth a word
FULL = 0.8  # share of a limit from which it is worth a word
TOKEN = "gozo-check"  # noqa: S105  # stands for names that a daemon makes up
NOT_A_NAME = b'{"name": "=", "stream_name": "="}'
_KIB = 1024


class Right(NamedTuple):
    """One thing that a daemon must be allowed to do."""

    verb: str
    """`publish` or `subscribe`."""
    subject: str
    purpose: str
    payload: bytes = b""
    headers: bytes = b""


Say = Callable[[str, str], None]
"""Takes a topic, and words about it."""


class Found(NamedTuple):
    """What the checkup found to be wrong."""

    missing: int
    """Permissions that a daemon needs and does not have."""
    not_serving: int
    """Running daemons that report that they are not serving."""


async def examine(settings: ServeSettings, say: Say) -> Found:
    """Look at the server, the rights, the bucket and the daemons; return what is wrong.

    Raises:
        GozoError: a daemon would exit with it at once, or daemons interfere with each other.
    """
    connection = Connection(settings.connection, "gozo check", private=True)
    denied: set[tuple[str, str]] = set()
    connection.on_denied.append(lambda kind, subject: denied.add((kind, subject)))
    await connection.open(settings.connect_timeout)
    try:
        shared = await settle_inboxes(connection)
        say("server", _server(connection))
        if reason := too_small(connection.max_payload):
            raise UnsuitableServerError(reason)
        js = JetStream(connection)
        daemons: list[dict[str, Any]] = []
        missing = await _try_rights(connection, js, settings, denied, daemons, say)
        if not missing:
            await js.check_enabled(settings.connect_timeout)
            await _look(js, settings, say)
        not_serving = _name_daemons(daemons, settings, say)
        if shared:
            say("advice", shared)
        if not missing:
            await _look_for_rivals(connection, settings.connection)
    finally:
        await connection.close()
    if reason := settings.policy.without_receipts(settings.connection.inbox_prefix or SHARED):
        say("advice", reason)
    say(
        "note",
        "gozo must be allowed to publish to its clients' reply subjects as well, which cannot be "
        "tried",
    )
    return Found(missing, not_serving)


def _server(connection: Connection) -> str:
    info = connection.info
    words = [
        f"{info.get('server_name', '')} {info.get('version', '')}",
        connection.address,
        f"max_payload {_size(connection.max_payload)}",
    ]
    if info.get("tls_required"):
        words.append("TLS")
    if info.get("cluster"):
        words.append(f"cluster {info['cluster']}")
    return ", ".join(words)


# Rights


def rights(js: JetStream, settings: ServeSettings) -> Iterator[Right]:
    """All that a daemon must be allowed to do, as it can be tried without effect."""
    chosen = settings.connection
    asked, admin = chosen.request_subject, f"{chosen.request_subject}.admin"
    lease = f"{chosen.bucket}_lease"
    yield Right("subscribe", asked, "to take requests")
    yield Right("subscribe", f"{admin}.leader", "to be known as the leader")
    yield Right("subscribe", f"{admin}.told", "to stand by")
    for verb in VERBS:
        yield Right("subscribe", f"{admin}.{verb}", "to be told by administrators")
    for verb in ("PING", "INFO", "STATS"):
        for subject in (verb, f"{verb}.{SERVICE}", f"{verb}.{SERVICE}.{TOKEN}"):
            yield Right("subscribe", f"$SRV.{subject}", "to be found")
    yield Right("subscribe", f"$KV.{lease}.leader", "to take over at once")
    yield Right("publish", f"{admin}.leader", "to ask whether another one leads")
    yield Right("publish", f"{admin}.told", "to tell who stands by what was done")
    yield Right("publish", f"$SRV.INFO.{SERVICE}", "to find other daemons")
    yield Right("publish", f"{js.prefix}.INFO", "to look whether JetStream is there")
    write = block(b"", NO_REVISION)
    yield Right(
        "publish", js.entrance(f"$KV.{chosen.bucket}.{KEY}"), "to store schedules", b"", write
    )
    yield Right("publish", js.entrance(f"$KV.{lease}.leader"), "to lead", b"", write)
    for bucket in (chosen.bucket, lease):
        stream = stream_of(bucket)
        yield Right("publish", f"{js.prefix}.STREAM.INFO.{stream}", "to find the bucket")
        yield Right(
            "publish", f"{js.prefix}.STREAM.CREATE.{stream}", "to make the bucket", NOT_A_NAME
        )
        last = json.dumps({"last_by_subj": f"$KV.{bucket}.{KEY}"}).encode()
        yield Right("publish", f"{js.prefix}.STREAM.MSG.GET.{stream}", "to read entries", last)
    stream = stream_of(chosen.bucket)
    consumer = f"{stream}.{TOKEN}"
    yield Right(
        "publish",
        f"{js.prefix}.CONSUMER.CREATE.{consumer}.$KV.{chosen.bucket}.>",
        "to follow the bucket",
        NOT_A_NAME,
    )
    yield Right("publish", f"{js.prefix}.CONSUMER.MSG.NEXT.{consumer}", "to follow the bucket")
    yield Right("publish", f"{js.prefix}.DIRECT.GET.{stream}", "to read payloads", b'{"seq": 1}')
    nothing = json.dumps({"filter": f"$KV.{chosen.bucket}.{KEY}", "seq": 1}).encode()
    yield Right(
        "publish", f"{js.prefix}.STREAM.PURGE.{stream}", "to settle when storage is full", nothing
    )
    if settings.events or settings.history_us is not None:
        yield Right("publish", f"{asked}.event.check", "to tell events")
    if settings.history_us is not None:
        for verb in ("INFO", "CREATE", "UPDATE"):
            subject = f"{js.prefix}.STREAM.{verb}.{history_of(chosen.bucket)}"
            yield Right(
                "publish", subject, "to keep a history", NOT_A_NAME if verb != "INFO" else b""
            )


async def _try_rights(
    connection: Connection,
    js: JetStream,
    settings: ServeSettings,
    denied: set[tuple[str, str]],
    daemons: list[dict[str, Any]],
    say: Say,
) -> int:
    """Try all, and return how many are missing; `daemons` is filled with those that there are."""

    def on_answer(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        try:
            daemons.append(json.loads(payload)["metadata"])
        except (ValueError, LookupError, TypeError):
            return  # an answer to something else

    inbox = connection.new_inbox(peers=True)
    connection.listen(inbox, on_answer)
    needed = list(rights(js, settings))
    for right in needed:
        if right.verb == "subscribe":
            connection.listen(right.subject, _ignore).stop()
        else:
            connection.publish(right.subject, right.payload, headers=right.headers, reply=inbox)
    await connection.echo()
    await asyncio.sleep(HEAR)
    kinds = {"publish": "publish", "subscribe": "subscription"}
    refused = [right for right in needed if (kinds[right.verb], right.subject) in denied]
    say("rights", f"{len(needed) - len(refused)} of {len(needed)} granted")
    for right in refused:
        say("missing", f"{right.verb} to {right.subject}: {right.purpose}")
    return len(refused)


def _ignore(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
    """What comes is for the daemons."""


# What there is


async def _look(js: JetStream, settings: ServeSettings, say: Say) -> None:
    account = await js.call("INFO")
    limits = account.get("limits", {})
    for kind in ("memory", "storage"):
        used, most = int(account.get(kind, 0)), int(limits.get(f"max_{kind}", -1))
        say(
            "JetStream",
            f"{kind}: {_size(used)} of {'no limit of the account' if most < 0 else _size(most)}",
        )
        if most > 0 and used > FULL * most:
            say("advice", f"JetStream's {kind} is nearly full: raise the limit of the account")
    name = settings.connection.bucket
    wanted = own_settings(js, name, replicas=settings.replicas)
    bucket = await find_bucket(js, name)
    if bucket is None:
        say("bucket", f"{name}: does not exist yet, gozo serve makes it")
        copies = int(wanted["num_replicas"])
    else:
        copies = await _describe(bucket, wanted, say)
    if settings.history_us is not None:
        await _look_at_history(js, settings, settings.history_us, say)
    if copies == 1:
        say(
            "advice",
            "with one copy, schedules are as safe as one server's disk: set sync_interval: always "
            "in its jetstream block, unless it is the embedded one, or run a cluster of three",
        )


async def _describe(bucket: Bucket, wanted: dict[str, Any], say: Say) -> int:
    """Tell what a bucket is like, and return how many copies there are."""
    stream = await bucket.js.call(f"STREAM.INFO.{bucket.stream}")
    config, state = stream["config"], stream["state"]
    copies = int(config.get("num_replicas", 1))
    say(
        "bucket",
        f"{bucket.name}: {state.get('num_subjects', 0)} keys, {_size(int(state['bytes']))}, "
        f"{copies} cop{'y' if copies == 1 else 'ies'}, {config.get('storage')}",
    )
    for other in deviations(bucket.name, config, wanted, bucket.js.connection.info):
        say(
            "advice",
            f"the bucket has {other.setting} {rendered(other.value)}, gozo's own is "
            f"{rendered(other.own)}: {other.effect}",
        )
    ahead_us = (await bucket.state()).clock_ahead_us
    side = "ahead of" if ahead_us >= 0 else "behind"
    say("clock", f"{abs(ahead_us) / 1000:.1f} ms {side} the server's")
    if abs(ahead_us) > FAR_US:
        say("advice", "set the clock of this host, or the server's: 2 s apart, gozo does not lead")
    return copies


async def _look_at_history(js: JetStream, settings: ServeSettings, age_us: int, say: Say) -> None:
    chosen = settings.connection
    place = (js, chosen.bucket, chosen.request_subject)
    config = await find_history(*place, age_us=age_us)
    if config is None:
        await check_room(*place)
        say("history", f"{history_of(chosen.bucket)}: does not exist yet, gozo serve makes it")
        return
    name, kept, given = history_of(chosen.bucket), how_long(config), print_duration(age_us)
    say("history", f"{name}: keeps {', '.join(config['subjects'])} {kept}")
    age = config.get("max_age")  # nanoseconds; 0 is for ever
    if not age or age > age_us * 1000:
        say(
            "advice",
            f"the stream {name} keeps events {kept}: gozo serve --history {given} shortens that, "
            "and what is older is removed; give a longer one to keep it",
        )
    elif age < age_us * 1000:
        say("note", f"gozo serve --history {given} lets the stream {name} keep events for longer")


def _name_daemons(daemons: list[dict[str, Any]], settings: ServeSettings, say: Say) -> int:
    """Name the daemons, and return how many of ours are not serving."""
    chosen, not_serving = settings.connection, 0
    for told in daemons:
        if told.get("request_subject") != chosen.request_subject:
            continue
        if told.get("bucket") == chosen.bucket:
            say("daemon", f"{told.get('name')}: {told.get('role')}")
            if problem := told.get("problem"):
                say("problem", f"the daemon {told.get('name')} is not serving: {problem}")
                not_serving += 1
        else:
            say(
                "advice",
                f"the daemon {told.get('name')} takes requests on {chosen.request_subject} for the "
                f"bucket {told.get('bucket')}: give another --request-subject, or that --bucket",
            )
    return not_serving


async def _look_for_rivals(connection: Connection, chosen: ConnectionSettings) -> None:
    """Make sure that only one bucket uses the request subject.

    Raises:
        ForeignDaemonError: another one uses it too.
    """
    rivals = await find_rivals(connection, chosen.request_subject)
    if rivals:
        raise ForeignDaemonError(complaint(rivals, chosen.request_subject))
    await check_alone(connection, chosen.bucket, chosen.request_subject)


def _size(count: int) -> str:
    """Write a number of bytes for people."""
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= _KIB and len(units) > 1:
        size /= _KIB
        del units[0]
    return f"{size:.1f} {units[0]}" if units[0] != "B" else f"{count} B"
