"""The NATS server's own schedules (ADR-51): what it takes, gozo takes, for the same times."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from gozo.errors import RequestError
from gozo.schedule.cron import Cron, read_zone
from gozo.schedule.expression import next_due, parse, print_when
from gozo.schedule.model import MICROSECONDS
from tests.support.client import Client
from tests.support.patience import allow
from tests.support.processes import Clients, Servers

STREAM = {
    "name": "SCHEDULES",
    "subjects": ["schedules.>", "due.>"],
    "allow_msg_schedules": True,
    "allow_msg_ttl": True,
}

TAKEN_BY_BOTH = """
    @every 1s|@every 1.5s|@every 1h30m|@every +5s|@every 2000000us|@every 2000000\u00b5s|@every .5h
    @every 1.h|@every 1h1h|@every 3000000000ns
    @hourly|@daily|@midnight|@weekly|@monthly|@yearly|@annually
    0 0 0 * * *|0  0 0 * * *| 0 0 0 * * *|0\t0 0 * * *|? ? ? ? ? ?|0 05 00 * * *|0 +5 0 * * *
    0 0 0 ? * MON|0 0 0 ? * mon-fri|0 0 0 * JAN *|0 0 0 * jan-feb *|0 0 0 * * SUN-SAT
    0 0/15 * * * *|0 5-10/2 * * * *|0 10/5 * * * *|0 */70 * * * *|0 ?/5 0 * * *
    0 5,10,5 * * * *|0 5, * * * *|0 0 0 29 2 *|0 0 0 1-5,10-15/2 * *
    0 0 0 */2 * *|0 0 0 */2 * 1|0 0 0 *,1 * 1|0 0 0 1,* * 1|*/2 * * * * *
"""
TAKEN_BY_NEITHER = """
    @every 5x|@every -5s|@every 0s|@every 1h 30m|@every 99999999h|@Hourly|@reboot|@every
    0 60 * * * *|0 */0 * * * *|0 10-5 * * * *|0 0 0 31 2 *|0 0 0 30 2 *|0 0 24 * * *
    0 0 0 0 * *|0 0 0 * 0 *|0 0 0 * 13 *|0 0 0 * * MONDAY|0 0 0 * * SAT-SUN|0 0 0 * JANUARY *
    0 */5-10 0 * * *|0 1-*/5 0 * * *|* * * * * * *|CRON_TZ=Europe/Malta 0 0 0 * * *
"""
ONLY_GOZO = """
    @every 500ms|@every 1d|@every 5|* * * * *|0 0 0 * * 7|0 0 0 L * *|0 0 0 * * 5L|0 0 0 LW * *
    0 0 0 * * 1#2
"""


def listed(text: str) -> list[str]:
    """Return the expressions of a list."""
    return [one.removeprefix("    ") for line in text.split("\n") for one in line.split("|") if one]


async def publish(client: Client, number: int, expression: str, zone: str = "") -> str:
    """Have the server schedule a message, and return its error, or nothing."""
    headers = {"Nats-Schedule": expression, "Nats-Schedule-Target": f"due.{number}"}
    if zone:
        headers["Nats-Schedule-Time-Zone"] = zone
    answer = await client.nats.request(
        f"schedules.{number}", b"", timeout=allow(5), headers=headers
    )
    error: dict[str, str] = json.loads(answer.data).get("error", {})
    return error.get("description", "")


@pytest.fixture
async def client(servers: Servers, clients: Clients) -> Client:
    """Connect to a server with a stream that schedules."""
    server = servers.start()
    if tuple(map(int, server.version.split(".")[:2])) < (2, 15):
        pytest.skip("what these tests know of the server's schedules is of 2.15")
    client = await clients.connect(server)
    answer = await client.nats.request(
        f"$JS.API.STREAM.CREATE.{STREAM['name']}", json.dumps(STREAM).encode(), timeout=allow(5)
    )
    assert "error" not in json.loads(answer.data)
    return client


async def fired(client: Client, number: int) -> dict[str, str]:
    """Return the headers of the first message that a schedule made, once there is one."""
    subject = f"$JS.API.STREAM.MSG.GET.{STREAM['name']}"
    asked = json.dumps({"seq": 1, "next_by_subj": f"due.{number}"}).encode()
    deadline = time.monotonic() + allow(10)
    while time.monotonic() < deadline:
        answer = json.loads((await client.nats.request(subject, asked, timeout=allow(5))).data)
        if "message" in answer:
            lines = base64.b64decode(answer["message"]["hdrs"]).decode().split("\r\n")
            return dict(line.split(": ", 1) for line in lines if ": " in line)
        await asyncio.sleep(0.02)
    raise AssertionError(f"the server's schedule {number} does not fire")


async def test_what_the_server_takes_gozo_takes(client: Client) -> None:
    """Whoever comes from the server's own schedules can keep the expressions."""
    for number, expression in enumerate(listed(TAKEN_BY_BOTH)):
        assert not await publish(client, number, expression), expression
        when = parse(expression)
        assert parse(print_when(when)) == when
    for number, expression in enumerate(listed(TAKEN_BY_NEITHER)):
        assert await publish(client, number, expression), expression
        with pytest.raises(RequestError):
            parse(expression)
    for number, expression in enumerate(listed(ONLY_GOZO)):
        assert await publish(client, number, expression), expression
        parse(expression)


async def test_the_same_times_as_the_server(client: Client) -> None:
    """The server says when a schedule is due next as it fires; gozo says the same.

    Each expression names a moment a few seconds from now, so that it fires, and others. The
    zones have no summer time.
    """
    soon = datetime.fromtimestamp(int(time.time()) + 3, UTC)
    expressions: list[tuple[str, str]] = []
    for zone in ("", "Asia/Kolkata", "America/Sao_Paulo"):
        local = soon.astimezone(ZoneInfo(zone or "UTC"))
        second, minute, hour = local.second, local.minute, local.hour
        day, month, weekday = local.day, local.month, (local.weekday() + 1) % 7
        name = f"{local:%a}"
        tomorrow = (local + timedelta(days=1)).day
        at = f"{second} {minute} {hour}"
        expressions += [
            (expression, zone)
            for expression in (
                f"{second} * * * * *",
                f"{second}/7 {minute} * * * *",
                f"{second} {minute}/7 {hour} * * *",
                f"{second} {minute} * * * *",
                f"{second} {minute} {hour}/5 * * *",
                f"{at} * * *",
                f"{at} ? * {name}",
                f"{at} * * {weekday}/2",
                f"{at} * * {name},{(weekday + 3) % 7}",
                f"{at} {day} * ?",
                f"{at} {day},{tomorrow} * *",
                f"{at} {day}/9 * *",
                f"{at} {day} * {(weekday + 2) % 7}",
                f"{at} */1 * {weekday}",
                f"{at} */2,{day} * {weekday}",
                f"{at} *,5 * {weekday}",
                f"{at} {day} {month}/3 *",
                f"{at} {day} {month} *",
            )
        ]
    for number, (expression, zone) in enumerate(expressions):
        assert not await publish(client, number, expression, zone), expression
    for number, (expression, zone) in enumerate(expressions):
        told = datetime.fromisoformat((await fired(client, number))["Nats-Schedule-Next"])
        when = parse(expression)
        assert isinstance(when, Cron)
        soon_us = int(soon.timestamp()) * MICROSECONDS
        found_us = next_due(when, soon_us, soon_us, read_zone(zone or "UTC"))
        assert found_us == int(told.timestamp()) * MICROSECONDS, (expression, zone, told)
