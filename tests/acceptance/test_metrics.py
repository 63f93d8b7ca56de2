"""`--metrics`: figures for Prometheus, and whether a daemon is alive and ready."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from pathlib import Path

from gozo.client import Client as GozoClient
from gozo.telemetry.stats import LIMITS_US
from tests.support.metrics import Answer, get, scrape, serve
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.readme import ROOT
from tests.support.rights import LOGIN, admin, withholding
from tests.support.server import HOST
from tests.support.wallclock import WallClock

DASHBOARD = ROOT / "gozo" / "data" / "grafana-dashboard.json"
ALERTS = ROOT / "gozo" / "data" / "prometheus-alerts.yaml"


async def test_figures(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What was asked for, refused, delivered and is waited for, and how late it was."""
    server = servers.start()
    _, port = await serve(daemons, server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    await client.schedule("+0.05", reply=arrivals, id="soon")
    await client.schedule("+0.05", reply=arrivals)
    await client.schedule("+1000", reply=arrivals, id="later")
    await client.schedule("nonsense", reply=arrivals, id="bad")
    await client.send({"Gozo-When": "+1"})
    await arrivals.wait(2)

    async def is_settled() -> bool:
        names = ("deliveries_total", "schedules_pending", "writes_outstanding")
        figures = await scrape(port)
        return [figures[f"gozo_{name}"] for name in names] == [2, 1, 0]

    await until(is_settled, "two deliveries, one to come, and nothing outstanding")
    figures = await scrape(port)
    expected = {
        "gozo_requests_accepted_total": 3,
        "gozo_requests_refused_total{reason=invalid_when}": 1,
        "gozo_requests_refused_total{reason=no_reply_subject}": 1,
        "gozo_requests_refused_total{reason=busy}": 0,
        "gozo_schedules_pending": 1,
        "gozo_schedules_overdue": 0,
        "gozo_schedules_invalid": 0,
        "gozo_schedules_missed_total": 0,
        "gozo_deliveries_retried_total": 0,
        "gozo_requests_waiting": 0,
        "gozo_follower_lag_messages": 0,
        "gozo_follower_following": 1,
        "gozo_leader": 1,
        "gozo_ready": 1,
        "gozo_connected{name=main}": 1,
        "gozo_connected{name=requests}": 1,
        "gozo_lateness_seconds_count": 2,
        "gozo_lateness_seconds_bucket{le=60}": 2,
    }
    assert {name: figures.get(name) for name in expected} == expected
    buckets = [
        figures[f"gozo_lateness_seconds_bucket{{le={limit / 1_000_000:g}}}"] for limit in LIMITS_US
    ]
    assert buckets == sorted(buckets)
    assert (LIMITS_US[0], LIMITS_US[-1]) == (100, 60_000_000)
    assert 0 < figures["gozo_lateness_seconds_sum"] < 2 * allow(1)


async def test_refused_verbs(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What the leader refuses of its verbs counts by its code, once for each id, there only."""
    server = servers.start()
    _, leader = await serve(daemons, server)
    _, standby = await serve(daemons, server)
    client = await clients.connect(server)
    for verb, asked in (
        ("reschedule", {"id": "tea", "when": "soon"}),
        ("pause", {"ids": ["tea"], "note": 5}),
        ("cancel", {"ids": [""]}),
        ("resume", {"ids": ["tea"]}),
    ):
        await client.nats.request(
            f"gozo.admin.{verb}", json.dumps(asked).encode(), timeout=allow(5)
        )
    codes = {"invalid_when": 1, "invalid_request": 1, "invalid_id": 1}
    for port, expected in ((leader, codes), (standby, {})):
        figures = await scrape(port)
        prefix = "gozo_requests_refused_total{reason="
        counts = {
            name.removeprefix(prefix).rstrip("}"): figure
            for name, figure in figures.items()
            if name.startswith(prefix) and figure
        }
        assert counts == expected


async def test_retried(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What no stream takes is tried again, and counted."""
    server = servers.start()
    _, port = await serve(daemons, server)
    client = await clients.connect(server)
    headers = {"Gozo-When": "+0", "Gozo-Id": "nobody", "Gozo-Confirm": "stream"}
    await client.send(headers, reply="no.stream")

    async def is_retried() -> bool:
        return (await scrape(port))["gozo_deliveries_retried_total"] >= 2

    await until(is_retried, "two attempts in vain")


async def test_at_rest(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What is paused or was given up is counted as that, and not waited for any more."""
    server = servers.start()
    _, port = await serve(daemons, server)
    client = await clients.connect(server)
    wanted = {"Gozo-Id": "job", "Gozo-Confirm": "stream", "Gozo-Attempts": "1"}
    await client.send({"Gozo-When": "+0", **wanted}, reply="no.stream")

    async def figures() -> list[float]:
        names = ("pending", "paused", "failed")
        found = await scrape(port)
        at_rest = [found[f"gozo_schedules_{name}"] for name in names]
        return [*at_rest, found["gozo_deliveries_failed_total"]]

    async def is_given_up() -> bool:
        return await figures() == [0, 0, 1, 1]

    await until(is_given_up, "a schedule that was given up")
    async with await GozoClient.connect(server.url) as schedules:
        await schedules.schedule("kitchen", when="+1h", id="tea")
        await schedules.pause("tea")
        assert await figures() == [0, 1, 1, 1]
        await schedules.resume("tea")
        await schedules.reschedule("job", "+1h")
        assert await figures() == [2, 0, 0, 1]
        await schedules.pause("tea")
        await schedules.cancel("tea")
        assert await figures() == [1, 0, 0, 1]


async def test_overdue(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What the leader tries again is not overdue, neither by its own account nor a standby's."""
    reading = ("$JS.API.DIRECT.GET.KV_gozo", "$JS.API.STREAM.MSG.GET.KV_gozo")
    server = servers.start(withholding("publish", *reading))
    leader, port = await serve(daemons, server, *LOGIN)
    _, other = await serve(daemons, server, *LOGIN)
    client = await admin(clients, server)
    headers = {"Gozo-When": "+0", "Gozo-Subject": "kitchen"}
    await client.nats.request("$KV.gozo.unreadable", b"x", headers=headers)
    await leader.event("delivery.postponed", attempts="3")

    async def knows_it() -> bool:
        return (await scrape(other))["gozo_schedules_pending"] == 1

    await until(knows_it, "a standby that knows the schedule")
    for one in (port, other):
        assert (await scrape(one))["gozo_schedules_overdue"] == 0


async def test_dashboard(servers: Servers, daemons: Daemons) -> None:
    """Each figure that the dashboard or an alert asks for is one that a daemon has."""
    _, port = await serve(daemons, servers.start())
    names = {name.partition("{")[0] for name in await scrape(port)}
    # Of some there are no figures yet.
    names |= set(re.findall(r"^# TYPE (\w+) ", (await get(port, "/metrics")).body, re.MULTILINE))
    board = json.loads(DASHBOARD.read_text("utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += [one["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    wanted = {name for query in asked for name in re.findall(r"\b(?:gozo|process)_\w+", query)}
    assert len(wanted) > 15
    assert wanted <= names, wanted - names
    assert {"gozo_schedules_paused", "gozo_schedules_failed"} <= wanted
    rules = re.findall(r"^ +expr: (.*)$", ALERTS.read_text("utf-8"), re.MULTILINE)
    alerting = {name for rule in rules for name in re.findall(r"\bgozo_\w+", rule)}
    assert len(alerting) > 10
    assert alerting <= names, alerting - names


async def test_health(servers: Servers, daemons: Daemons) -> None:
    """Both are alive, leading or standing by; without a server alive still, and not ready."""
    server = servers.start()
    first, port = await serve(daemons, server)
    _, other = await serve(daemons, server)
    assert await get(port, "/readyz") == Answer(200, "text/plain; charset=utf-8", "leader\n")
    assert (await get(other, "/readyz")).body == "standby\n"
    server.stop()
    await first.event("connection.lost")
    unready = await get(port, "/readyz")
    assert unready.status == 503
    assert unready.body == "the main connection is lost\n"
    assert await get(port, "/healthz") == Answer(200, "text/plain; charset=utf-8", "alive\n")
    assert (await scrape(port))["gozo_connected{name=main}"] == 0
    server.start()

    async def is_ready() -> bool:
        return (await get(port, "/readyz")).status == 200

    await until(is_ready, "ready again")


async def test_a_mapping_that_comes_later(servers: Servers, daemons: Daemons) -> None:
    """A mapping that takes the bucket's subjects away is logged; until it goes, none is ready."""
    server = servers.start()
    daemon, port = await serve(daemons, server)
    server.reload('mappings: {"$KV.gozo.>": "other.>"}')
    said = await daemon.event("daemon.not_serving")
    assert said.level == "error"
    assert "the account maps $KV.gozo.=_check to other.=_check" in said.fields["reason"]
    unready = await get(port, "/readyz")
    assert (unready.status, unready.body) == (503, f"{said.fields['reason']}\n")
    server.reload("mappings: {}")

    async def is_ready() -> bool:
        return (await get(port, "/readyz")).status == 200

    await until(is_ready, "ready again")


async def test_clock_is_wrong(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """Who could not take over is alive and not ready; what nobody sends then is overdue."""
    server = servers.start()
    clock = WallClock(tmp_path / "clock", 5.0)
    daemon = daemons.start(
        *("serve", "--address", server.url, "--metrics", f"{HOST}:0"),
        variables=clock.variables,
    )
    await daemon.ready()
    port = int((await daemon.event("metrics.ready")).fields["port"])
    unready = await get(port, "/readyz")
    assert unready.status == 503
    assert "clock" in unready.body
    figures = await scrape(port)
    assert (figures["gozo_ready"], figures["gozo_leader"]) == (0, 0)
    assert 4.5 < figures["gozo_clock_ahead_seconds"] < 5.5
    client = await clients.connect(server)
    headers = {"Gozo-When": "+0", "Gozo-Subject": "kitchen"}
    await client.nats.request("$KV.gozo.tea", b"x", headers=headers)

    async def is_overdue() -> bool:
        return (await scrape(port))["gozo_schedules_overdue"] == 1

    await until(is_overdue, "a schedule that nobody sends")


async def test_what_is_no_scrape(servers: Servers, daemons: Daemons) -> None:
    """Other paths, methods and protocols get an answer that says so, and nothing breaks."""
    _, port = await serve(daemons, servers.start())
    assert (await get(port, "/")).status == 404
    assert (await get(port, "/metrics?x=1")).status == 200
    assert (await get(port, "/metrics", "POST")).status == 405
    assert await get(port, "/healthz", "HEAD") == Answer(200, "text/plain; charset=utf-8", "")
    for said in (b"nonsense\r\n\r\n", b"GET " + b"x" * 100_000, b""):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(said)
        writer.write_eof()
        answer = await reader.read()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
        writer.close()
    assert (await get(port, "/healthz")).status == 200


async def test_formats(servers: Servers, daemons: Daemons) -> None:
    """Each reader gets the format that it prefers; one that does not exist is no preference."""
    _, port = await serve(daemons, servers.start())
    newer = await get(port, "/metrics", accept="application/openmetrics-text;version=1.0.0")
    assert newer.kind.startswith("application/openmetrics-text; version=1.0.0;")
    assert newer.body.endswith("# EOF\n")
    for version in ("x", "1.x", "2.x", ""):
        accept = f"application/openmetrics-text;version={version}, text/plain;version={version}"
        assert (await get(port, "/metrics", accept=accept)).status == 200


async def test_many_connections(servers: Servers, daemons: Daemons) -> None:
    """Whoever asks nothing, or takes no answer, keeps nobody from an answer; nor is it kept."""
    _, port = await serve(daemons, servers.start())
    idle = [await asyncio.open_connection(HOST, port) for _ in range(400)]
    for number, (_, writer) in enumerate(idle):
        writer.write(b"GET /metrics HTTP/1.1\r\n" + b"\r\n" * (number % 2))
    assert await get(port, "/healthz") == Answer(200, "text/plain; charset=utf-8", "alive\n")
    first, writer = idle[0]
    assert await first.read() == b""
    for _, writer in idle:
        writer.close()


async def test_one_port(servers: Servers, daemons: Daemons) -> None:
    """On all addresses it is the same, and that is the one in the log."""
    daemon = await daemons.serve(servers.start(), "--metrics", ":0")
    (told,) = daemon.events("metrics.ready")
    loopback = {"0.0.0.0": HOST}  # noqa: S104  # what is listened on
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        loopback["::"] = "::1"
    assert set(told.fields["address"].split(",")) == set(loopback)
    for address in loopback.values():
        _, writer = await asyncio.open_connection(address, int(told.fields["port"]))
        writer.close()


async def test_port_in_use(servers: Servers, daemons: Daemons) -> None:
    """It does not start, and says why."""
    server = servers.start()
    daemon = daemons.start("serve", "--address", server.url, "--metrics", f"{HOST}:{server.port}")
    assert await daemon.wait() == 1
    said = daemon.stderr.splitlines()[-1]
    assert said.startswith(f"gozo: cannot listen on {HOST}:{server.port} (")
    assert "--metrics" in said
