"""Rights that a server withholds from gozo's user: told at the start, survived later."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gozo.client import Client as GozoClient
from gozo.errors import NotAllowedError
from gozo.settings.model import ConnectionSettings
from tests.support.documented import documented, login, violations
from tests.support.gozoctl import Gozoctl
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.rights import LOGIN, MISSING, admin, grant, withholding
from tests.support.server import NatsServer

NOT_ALLOWED = 4


@pytest.mark.parametrize("missing", MISSING)
async def test_missing_at_the_start(servers: Servers, daemons: Daemons, missing: str) -> None:
    """Without a right that it needs it does not start: 4, and a sentence with verb and subject."""
    kind, subjects, shown = MISSING[missing]
    server = servers.start(withholding(kind, *subjects))
    began = time.monotonic()
    daemon = daemons.start("serve", "--address", server.url, *LOGIN)
    assert await daemon.wait(allow(3)) == NOT_ALLOWED
    assert time.monotonic() - began < allow(2)
    said = daemon.stderr.splitlines()[-1]
    assert said.startswith("gozo: ")
    assert kind in said
    assert shown in said


async def test_missing_after_a_crash(servers: Servers, daemons: Daemons) -> None:
    """Without the right to ask whether the last leader lives, it does not wait but says so."""
    server = servers.start(withholding("publish", "gozo.admin.leader"))
    crashed = await daemons.serve(server, "--user", "admin", "--password", "p")
    await crashed.kill()
    daemon = daemons.start("serve", "--address", server.url, *LOGIN)
    assert await daemon.wait() == NOT_ALLOWED
    said = daemon.stderr.splitlines()[-1]
    assert "publish to gozo.admin.leader: grant that permission" in said


async def test_target(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """A target on which gozo may not publish holds nothing else up.

    It is logged, kept, tried again, and sent once when the right is granted.
    """
    server = servers.start(withholding("publish", "closed.*"))
    daemon = await daemons.serve(server, *LOGIN)
    client = await admin(clients, server)
    closed, opened = await client.arrivals("closed.door"), await client.arrivals("open.door")
    due = time.time() + 0.5
    for number in range(100):
        await client.schedule(due, reply=closed, id=f"closed{number}", payload=b"%d" % number)
        await client.schedule(due, reply=opened, id=f"open{number}", payload=b"%d" % number)
        await client.schedule(due, reply=opened, payload=b"without id")
    await opened.wait(200)
    postponed = await daemon.event("delivery.postponed")
    assert "publish" in postponed.fields["reason"]
    assert closed.all == []
    bucket = await client.nats.jetstream().key_value("gozo")
    for number in range(100):
        assert (await bucket.get(f"closed{number}")).value == b"%d" % number

    grant(server, "closed.*")
    await closed.wait(100)
    assert await daemon.terminate() == 0
    await client.confirm()
    assert sorted(closed.payloads, key=int) == [b"%d" % number for number in range(100)]
    assert len(opened.all) == 200


async def test_unreadable(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """A message that cannot be read is tried again every second: who elects is soon back."""
    reading = ("$JS.API.DIRECT.GET.KV_gozo", "$JS.API.STREAM.MSG.GET.KV_gozo")
    server = servers.start(withholding("publish", *reading))
    daemon = await daemons.serve(server, *LOGIN)
    client = await admin(clients, server)
    headers = {"Gozo-When": "+0", "Gozo-Subject": "open.door"}
    opened = await client.arrivals("open.door")
    await client.nats.request("$KV.gozo.unreadable", b"x", headers=headers)
    postponed = await daemon.event("delivery.postponed", attempts="5")
    assert postponed.fields["wait_s"] == "1"
    for subject in reading:
        grant(server, subject)
    await opened.wait()
    assert await daemon.terminate() == 0
    assert opened.payloads == [b"x"]


def settings_of(server: NatsServer, user: str) -> ConnectionSettings:
    """Return the same as settings."""
    return ConnectionSettings(
        (server.url,),
        user=user,
        password="change_me",  # noqa: S106
        inbox_prefix=f"_INBOX.{user}",
    )


DONE, NOT_FOUND, NO_DAEMON = 0, 3, 5

COMMANDS: dict[tuple[str, ...], tuple[int, int]] = {
    ("create", "tea", "jobs.tea", "x", "--in", "9999"): (DONE, NOT_ALLOWED),
    ("create", "--no-replace", "cake", "jobs.cake", "x", "--in", "9999"): (DONE, NOT_ALLOWED),
    ("list",): (DONE, DONE),
    ("list", "--id", "t*", "-o", "json"): (DONE, DONE),
    ("inspect", "tea"): (DONE, DONE),
    ("export",): (DONE, DONE),
    ("status",): (DONE, DONE),
    ("status", "--failing"): (DONE, DONE),
    ("runs",): (DONE, DONE),
    ("reschedule", "tea", "--in", "8888"): (DONE, NOT_ALLOWED),
    ("send", "--wait", "--in", "0", "jobs.x", "y"): (DONE, NOT_ALLOWED),
    ("apply", "/dev/null"): (DONE, NOT_ALLOWED),
    ("cancel", "tea"): (DONE, NOT_ALLOWED),
}
"""Exit codes of commands for an administrator, and for a reader before."""


async def test_documented(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """The permissions in the manual suffice, for all that each user is to do, and no more.

    With a daemon, and where a standby takes over.
    """
    server = servers.start(documented())
    daemon = await daemons.serve(server, *login("daemon"))
    ctl = Gozoctl(tmp_path, server.url)
    for command, (right, without) in COMMANDS.items():
        assert ctl.run(*login("administrator"), *command).code == right, command
        if without == NOT_ALLOWED:
            refused = ctl.run(*login("reader"), *command)
            assert (refused.code, refused.out) == (NOT_ALLOWED, "") or command[0] == "create"
            assert refused.code != DONE
        else:
            assert ctl.run(*login("reader"), *command).code == without, command
    standby = await daemons.serve(server, *login("daemon"))
    assert await daemon.terminate() == 0
    await standby.event("daemon.leading")
    assert await standby.terminate() == 0
    assert {user for user, _ in violations(server)} == {"reader"}
    # Without a daemon an administrator writes to the bucket.
    ctl.ok(*login("administrator"), "create", "late", "jobs.late", "x", "--in", "9999")
    ctl.ok(*login("administrator"), "cancel", "late")
    assert ctl.run(*login("reader"), "status").code == NO_DAEMON
    assert ctl.ok(*login("reader"), "list", "-o", "id").out == "cake\n"
    assert {user for user, _ in violations(server)} == {"reader"}


async def test_documented_client(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """A client schedules, cancels and gets its receipts and its messages; it cannot do more.

    What it asks for on a subject that gozo may not publish on is kept, listed and told once.
    """
    server = servers.start(documented())
    daemon = await daemons.serve(server, *login("daemon"))
    settings = settings_of(server, "client")
    listener = await clients.connect(server, user="client", password="change_me")  # noqa: S106
    messages = await listener.nats.subscribe("jobs.>")
    await listener.nats.flush()
    async with await GozoClient.connect(settings) as client:
        await client.schedule("jobs.tea", b"x", when="+0", id="tea")
        assert (await messages.next_msg(timeout=allow(5))).data == b"x"
        for number in range(3):
            await client.schedule("elsewhere", b"x", when="+0", id=f"kept{number}")
        with pytest.raises(NotAllowedError, match=r"gozo\.admin\.cancel"):
            await client.cancel("kept0")
        with pytest.raises(NotAllowedError, match=r"STREAM\.INFO\.KV_gozo"):
            await client.bucket()
    denied = await daemon.event("permission.denied")
    assert (denied.fields["kind"], denied.fields["subject"]) == ("publish", "elsewhere")
    reader = settings_of(server, "reader")
    async with await GozoClient.connect(reader) as client:

        async def settled() -> bool:
            return await client.get("tea") is None

        async def kept() -> bool:
            found = [one async for one in client.list()]
            assert {one.id for one in found} == {"kept0", "kept1", "kept2"}
            return all(
                one.state == "retrying" and "'elsewhere'" in one.reason and one.tried >= 2
                for one in found
            )

        await until(settled, "what was delivered has left the bucket")
        await until(kept, "all were tried again, and are kept")
    assert len(daemon.events("permission.denied")) == 1
    assert {user for user, _ in violations(server)} == {"client", "daemon"}
    assert {subject for user, subject in violations(server) if user == "daemon"} == {"elsewhere"}
