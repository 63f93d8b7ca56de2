"""What `gozo check` reports about JetStream: the account, the buckets, and other streams.

Settings are judged by reading them and by trying them in a temporary bucket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gozo.errors import JetStreamError, NoServerError, NotAllowedError
from gozo.leadership.lease_record import lease_of
from gozo.protocol.headers import block
from gozo.runtime.logs import rendered
from gozo.schedule.expression import print_duration
from gozo.schedule.model import MICROSECONDS
from gozo.settings.model import ServeSettings
from gozo.store.bucket import bucket_of, deviations, own_settings, stream_of
from gozo.store.event_history import (
    NAMES,
    check_room,
    find_history,
    history_of,
    how_long,
    why_longer,
)
from gozo.store.probe import KEY, NO_REVISION
from gozo.store.suitability import faults
from gozo.store.trial import attempt, temporary_of
from gozo.transport.jetstream import (
    CONFLICTS,
    NO_PEERS,
    NO_ROOM,
    STREAM_NOT_FOUND,
    JetStream,
    read_ack,
)

CLOCK_US = MICROSECONDS // 2  # difference between the clocks that is reported
NEARLY_FULL = 0.8  # share of a limit from which usage is reported
_KIB = 1024

Say = Callable[[str, str], None]
"""Takes a topic and a sentence; the topic `PROBLEM` makes the check fail."""

PROBLEM = "problem"

Stream = dict[str, Any]
"""What the server reports about a stream, `config` and `state` included."""


async def look(js: JetStream, settings: ServeSettings, keepers: Iterable[str], say: Say) -> None:
    """Check the account and its streams; `keepers` are streams known to capture requests.

    Raises:
        JetStreamError: a stream of that name is not the bucket, or the history.
        NoServerError, NotAllowedError: as for `JetStream.call`.
    """
    name, lease = settings.connection.bucket, lease_of(settings.connection.bucket)
    wanted = own_settings(js, name, replicas=settings.replicas)
    main, held = [await _find(js, stream_of(one)) for one in (name, lease)]
    copies = int((main["config"] if main else wanted).get("num_replicas", 1))
    missing = [one for one, stream in ((name, main), (lease, held)) if stream is None]
    await _look_at_account(js, missing, copies, say)
    if main is None:
        say("bucket", f"{name}: does not exist yet, gozo serve creates it")
    else:
        await _describe(js, name, main, wanted, say)
    if held is not None:
        await _judge(js, lease, held, say, is_lease=True)
    await _try(js, settings, main["config"] if main else None, wanted, say)
    if settings.history_us is not None:
        await _look_at_history(js, settings, settings.history_us, say)
    await _look_for_keepers(js, settings.connection.request_subject, keepers, say)
    if copies == 1:
        say(
            "advice",
            "with one replica, schedules are as safe as the disk of one server: set sync_interval: "
            "always in its jetstream block (the embedded server does), or run a cluster of three",
        )


async def _find(js: JetStream, stream: str) -> Stream | None:
    try:
        return await js.call(f"STREAM.INFO.{stream}")
    except JetStreamError as error:
        if error.code != STREAM_NOT_FOUND:
            raise
        return None


async def _look_at_account(js: JetStream, missing: list[str], copies: int, say: Say) -> None:
    account = await js.call("INFO")
    tier = (account.get("tiers") or {}).get(f"R{copies}")
    used = account if tier is None else tier
    limits = used.get("limits", {})
    for kind in ("memory", "storage"):
        used_bytes, most = int(used.get(kind, 0)), int(limits.get(f"max_{kind}", -1))
        limit = "no limit of the account" if most < 0 else print_size(most)
        say("JetStream", f"{kind}: {print_size(used_bytes)} of {limit}")
        if 0 < most <= used_bytes and kind == "storage":
            say(PROBLEM, "JetStream's storage is full, so requests are refused: raise the limit")
        elif most > 0 and used_bytes > NEARLY_FULL * most:
            say("advice", f"JetStream's {kind} is nearly full: raise the limit of the account")
    if missing and limits.get("max_bytes_required"):
        say(
            PROBLEM,
            "the account requires max_bytes of each stream, but gozo creates streams without it: "
            f"create {' and '.join(map(stream_of, missing))} yourself, or turn off the account's "
            "max_bytes_required",
        )
    room = int(limits.get("max_streams", -1)) - int(used.get("streams", 0))
    if limits.get("max_streams", -1) > 0 and room < len(missing):
        say(
            PROBLEM,
            f"the account has room for {room} more streams, but gozo serve creates "
            f"{' and '.join(map(stream_of, missing))}: raise its max_streams",
        )


async def _describe(
    js: JetStream, name: str, stream: Stream, wanted: dict[str, Any], say: Say
) -> None:
    """Describe the bucket."""
    config, state = stream["config"], stream["state"]
    copies = int(config.get("num_replicas", 1))
    say(
        "bucket",
        f"{name}: {state.get('num_subjects', 0)} keys, {print_size(int(state['bytes']))}, "
        f"{copies} replica{'s' * (copies != 1)}, {config.get('storage')}",
    )
    others = deviations(name, config, wanted, js.connection.info)
    named = await _judge(js, name, stream, say)
    for other in others:
        if other.setting not in named:
            say(
                "advice",
                f"the bucket has {other.setting} {rendered(other.value)}, gozo's own is "
                f"{rendered(other.own)}: {other.effect}",
            )
    if config.get("sources"):
        names = " and ".join(str(one.get("name")) for one in config["sources"])
        say("advice", f"schedules of {names} are copied into the bucket, and delivered from both")
    if republish := config.get("republish"):
        say("advice", f"payloads are also published on {republish.get('dest')}, not only when due")
    ahead_us = (await bucket_of(js, name, config).state()).clock_ahead_us
    side = "ahead of" if ahead_us >= 0 else "behind"
    say("clock", f"{abs(ahead_us) / 1000:.1f} ms {side} the server's")
    if abs(ahead_us) > CLOCK_US:
        say(
            "advice",
            "set the clock of this host, or the server's: gozo does not lead if they differ by 2 s",
        )


async def _judge(
    js: JetStream, name: str, stream: Stream, say: Say, *, is_lease: bool = False
) -> set[str]:
    """Report what is wrong with a bucket; return the settings that were named."""
    config, state = stream["config"], stream["state"]
    found = faults(f"the bucket {name}", config)
    if is_lease:  # the lease is rewritten twice a second, so losing it does no harm
        found = [fault for fault in found if fault.is_final]
    for fault in found:
        say(PROBLEM, fault.sentence)
    if not any(fault.is_final for fault in found):
        why = await _why_unwritable(js, name, "leader" if is_lease else KEY)
        if why:
            say(PROBLEM, f"the bucket {name} cannot be written: {why}")
    named = {fault.setting for fault in found}
    for used, limit in (("messages", "max_msgs"), ("consumer_count", "max_consumers")):
        most = config.get(limit, -1)
        if 0 < most <= state.get(used, 0) and limit not in named:
            named.add(limit)
            say(PROBLEM, f"the bucket {name} is full: raise its {limit}, {most}")
    return named


async def _why_unwritable(js: JetStream, name: str, key: str) -> str:
    """Try a write that has no effect; return why a real one would fail."""
    subject = js.entrance(f"$KV.{name}.{key}")
    try:
        reply = await js.connection.request(subject, headers=block(b"", NO_REVISION))
    except NoServerError:
        return "no answer"
    ack = read_ack(reply.headers, reply.payload)
    return "" if ack.code in CONFLICTS | NO_ROOM else ack.words


async def _try(
    js: JetStream,
    settings: ServeSettings,
    config: dict[str, Any] | None,
    wanted: dict[str, Any],
    say: Say,
) -> None:
    """Try the settings of the existing or future bucket in a temporary one."""
    name = settings.connection.bucket
    if config is not None and any(fault.is_final for fault in faults("", config)):
        return
    tried = await attempt(js, name, config or wanted)
    if config is None and settings.replicas is None and tried.code in NO_PEERS:
        tried = await attempt(js, name, wanted | {"num_replicas": 1})
    if tried.problem:
        say(PROBLEM, f"in a temporary bucket with the settings of {name}, gozo {tried.problem}")
    elif not tried.untried:
        say(
            "trial",
            "in a temporary bucket an entry was written, read, replaced, settled and removed",
        )
    elif config is None and tried.code:
        say(PROBLEM, f"gozo serve cannot create the bucket {name}: {tried.untried}")
    else:
        say(
            "note",
            f"the settings were only read, and not tried in a temporary bucket "
            f"{temporary_of(name)}: {tried.untried}",
        )


async def _look_for_keepers(
    js: JetStream, request_subject: str, keepers: Iterable[str], say: Say
) -> None:
    """Report streams that capture requests and verbs, if gozo is permitted to list them."""
    found = set(keepers)
    for subject in (request_subject, f"{request_subject}.admin.leader"):
        try:
            found.update((await js.call(NAMES, {"subject": subject})).get("streams") or [])
        except (NotAllowedError, NoServerError, JetStreamError):
            continue
    for name in sorted(found):
        say(
            "advice",
            f"the stream {name} captures messages to gozo, and acknowledges each on its reply "
            "subject: clients must not mistake that for a delivery, and a daemon that starts "
            f"or takes over may wait ten seconds; remove {request_subject} and "
            f"{request_subject}.admin.> from its subjects",
        )


async def _look_at_history(js: JetStream, settings: ServeSettings, age_us: int, say: Say) -> None:
    chosen = settings.connection
    place = (js, chosen.bucket, chosen.request_subject)
    config = await find_history(*place, age_us=age_us)
    if config is None:
        await check_room(*place)
        say("history", f"{history_of(chosen.bucket)}: does not exist yet, gozo serve creates it")
        return
    name, kept, given = history_of(chosen.bucket), how_long(config), print_duration(age_us)
    say("history", f"{name}: keeps {', '.join(config['subjects'])} {kept}")
    if reason := why_longer(chosen.bucket, config, age_us):
        say("advice", reason)
    elif config["max_age"] < age_us * 1000:  # from nanoseconds
        say("note", f"gozo serve --history {given} lets the stream {name} keep events for longer")


def print_size(count: int) -> str:
    """Format a number of bytes for people."""
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= _KIB and len(units) > 1:
        size /= _KIB
        del units[0]
    return f"{size:.1f} {units[0]}" if units[0] != "B" else f"{count} B"
