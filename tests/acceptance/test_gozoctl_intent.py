"""A time that was hardly meant: refused, or asked about, before anything is stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from gozo.client import Client
from gozo.errors import RequestError
from tests.support.gozoctl import Gozoctl
from tests.support.processes import Daemons, Servers


async def test_past_and_far_times(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """The past goes out at once if asked for; what is far away is asked about on a terminal."""
    server = servers.start()
    await daemons.serve(server)
    ctl = Gozoctl(tmp_path, server.url)
    past = ("--at", "2020-01-01 10:00")
    for command in (("create", "tea", "kitchen"), ("send", "kitchen"), ("reschedule", "tea")):
        done = ctl.run(*command, *past)
        assert (done.code, done.out) == (2, "")
        assert "has passed (Wed 2020-01-01 10:00:00 CET, " in done.err
    assert ctl.ok("list", "-o", "id").out == ""
    done = ctl.ok("send", "kitchen", "tea", *past, "--past-ok", "--wait")
    assert done.rows[-1][-1] == "tea"

    far = ("create", "tea", "kitchen", "--in", "99999999999")
    assert "use --yes to confirm" in ctl.run(*far).err
    with ctl.terminal(*far) as terminal:
        terminal.shows("Continue? [y/N]")
        terminal.press("n\n")
        assert terminal.ends() == 1
    assert ctl.ok("list", "-o", "id").out == ""
    with ctl.terminal(*far) as terminal:
        terminal.shows("Continue? [y/N]")
        terminal.press("y\n")
        assert terminal.ends() == 0
    assert ctl.ok("get", "-o", "id").out == "tea\n"
    assert ctl.ok("get", "tea", "-o", "id").out == "tea\n"
    assert ctl.ok("reschedule", "tea", "--at", "tomorrow 9am").err.startswith("tomorrow 9am is ")
    assert ctl.ok("delete", "tea", "--server", server.url).rows[-1] == ["tea", "cancelled"]

    async with await Client.connect(server.url) as client:
        for past_ in ("60", "@at 2020-01-01T00:00:00Z"):
            for call in (client.schedule, client.request):
                with pytest.raises(RequestError, match="has passed"):
                    await call("kitchen", when=past_, id="late", past="refuse")
        assert await client.get("late") is None
        await client.schedule("kitchen", when="+1h", id="late", past="refuse")
        with pytest.raises(RequestError, match="has passed"):
            await client.reschedule("late", "60", past="refuse")
        kept = await client.get("late")
        assert kept is not None
        assert kept.when == "+1h"


def test_a_zone_that_is_none(servers: Servers, tmp_path: Path) -> None:
    """With a mistyped TZ no local time is taken for one of UTC; tables are, with a warning."""
    ctl = Gozoctl(tmp_path, servers.start().url)
    mars = {"TZ": "Mars/X"}
    create = ("create", "tea", "kitchen")
    for command in (
        *((*create, *option) for option in (("--at", "17:30"), ("--at", "tomorrow 9am"))),
        (*create, "--every", "1h", "--start", "2099-12-24 18:00"),
        ("reschedule", "tea", "--at", "noon"),
        ("list", "--due-before", "tomorrow 9am"),
        ("history", "--since", "yesterday"),
    ):
        done = ctl.run(*command, variables=mars)
        assert (done.code, done.out) == (2, ""), done
        assert done.err.startswith("gozoctl: invalid TZ 'Mars/X': this machine knows no such"), done
    for taken in (
        ("--at", "2099-12-24T18:00:00+01:00"),
        ("--in", "2 hours"),
        ("--at", "17:30", "--time-zone", "Europe/Malta"),
    ):
        done = ctl.run(*create, *taken, "-y", variables=mars)
        assert (done.code, "Mars/X" in done.err) == (0, False), done
    with ctl.terminal("list", variables=mars) as terminal:
        terminal.shows("gozoctl: invalid TZ 'Mars/X'")
        terminal.shows("tea")
        assert terminal.ends() == 0
