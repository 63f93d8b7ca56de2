"""Hostile requests and entries, at random: a daemon takes no notice, and serves all others.

Ten thousand are part of the usual run. More, with `GOZO_TEST_CASES=1000000 pytest
tests/acceptance/test_fuzz.py`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from statistics import mean, median, quantiles

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.daemon import Daemon
from tests.support.patience import allow
from tests.support.processes import Daemons
from tests.support.raw import RawClient, header_block, request
from tests.support.server import NatsServer

CASES = int(os.environ.get("GOZO_TEST_CASES", "10000"))
BATCH = 25  # cases that are sent at once
MOST_EACH, MOST_AT_ONCE = 1, 100
"""Good requests that cost as much CPU as a case on average, and as 99 of 100 batches, at most."""
GOOD = b"good.requests"
FATAL = 1
"""Bytes of a header block at which nats-server (2.15.1 at least) panics, for whoever reads it
from a stream without its payload."""

NAMES = [
    *("Gozo-When", "Gozo-Id", "Gozo-Del-Id", "Gozo-Receipt", "Gozo-Confirm", "Gozo-Attempts"),
    *("Gozo-Subject", "Gozo-Due", "Gozo-Created", "Gozo-Format", "Gozo-Headers", "Gozo-State"),
    *("Gozo-Next", "Gozo-Tried", "Gozo-Reason", "Gozo-Request", "Gozo-Extended", "Gozo-Original"),
    *("Gozo-Set", "Gozo-Time-Zone", "Gozo-Start", "Gozo-Until", "Gozo-Count", "Gozo-Jitter"),
    *("Gozo-Misfire", "Gozo-Misfire-Grace", "Gozo-Occurred", "Gozo-Last", "gozo-WHEN"),
    "Gozo-Nonsense",
    *("Nats-Msg-Id", "Nats-TTL", "Nats-Rollup", "Nats-Msg-Size", "Nats-Marker-Reason"),
    *("Nats-Expected-Last-Sequence", "Nats-Expected-Stream", "KV-Operation", "traceparent"),
]
SUBJECTS = [
    *(b"fuzz.a", b"fuzz.b", b"gozo", b"gozo.admin.cancel", b"gozo.admin.leader", b"_INBOX.x"),
    *(b"$JS.API.STREAM.DELETE.KV_gozo", b"$KV.gozo.a", b"$SRV.PING", b"fuzz.*", b"fuzz.>", b"."),
    *(b"fuzz..a", b"\xff", b"\x00", b"\x0b", b"\x1b[31m", "\u00e4\u2028".encode(), b"x" * 3600),
]
TIMES = [
    *(b"+0", b"+0.1", b"+1h", b"+9999999999", b"1", b"9999999999", b"-1", b"NaN", b"1e9", b"+"),
    *(b"@every 1h", b"@every 0", b"@hourly", b"@at 2099-01-01T00:00:00Z", b"* * * * *"),
]
COSTLY = [
    *(b"0 0 29 2 */7", b"* * 29 2 mon#5", b"* * * 1 1 *", b"*/5 2 * 3 sunL", b"0 0 */30 * mon#3"),
    *(b"0-59 0-3 * * *", b"30 2 * * */7", b"0 0 1 1 *", b"*/5 1 */31 * */7", b"0 0 LW */1 sat"),
    *(b"@every 10ms", b"@every 99999h", b",".join([b"*"] * 120) + b" * * * *"),
]
"""Expressions whose times, or those that were missed, are found by long searches."""

COSTLY_TERMS = [
    *(("Gozo-Time-Zone", b"Africa/Casablanca"), ("Gozo-Time-Zone", b"Antarctica/Troll")),
    *(("Gozo-Time-Zone", b"Europe/Malta"), ("Gozo-Time-Zone", b"Australia/Lord_Howe")),
    *(("Gozo-Misfire", b"skip"), ("Gozo-Misfire-Grace", b"0"), ("Gozo-Jitter", b"100000w")),
    *(("Gozo-Jitter", b"1d"), ("Gozo-Start", b"250000000000"), ("Gozo-Start", b"0")),
    *(("Gozo-Until", b"253402300799"), ("Gozo-Count", b"999999999")),
]
VALUES = [
    *TIMES,
    *(b"0 0 31 2 *", b"61 * * * *", b"2026-02-30T00:00:00Z", b"99999-01-01T00:00:00Z"),
    *(b"a", b"b", b"a.b", b"=_x", b"=5F", b"*", b">", b"x" * 1100, b"\xff\xfe", b"", b" ", b"\t"),
    *(b"stream", b"0", b"3", b"999999999999", b"yes", b"paused", b"retrying", b"failed", b"skip"),
    *(b"Europe/Berlin", b"Nowhere/Land", b"../../etc/passwd", b"DEL", b"PURGE", b"all", b"MaxAge"),
    *(b"5s", b"%0D%0A", b"a: b%0D%0A", b"%", b"%zz", "\u202e\u0000".encode(), b"\x1b]0;x\x07"),
    *SUBJECTS,
]
BODIES = [
    *(b"", b"{}", b"[]", b"null", b'{"ids":["a"]}', b'{"ids":[1,null]}', b'{"id":"a","when":"+1"}'),
    *(b"[" * 5000, b'{"ids":["' + b"a" * 5000 + b'"]}', b"\x83\xa4when\x01\xa7subject\xa6fuzz.a"),
    *(b"\x83\xa4when\x01\xa7subject\xa6fuzz.a\xa7payload\xc4\x01x", bytes(64), b"\xc1" * 64),
    *(b'{"id":"a","when":"* * * * *"}', b'{"id":"\\ud800","when":"+1"}'),
]


def word(raw: bytes) -> bytes:
    """Make a word of the protocol, whatever else is in it."""
    return raw.translate(None, b" \t\r\n") or b"_"


def line_of(name: str | bytes, value: bytes) -> bytes:
    """Make a header line; a line end in the value makes it two."""
    return (name.encode() if isinstance(name, str) else name) + b": " + value + b"\r\n"


def block_of(lines: list[bytes], end: bytes) -> bytes:
    """Make a header block; its `end` may be missing."""
    return b"NATS/1.0\r\n" + b"".join(lines) + end


values = st.sampled_from(VALUES) | st.binary(max_size=20)
lines = st.builds(line_of, st.sampled_from(NAMES) | st.binary(max_size=8), values)
blocks = (
    st.builds(
        block_of, st.lists(lines, max_size=6), st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b""])
    )
    | st.binary(max_size=40)
    | st.sampled_from([b"NATS/1.0", b"NATS/1.0\r\n", b"NATS/1.0 503\r\n\r\n", b"\r\n\r\n"])
)
timely = st.builds(
    lambda when, rest: block_of([line_of("Gozo-When", when), *rest], b"\r\n"),
    st.sampled_from(TIMES),
    st.lists(lines, max_size=4),
)
ids = st.integers(0, 40).map(lambda number: b"costly-%d" % number)
spec = st.lists(
    st.sampled_from(COSTLY_TERMS), max_size=4, unique_by=lambda name_and_value: name_and_value[0]
).map(lambda some: [line_of(*one) for one in some])
costly = st.builds(
    lambda when, id_, rest: block_of(
        [line_of("Gozo-When", when), line_of("Gozo-Id", id_), *rest], b"\r\n"
    ),
    st.sampled_from(COSTLY),
    ids,
    spec,
)
many_lines = st.sampled_from([b"a:b", b":", b"", b"gozo-a:", b"nats-msg-id:a"]).map(
    lambda line: block_of([b"Gozo-When: +1\r\n", *[line + b"\r\n"] * 600], b"\r\n")
)
bodies = st.sampled_from(BODIES) | st.binary(max_size=40)
targets = (
    st.just(b"fuzz.a") | st.sampled_from(SUBJECTS) | st.binary(min_size=1, max_size=12).map(word)
)
scheduled = st.builds(
    lambda when, target, rest: block_of(
        [line_of("Gozo-When", when), line_of("Gozo-Subject", target), *rest], b"\r\n"
    ),
    st.sampled_from(TIMES),
    targets,
    st.lists(lines, max_size=3),
)
overdue = st.builds(
    lambda when, due, misfire, rest: block_of(
        [
            line_of("Gozo-When", when),
            line_of("Gozo-Subject", b"fuzz.a"),
            line_of("Gozo-Due", due),
            line_of("Gozo-Created", due),
            line_of("Gozo-Misfire", misfire),
            line_of("Gozo-Count", b"3"),  # a thousand that are sent cost what they cost
            *rest,
        ],
        b"\r\n",
    ),
    st.sampled_from(COSTLY),
    st.sampled_from([b"0.000000", b"1000000000.000000", b"1700000000.5"]),
    st.sampled_from([b"all", b"skip", b"once"]),
    spec.map(
        lambda some: [
            line for line in some if not line.startswith((b"Gozo-Misfire:", b"Gozo-Count"))
        ]
    ),
)
entrances = st.sampled_from([b"gozo"] * 8) | st.sampled_from(
    [
        *(b"gozo.admin.cancel", b"gozo.admin.reschedule", b"gozo.admin.leader", b"gozo.admin.told"),
        *(b"$SRV.PING", b"$SRV.INFO.gozo", b"$SRV.STATS.gozo", b"$KV.gozo_lease.other"),
    ]
)
requests = st.builds(
    lambda subject, reply, headers, body: request(
        subject, reply=reply, headers=headers, payload=body
    ),
    entrances,
    targets | st.just(b""),
    timely | timely | timely | costly | costly | many_lines | blocks | st.none(),
    bodies,
)
keys = st.sampled_from(
    [b"a", b"b", b"=_x", b"=5F", b"=_apply", b"=_barrier", b"a=2Eb"]
) | st.binary(min_size=1, max_size=12).map(word)
entries = st.builds(
    lambda key, headers, body: request(b"$KV.gozo." + key, headers=headers, payload=body),
    keys,
    scheduled
    | scheduled
    | scheduled
    | overdue
    | overdue
    | many_lines
    | blocks.filter(lambda block: len(block) != FATAL)
    | st.none(),
    bodies,
)
batches = st.lists(requests | entries, min_size=BATCH, max_size=BATCH)


class Bystander:
    """A client that sends good requests, and wants each of them served."""

    def __init__(self, server: NatsServer) -> None:
        self._server = server
        self._raw = RawClient(server.url)
        self._raw.subscribe(GOOD.decode())
        self._numbers = itertools.count()
        self.hostile = RawClient(server.url)

    def attack(self, batch: Iterable[bytes]) -> None:
        """Send a batch; a server may complain of some, and end the connection."""
        try:
            self.hostile.send(b"".join(batch))
            self.hostile.confirm()
        except (ConnectionError, TimeoutError):
            self.hostile.close()
            self.hostile = RawClient(self._server.url)

    def is_served(self) -> None:
        """Hold that a request with an id and one without, due at once, are delivered."""
        number = next(self._numbers)
        wanted = {b"%d stored" % number, b"%d in memory" % number}
        headers = (
            header_block(Gozo_When="+0", Gozo_Id=f"good {number}"),
            header_block(Gozo_When="+0"),
        )
        for block, payload in zip(headers, sorted(wanted, reverse=True), strict=True):
            self._raw.send(request(b"gozo", reply=GOOD, headers=block, payload=payload))
        came: set[bytes] = set()
        while came < wanted:
            came |= {message.payload for message in self._raw.receive(allow(1))}
        assert came == wanted

    def bear(self, batch: Iterable[bytes]) -> None:
        """Send a batch, and hold that good requests are served nevertheless."""
        self.attack(batch)
        self.is_served()

    def close(self) -> None:
        """Close both connections."""
        self._raw.close()
        self.hostile.close()


def cost_ms(pid: int, do: Callable[[], None]) -> float:
    """Milliseconds of CPU that a process takes while something is done."""
    clock = ~pid << 3 | 2  # that of another process, see clock_getcpuclockid(3)
    before_ns = time.clock_gettime_ns(clock)
    do()
    return (time.clock_gettime_ns(clock) - before_ns) / 1e6


@pytest.mark.timeout(120 + CASES // 100)
def test_fuzz() -> None:
    """The daemon stays up and connected, and serves good requests, all along and afterwards.

    And it takes no more CPU than these do, for each batch as well: nothing blocks it.
    """
    with NatsServer() as server, Daemons() as daemons:
        daemon = daemons.start("serve", "--address", server.url)
        daemon.find_event("daemon.ready", {"role": "leader"}, since=0, timeout=allow(10))
        with contextlib.closing(Bystander(server)) as bystander:
            good_ms = median(cost_ms(daemon.pid, bystander.is_served) for _ in range(100)) / 2
            spent_ms: list[float] = []

            @settings(
                max_examples=CASES // BATCH,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(batches)
            def attack(batch: list[bytes]) -> None:
                spent_ms.append(cost_ms(daemon.pid, partial(bystander.bear, batch)))
                assert daemon.alive

            attack()
        assert mean(spent_ms) < MOST_EACH * BATCH * good_ms
        # At the full minute all are sent at once that are due then, of which there are many by now.
        assert quantiles(spent_ms, n=100)[-1] < MOST_AT_ONCE * good_ms
        check(daemon)


def check(daemon: Daemon) -> None:
    """Hold that nothing happened that should not."""
    assert len(daemon.events("connection.made")) == 2
    for name in (
        "connection.lost",
        "connection.handler_failed",
        "request.failed",
        "task.failed",
        "lease.lost",
    ):
        assert daemon.events(name) == []
