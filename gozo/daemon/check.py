"""Checks whether a daemon would work with some settings, without changing anything.

Each permission is tried with a request that needs it but has no effect: a write that expects a
revision that no key has, a stream with an invalid name. The server reports a missing permission
before it answers an echo that was sent later. The bucket's settings are tried in a temporary
bucket, which is deleted afterwards.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from gozo.daemon.capacity import find_limits
from gozo.daemon.inspection import PROBLEM, Say, look, print_size
from gozo.errors import ForeignDaemonError, UnsuitableServerError
from gozo.leadership.feed_messages import feed_subject
from gozo.leadership.leaders import find_rivals
from gozo.leadership.lookout import check_alone
from gozo.leadership.rivals import complaint
from gozo.monitoring.mappings import Route, taken, trace
from gozo.monitoring.micro_service import SERVICE
from gozo.protocol.answers import ACK_TOKEN
from gozo.protocol.headers import block
from gozo.protocol.inboxes import SHARED
from gozo.protocol.subject_policy import too_small
from gozo.requests import inventory
from gozo.requests.admin_verbs import VERBS
from gozo.settings.model import ConnectionSettings, ServeSettings
from gozo.store.bucket import TTL_SINCE, is_before, stream_of
from gozo.store.event_history import history_of
from gozo.store.outcome_streams import outcomes_of, output_of
from gozo.store.probe import KEY, NO_REVISION
from gozo.transport.commands import keeper_of
from gozo.transport.connection import Connection
from gozo.transport.jetstream import JetStream, read_ack
from gozo.transport.permission_check import settle_inboxes

ANSWER_TIME = 0.3  # seconds to wait for the answers of daemons
TOKEN = "gozo-check"  # noqa: S105  # stands for names that a daemon generates
NOT_A_NAME = b'{"name": "=", "stream_name": "="}'


class Permission(NamedTuple):
    """A permission that a daemon needs."""

    verb: str
    """`publish` or `subscribe`."""
    subject: str
    purpose: str
    payload: bytes = b""
    headers: bytes = b""
    without: str = ""
    """What fails without it; empty if the daemon does not start without it."""


class Found(NamedTuple):
    """The problems that the check found."""

    missing: int
    """Permissions that a daemon needs but does not have."""
    not_serving: int
    """Running daemons that report that they are not serving."""
    problems: int
    """Other problems that make gozo unusable or unsafe."""


async def examine(settings: ServeSettings, say: Say) -> Found:
    """Check the server, the permissions, the bucket and the daemons; return the problems.

    Raises:
        GozoError: a daemon would exit with this error at once, or daemons interfere with each
            other.
    """
    problems = 0

    def tell(topic: str, words: str) -> None:
        nonlocal problems
        problems += topic == PROBLEM
        say(topic, words)

    connection = Connection(settings.connection, "gozo check", private=True)
    denied: set[tuple[str, str]] = set()
    connection.on_denied.append(lambda kind, subject: denied.add((kind, subject)))
    await connection.open(settings.connect_timeout)
    try:
        shared = await settle_inboxes(connection)
        _name_server(connection, say)
        if reason := too_small(connection.max_payload):
            raise UnsuitableServerError(reason)
        js = JetStream(connection)
        daemons: list[dict[str, Any]] = []
        keepers: set[str] = set()
        missing = await _try_permissions(connection, js, settings, denied, daemons, keepers, say)
        if not missing:
            await js.check_enabled(settings.connect_timeout)
            is_alone = not any(_is_ours(one, settings) for one in daemons)
            for problem in await find_limits(connection, settings.connection, alone=is_alone):
                tell(PROBLEM, problem)
            needed = _unmapped(js, settings)
            routes = await trace(connection, {subject for subject, _ in needed})
            for problem in taken(needed, routes, settings.connection.request_subject):
                tell(PROBLEM, problem)
            asked = routes.get(settings.connection.request_subject, Route())
            await look(js, settings, keepers | asked.streams, tell)
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
        "gozo also needs permission to publish to the reply subjects of its clients and receivers, "
        "which cannot be checked",
    )
    return Found(missing, not_serving, problems)


def _name_server(connection: Connection, say: Say) -> None:
    info = connection.info
    words = [
        f"{info.get('server_name', '')} {info.get('version', '')}",
        connection.address,
        f"max_payload {print_size(connection.max_payload)}",
    ]
    if info.get("tls_required"):
        words.append("TLS")
    if info.get("cluster"):
        words.append(f"cluster {info['cluster']}")
    say("server", ", ".join(words))
    if is_before(info.get("version", ""), TTL_SINCE):
        say("note", "requests with Gozo-TTL are refused: this server would ignore it")


# Permissions


def required_permissions(js: JetStream, settings: ServeSettings) -> Iterator[Permission]:
    """Return all permissions that a daemon needs, with requests that try them without effect."""
    chosen = settings.connection
    asked, admin = chosen.request_subject, f"{chosen.request_subject}.admin"
    lease = f"{chosen.bucket}_lease"
    yield Permission("subscribe", asked, "to take requests")
    yield Permission("subscribe", f"{admin}.leader", "to answer as the leader")
    yield Permission("subscribe", feed_subject(asked), "to follow the leader as standby")
    yield Permission("subscribe", f"{admin}.{inventory.VERB}", "to list schedules")
    for call in VERBS:
        yield Permission("subscribe", f"{admin}.{call}", "to serve gozoctl")
    for verb in ("PING", "INFO", "STATS"):
        for subject in (verb, f"{verb}.{SERVICE}", f"{verb}.{SERVICE}.{TOKEN}"):
            yield Permission("subscribe", f"$SRV.{subject}", "to be discovered")
    yield Permission("subscribe", f"$KV.{lease}.leader", "to take over without delay")
    yield Permission("publish", f"{admin}.leader", "to find the leader")
    yield Permission("publish", feed_subject(asked), "to keep standbys up to date")
    yield Permission("publish", f"$SRV.INFO.{SERVICE}", "to find other daemons")
    yield Permission("publish", f"{js.prefix}.INFO", "to check for JetStream")
    write = block(b"", NO_REVISION)
    yield Permission(
        "publish", js.entrance(f"$KV.{chosen.bucket}.{KEY}"), "to store schedules", b"", write
    )
    yield Permission("publish", js.entrance(f"$KV.{lease}.leader"), "to lead", b"", write)
    for bucket in (chosen.bucket, lease):
        stream = stream_of(bucket)
        yield Permission("publish", f"{js.prefix}.STREAM.INFO.{stream}", "to find the bucket")
        yield Permission(
            "publish", f"{js.prefix}.STREAM.CREATE.{stream}", "to create the bucket", NOT_A_NAME
        )
        last = json.dumps({"last_by_subj": f"$KV.{bucket}.{KEY}"}).encode()
        yield Permission("publish", f"{js.prefix}.STREAM.MSG.GET.{stream}", "to read entries", last)
    stream = stream_of(chosen.bucket)
    consumer = f"{stream}.{TOKEN}"
    yield Permission(
        "publish",
        f"{js.prefix}.CONSUMER.CREATE.{consumer}.$KV.{chosen.bucket}.>",
        "to follow the bucket",
        NOT_A_NAME,
    )
    yield Permission("publish", f"{js.prefix}.CONSUMER.MSG.NEXT.{consumer}", "to follow the bucket")
    yield Permission(
        "publish", f"{js.prefix}.DIRECT.GET.{stream}", "to read payloads", b'{"seq": 1}'
    )
    nothing = json.dumps({"filter": f"$KV.{chosen.bucket}.{KEY}", "seq": 1}).encode()
    yield Permission(
        "publish",
        f"{js.prefix}.STREAM.PURGE.{stream}",
        "to remove delivered schedules when storage is full",
        nothing,
    )
    if settings.events or settings.history_us is not None:
        yield Permission("publish", f"{asked}.event.check", "to publish events")
    if settings.history_us is not None:
        for verb in ("INFO", "CREATE", "UPDATE"):
            subject = f"{js.prefix}.STREAM.{verb}.{history_of(chosen.bucket)}"
            yield Permission(
                "publish", subject, "to keep a history", NOT_A_NAME if verb != "INFO" else b""
            )


def useful_permissions(js: JetStream, settings: ServeSettings) -> Iterator[Permission]:
    """Return the permissions that only some features need."""
    yield Permission(
        "subscribe",
        f"{settings.connection.request_subject}.{ACK_TOKEN}.*",
        "to receive the answers of receivers",
        without="schedules with 'Gozo-Confirm: reply' or 'claim' are refused as unavailable",
    )
    if not settings.outcomes_us:
        return
    place = settings.connection.bucket, settings.connection.request_subject
    for stream, what in ((outcomes_of(*place), "outcomes"), (output_of(*place), "output")):
        without = f"{what} of confirmed schedules cannot be kept"
        write = block(b"", NO_REVISION)
        yield Permission(
            "publish", f"{stream.prefix}.{KEY}", f"to keep {what}", b"", write, without=without
        )
        for verb in ("INFO", "CREATE", "UPDATE"):
            body = b"" if verb == "INFO" else NOT_A_NAME
            subject = f"{js.prefix}.STREAM.{verb}.{stream.name}"
            yield Permission("publish", subject, f"to keep {what}", body, without=without)


def _unmapped(js: JetStream, settings: ServeSettings) -> list[tuple[str, str]]:
    """Return the subjects that mappings must not redirect, and their purposes.

    Purposes of publishing first, as gozo serve reports them.
    """
    all_ = [*required_permissions(js, settings), *useful_permissions(js, settings)]
    return [
        (permission.subject.replace("*", TOKEN), permission.purpose)
        for permission in sorted(all_, key=lambda permission: permission.verb)
        if not permission.subject.startswith("$JS")
    ]


async def _try_permissions(
    connection: Connection,
    js: JetStream,
    settings: ServeSettings,
    denied: set[tuple[str, str]],
    daemons: list[dict[str, Any]],
    keepers: set[str],
    say: Say,
) -> int:
    """Try all permissions, and return how many are missing that a daemon needs.

    Daemons that answer are added to `daemons`, streams that capture requests to `keepers`.
    """

    def on_answer(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        keeper = keeper_of(payload)
        if keeper and not read_ack(headers, payload).code and keeper != history:
            keepers.add(keeper)
        try:
            daemons.append(json.loads(payload)["metadata"])
        except (ValueError, LookupError, TypeError):
            return  # an answer to something else

    history = history_of(settings.connection.bucket)
    inbox = connection.new_inbox(peers=True)
    connection.listen(inbox, on_answer)
    needed, useful = (
        list(required_permissions(js, settings)),
        list(useful_permissions(js, settings)),
    )
    for one in (*needed, *useful):
        if one.verb == "subscribe":
            connection.listen(one.subject, _ignore).stop()
        else:
            connection.publish(one.subject, one.payload, headers=one.headers, reply=inbox)
    await connection.echo()
    await asyncio.sleep(ANSWER_TIME)
    kinds = {"publish": "publish", "subscribe": "subscription"}
    refused = [one for one in needed if (kinds[one.verb], one.subject) in denied]
    lacking = [one for one in useful if (kinds[one.verb], one.subject) in denied]
    tried = len(needed) + len(useful)
    say("permissions", f"{tried - len(refused) - len(lacking)} of {tried} granted")
    for one in refused:
        say("missing", f"{one.verb} to {one.subject}: {one.purpose}")
    for one in lacking:
        say("advice", f"{one.verb} to {one.subject}: {one.purpose}; without it, {one.without}")
    return len(refused)


def _ignore(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
    """Ignore a message: it is meant for the daemons."""


# Running daemons


def _is_ours(metadata: dict[str, Any], settings: ServeSettings) -> bool:
    chosen = settings.connection
    ours = (chosen.request_subject, chosen.bucket)
    return (metadata.get("request_subject"), metadata.get("bucket")) == ours


def _name_daemons(daemons: list[dict[str, Any]], settings: ServeSettings, say: Say) -> int:
    """Report the daemons; return how many daemons of this bucket are not serving."""
    chosen, not_serving = settings.connection, 0
    for metadata in daemons:
        if metadata.get("request_subject") != chosen.request_subject:
            continue
        if metadata.get("bucket") == chosen.bucket:
            say("daemon", f"{metadata.get('name')}: {metadata.get('role')}")
            if problem := metadata.get("problem"):
                say("problem", f"the daemon {metadata.get('name')} is not serving: {problem}")
                not_serving += 1
        else:
            say(
                "advice",
                f"the daemon {metadata.get('name')} takes requests on {chosen.request_subject} "
                f"for the bucket {metadata.get('bucket')}: give another --request-subject, or "
                "that --bucket",
            )
    return not_serving


async def _look_for_rivals(connection: Connection, chosen: ConnectionSettings) -> None:
    """Make sure that only one bucket uses the request subject.

    Raises:
        ForeignDaemonError: another bucket uses it as well.
    """
    rivals = await find_rivals(connection, chosen.request_subject)
    if rivals:
        raise ForeignDaemonError(complaint(rivals, chosen.request_subject))
    await check_alone(connection, chosen.bucket, chosen.request_subject)
