"""`--events` and `--history`: what happens to schedules is told, and kept."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from gozo.client import Client as Schedules
from tests.support.client import Arrivals, Client
from tests.support.gozoctl import Gozoctl
from tests.support.patience import allow
from tests.support.processes import Clients, Daemons, Servers
from tests.support.rights import LOGIN, admin, grant, withholding
from tests.support.storage import call


def told(arrivals: Arrivals) -> list[dict[str, Any]]:
    """Return the events that have come, read."""
    return [json.loads(payload) for payload in arrivals.payloads]


async def expect(arrivals: Arrivals, *wanted: tuple[str, str | None]) -> list[dict[str, Any]]:
    """Wait for events, by kind and id, in this order, and return them."""
    await arrivals.wait(len(wanted))
    events = told(arrivals)
    kinds = [(event["type"].removeprefix("gozo.event.v1."), event["id"]) for event in events]
    assert kinds == list(wanted)
    return events


async def test_a_life(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Each step of a schedule's life is told, with what the documentation names."""
    server = servers.start()
    client = await clients.connect(server)
    events = await client.arrivals("gozo.event.>")
    deliveries = await client.arrivals("kitchen")
    await daemons.serve(server, "--events", "--name", "one")
    (leads,) = await expect(events, ("leader", None))
    assert leads["daemon"] == "one"
    begun = time.time()
    due = f"{begun + 1000:.0f}"
    await client.schedule(due, reply="kitchen", id="tea")
    await client.schedule("+0.1", reply="kitchen", id="tea")
    await deliveries.wait(1)
    await events.wait(4)
    await client.schedule(due, reply="kitchen", id="a b")
    await client.cancel("a b")
    await client.cancel("nobody")
    await client.schedule("soon", reply="kitchen", id="bad")
    await client.schedule("+0", reply="kitchen")
    wanted = (
        *[("leader", None), ("accepted", "tea"), ("accepted", "tea"), ("delivered", "tea")],
        *[("accepted", "a b"), ("cancelled", "a b"), ("refused", "bad")],
    )
    await events.wait(len(wanted) + 2)
    found = told(events)
    # What is refused or has no id waits for no write, so it may come before others.
    kinds = sorted((event["type"].rpartition(".")[2], str(event["id"])) for event in found)
    assert kinds == sorted(
        (kind, str(id_)) for kind, id_ in (*wanted, ("accepted", None), ("delivered", None))
    )
    first, second, delivered = found[1:4]
    assert first.items() >= {"subject": "kitchen", "when": due, "replaced": False}.items()
    assert second["replaced"] is True
    assert delivered["subject"] == "kitchen"
    assert delivered["due"] == second["due"]
    assert 0 <= delivered["late_ms"] < 60_000
    refused = next(event for event in found if event["type"].endswith(".refused"))
    assert refused["error"] == "invalid_when"
    assert "soon" in refused["message"]


async def test_subjects(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """One schedule's events, or one kind's, can be listened to alone, whatever the id."""
    server = servers.start()
    await daemons.serve(server, "--events")
    client = await clients.connect(server)
    one = await client.arrivals("gozo.event.*.order.1=C3=A4")
    cancelled = await client.arrivals("gozo.event.cancelled.>")
    for id_ in ("order.1ä", "order.2"):
        await client.schedule("+1000", reply="kitchen", id=id_)
        await client.cancel(id_)
    await expect(one, ("accepted", "order.1ä"), ("cancelled", "order.1ä"))
    await expect(cancelled, ("cancelled", "order.1ä"), ("cancelled", "order.2"))


async def test_an_administrator(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What is done through the leader's verbs is told as well."""
    server = servers.start()
    await daemons.serve(server, "--events")
    client = await clients.connect(server)
    events = await client.arrivals("gozo.event.>")
    async with await Schedules.connect(server.url) as schedules:
        await schedules.schedule("kitchen", when="+1000", id="tea")
        await schedules.reschedule("tea", "+2000")
        await schedules.cancel("tea", "tea")
        await schedules.schedule("kitchen", when="+1000")
    _, moved, _, _, unnamed = await expect(
        events,
        *[("accepted", "tea"), ("accepted", "tea"), ("rescheduled", "tea"), ("cancelled", "tea")],
        ("accepted", None),
    )
    assert moved["replaced"] is True
    assert unnamed["subject"] == "kitchen"


async def test_verbs(servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path) -> None:
    """What an administrator does is told by its name, with the note; so is a pause by others."""
    server = servers.start()
    await daemons.serve(server, "--events")
    client = await clients.connect(server)
    events = await client.arrivals("gozo.event.*.tea")
    async with await Schedules.connect(server.url) as schedules:
        await schedules.schedule("kitchen", when="2099-01-01T00:00:00Z", id="tea")
        await schedules.pause("tea", note="on holiday")
        await schedules.pause("tea")  # which changes nothing
        await schedules.pause("tea", note="longer")
        await schedules.reschedule("tea", "2099-02-01T00:00:00Z")
        await schedules.resume("tea")
        await schedules.resume("tea")
        await schedules.trigger("tea")
        accepted = ("accepted", "tea")
        wanted = [
            *[accepted, accepted, ("paused", "tea"), accepted, ("paused", "tea")],
            *[accepted, ("rescheduled", "tea"), accepted, ("resumed", "tea")],
            *[("triggered", "tea"), ("delivered", "tea")],
        ]
        found = await expect(events, *wanted)
        assert [found[2]["note"], found[4]["note"]] == ["on holiday", "longer"]
        assert found[6].items() >= {"when": "2099-02-01T00:00:00Z", "subject": "kitchen"}.items()
        assert [found[number]["due"][:7] for number in (2, 6, 8)] == [
            *["2099-01", "2099-02", "2099-02"]
        ]
        assert found[9]["subject"] == "kitchen"
        assert "due" not in found[9]

        file = tmp_path / "schedules.toml"
        file.write_text(
            '[schedules.tea]\nsubject = "kitchen"\nwhen = "2099-02-01T00:00:00Z"\n'
            'paused = true\nnote = "by a file"\n'
        )
        ctl = Gozoctl(tmp_path, server.url)
        ctl.ok("apply", str(file))
        by_file = await expect(events, *wanted, accepted, ("paused", "tea"))
        assert by_file[-1]["note"] == "by a file"
        file.write_text(file.read_text().replace("true", "false").replace('note = "by a file"', ""))
        ctl.ok("apply", str(file))
        wanted += [accepted, ("paused", "tea"), accepted, ("resumed", "tea")]
        await expect(events, *wanted)
        file.write_text("")
        ctl.ok("apply", str(file), "--prune")
        await expect(events, *wanted, ("cancelled", "tea"))


async def test_recurring(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Each occurrence is told with its own due time; so are a pause and its end."""
    server = servers.start()
    await daemons.serve(server, "--events")
    client = await clients.connect(server)
    delivered = await client.arrivals("gozo.event.delivered.tea")
    accepted = await client.arrivals("gozo.event.accepted.tea")
    headers = {"Gozo-When": "@every 100ms", "Gozo-Id": "tea"}
    await client.send(headers, reply="kitchen")
    await delivered.wait(3)
    async with await Schedules.connect(server.url) as schedules:
        await schedules.pause("tea")
        await schedules.resume("tea")
    await accepted.wait(3)
    dues = [event["due"] for event in told(delivered)]
    assert sorted(set(dues)) == dues
    assert [event["state"] for event in told(accepted)] == ["pending", "paused", "pending"]


async def test_missed(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What is left out since it is too late is told, once of what recurs."""
    server = servers.start()
    async with await Schedules.connect(server.url) as schedules:
        await schedules.schedule("kitchen", when="+1h", id="old")
        await schedules.schedule("kitchen", when="@every 1h", id="often")
    client = await clients.connect(server)
    missed = await client.arrivals("gozo.event.missed.>")
    await daemons.serve(server, "--events", "--skip-due-before", "2099-01-01T00:00:00Z")
    await missed.wait(2)
    assert {event["id"] for event in told(missed)} == {"old", "often"}
    assert all(event["due"] for event in told(missed))


async def test_confirmed(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """A delivery to a stream is told once the stream has it."""
    server = servers.start()
    await daemons.serve(server, "--events")
    client = await clients.connect(server)
    delivered = await client.arrivals("gozo.event.delivered.>")
    await client.nats.jetstream().add_stream(name="JOBS", subjects=["jobs"])
    headers = {"Gozo-When": "+0", "Gozo-Id": "job", "Gozo-Confirm": "stream"}
    await client.send(headers, reply="jobs")
    await expect(delivered, ("delivered", "job"))


async def test_replaced_meanwhile(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """A delivery is told even where another version was stored before it was acknowledged."""
    server = servers.start()
    await daemons.serve(server, "--events")
    client = await clients.connect(server)
    events = await client.arrivals("gozo.event.*.job")
    jobs = await client.nats.subscribe("jobs")
    headers = {"Gozo-When": "+0", "Gozo-Id": "job", "Gozo-Confirm": "stream"}
    await client.send(headers, reply="jobs")
    message = await jobs.next_msg(timeout=allow(5))
    await client.schedule("+1000", reply="kitchen", id="job")
    await events.wait(2)
    await message.respond(b'{"stream": "JOBS", "seq": 1}')
    *_, delivered = await expect(
        events, ("accepted", "job"), ("accepted", "job"), ("delivered", "job")
    )
    assert delivered["subject"] == "jobs"


async def test_given_up(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """What was tried as often as was asked for is told, of what recurs for each occurrence."""
    server = servers.start()
    daemon = await daemons.serve(server, "--history", "1d")
    ctl = Gozoctl(tmp_path, server.url)
    client = await clients.connect(server)
    events = await client.arrivals("gozo.event.*.job")
    wanted = {"Gozo-Id": "job", "Gozo-Confirm": "stream", "Gozo-Attempts": "2"}
    await client.send({"Gozo-When": "+0", **wanted}, reply="no.stream")
    accepted, retrying, failed = await expect(
        events, ("accepted", "job"), ("retrying", "job"), ("failed", "job")
    )
    for event, attempts in ((retrying, 1), (failed, 2)):
        told = {"subject": "no.stream", "due": accepted["due"], "attempts": attempts}
        assert event.items() >= told.items()
        assert event["reason"] == "no stream stores its subject"
    words = ctl.ok("history", "job").rows[-1]
    assert words[1] == "failed"
    assert words[-1] == "after 2 attempts: no stream stores its subject"
    lines = ctl.ok("history", "job", "-o", "jsonl").out.splitlines()
    assert [json.loads(line).get("attempts") for line in lines] == [None, 1, 2]
    assert json.loads(ctl.ok("status", "-o", "json").out)["failed"] == 1

    often = await client.arrivals("gozo.event.*.often")
    wanted = {"Gozo-Id": "often", "Gozo-Confirm": "stream", "Gozo-Attempts": "1"}
    recurring = {"Gozo-When": "@every 100ms", "Gozo-Count": "2", **wanted}
    await client.send(recurring, reply="no.stream")
    await expect(often, ("accepted", "often"), ("failed", "often"), ("failed", "often"))
    words = ctl.ok("history", "often").rows[-1]
    assert words[-1] == "after 1 attempt: no stream stores its subject"
    assert await daemon.terminate() == 0
    left = await client.nats.jetstream().get_last_msg("KV_gozo", "$KV.gozo.often")
    assert (left.headers or {})["Gozo-Reason"] == "failed"


async def test_triggered_in_vain(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What is triggered is tried once; that it was in vain is told to others as well."""
    server = servers.start()
    await daemons.serve(server, "--events")
    client = await clients.connect(server)
    events = await client.arrivals("gozo.event.*.job")
    headers = {"Gozo-When": "+1000", "Gozo-Id": "job", "Gozo-Confirm": "stream"}
    await client.send(headers, reply="no.stream")
    await events.wait(1)
    async with await Schedules.connect(server.url) as schedules:
        await schedules.trigger("job")
    wanted = (("accepted", "job"), ("triggered", "job"), ("failed", "job"))
    *_, failed = await expect(events, *wanted)
    assert failed["attempts"] == 1


async def test_forbidden_target(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """That a message may not be published is told once, and how late it was in the end."""
    server = servers.start(withholding("publish", "closed.*"))
    daemon = await daemons.serve(server, "--events", *LOGIN)
    client = await admin(clients, server)
    named = await client.arrivals("gozo.event.*.door")
    others = await client.arrivals("gozo.event.*")
    await client.schedule("+0", reply="closed.door", id="door")
    await client.schedule("+0", reply="closed.door")
    await daemon.event("delivery.postponed", key="door", attempts="3")
    grant(server, "closed.*")
    accepted, retrying, delivered = await expect(
        named, ("accepted", "door"), ("retrying", "door"), ("delivered", "door")
    )
    assert "closed.door" in retrying["reason"]
    assert delivered["due"] == accepted["due"] == retrying["due"]
    assert delivered["late_ms"] > 500
    await others.wait(3)
    kinds = [event["type"].rpartition(".")[2] for event in told(others)]
    assert kinds == ["accepted", "retrying", "delivered"]


async def test_a_refused_verb(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What the leader refuses of its verbs is told once for each id, a standby being there too."""
    server = servers.start()
    await daemons.serve(server, "--events", "--name", "one")
    await daemons.serve(server, "--events", "--name", "two")
    client = await clients.connect(server)
    bucket = await client.nats.jetstream().key_value("gozo")
    invalid = await client.arrivals("gozo.event.invalid.>")
    await bucket.put("broken", b"nonsense")
    await invalid.wait()
    events = await client.arrivals("gozo.event.>")
    for verb, asked in (
        ("reschedule", {"id": "tea", "when": "soon"}),
        ("pause", {"ids": []}),
        ("trigger", {"ids": ["broken", "nothing"]}),
    ):
        await client.nats.request(
            f"gozo.admin.{verb}", json.dumps(asked).encode(), timeout=allow(5)
        )
    await client.schedule("+1000", reply="kitchen")
    refused = await expect(
        events,
        *[("refused", "tea"), ("refused", None), ("refused", "broken"), ("accepted", None)],
    )
    codes = ["invalid_when", "invalid_request", "invalid_request"]
    assert [event["error"] for event in refused[:3]] == codes
    assert {event["daemon"] for event in refused} == {"one"}
    assert "soon" in refused[0]["message"]


async def test_not_handed_over(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What a daemon holds in memory at its end, and the bucket refuses, is told to be lost."""
    server = servers.start()
    client = await clients.connect(server)
    made = {"name": "KV_gozo", "subjects": ["$KV.gozo.>"]}
    await call(client, "STREAM.CREATE.KV_gozo", made)
    events = await client.arrivals("gozo.event.>")
    daemon = await daemons.serve(server, "--replicas", "1", "--events")
    await client.schedule("+1000", reply="kitchen", payload=bytes(2_000))
    await client.schedule("+2000", reply="kitchen")
    wanted = (("leader", None), ("accepted", None), ("accepted", None))
    _, accepted, _ = await expect(events, *wanted)
    await call(client, "STREAM.UPDATE.KV_gozo", made | {"max_msg_size": 1_000})
    assert await daemon.terminate() == 1
    *_, failed = await expect(events, *wanted, ("failed", None))
    assert (failed["subject"], failed["due"]) == ("kitchen", accepted["due"])
    assert failed["attempts"] == 0
    assert "size" in failed["reason"]


async def test_by_others(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """What others write to the bucket and delete there is told, and what is invalid, once."""
    server = servers.start()
    client = await clients.connect(server)
    events = await client.arrivals("gozo.event.>")
    options = ("--deny", "secret.>", "--history", "1d")
    first = await daemons.serve(server, *options)
    bucket = await client.nats.jetstream().key_value("gozo")
    wanted = (
        *[("leader", None), ("accepted", "tea"), ("accepted", "tea"), ("invalid", "tea")],
        *[("cancelled", "tea"), ("invalid", "two words")],
    )
    for number, subject in enumerate(("kitchen", "kitchen", "secret.x"), 2):
        headers = {"Gozo-When": "+1000", "Gozo-Subject": subject}
        await client.nats.request("$KV.gozo.tea", b"x", headers=headers)
        # A version that the next one replaces at once need not be seen by anyone.
        await expect(events, *wanted[:number])
    await bucket.delete("tea")
    await bucket.put("two=20words", b"nonsense")
    _, new, again, invalid, *_ = await expect(events, *wanted)
    assert (new["replaced"], again["replaced"]) == (False, True)
    assert "--deny secret.>" in invalid["reason"]
    row = Gozoctl(tmp_path, server.url).ok("history", "tea").rows[3]
    assert row[1] == "invalid"
    assert row[-1] == invalid["reason"]
    assert await first.terminate() == 0
    await daemons.serve(server, *options)
    await expect(events, *wanted, ("leader", None), ("invalid", "two words"))


async def test_without_the_right(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Where gozo may not publish events, that is said once, with the cure, and nothing else."""
    server = servers.start(withholding("publish", "gozo.event.>"))
    daemon = await daemons.serve(server, "--events", *LOGIN)
    client = await admin(clients, server)
    deliveries = await client.arrivals("kitchen")
    denied = await daemon.event("events.denied")
    for number in range(20):
        await client.schedule("+0", reply="kitchen", id=f"tea{number}")
    await deliveries.wait(20)
    assert await daemon.terminate() == 0
    assert "publish to gozo.event.>: grant that permission" in denied.fields["reason"]
    assert len(daemon.events("events.denied")) == 1
    assert daemon.events("permission.denied") == []


async def test_off(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Nothing is told unless that is wanted."""
    server = servers.start()
    await daemons.serve(server)
    client = await clients.connect(server)
    events, deliveries = await client.arrivals("gozo.event.>"), await client.arrivals("kitchen")
    await client.schedule("+0", reply="kitchen", id="tea")
    await deliveries.wait(1)
    await client.confirm()
    assert events.all == []


async def test_gozoctl_events(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """They are printed as they come, of all schedules or of one."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    await daemons.serve(server, "--events")
    done = ctl.shell(
        "gozoctl events tea --count 4 2>heard & "
        "until grep -q listening heard 2>/dev/null; do :; done; "
        "gozoctl create --quiet coffee kitchen x --in 1h >/dev/null; "
        "gozoctl create --quiet tea kitchen x --in 1h >/dev/null; "
        "gozoctl reschedule --quiet tea --in 2h >/dev/null; "
        "gozoctl cancel --quiet tea >/dev/null; wait $!"
    )
    assert done.code == 0
    head, *rows = done.rows
    assert head == ["AT", "EVENT", "ID", "DUE", "LATE_MS", "SUBJECT", "DETAIL"]
    assert [row[1:3] for row in rows] == [
        ["accepted", "tea"],
        ["accepted", "tea"],
        ["rescheduled", "tea"],
        ["cancelled", "tea"],
    ]
    assert rows[1][6].endswith("(replaced)")


async def test_history(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """What happened to a schedule is known later, for as long as was ever chosen."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    none = ctl.run("history", "tea")
    assert (none.code, none.out) == (3, "")
    assert "--history" in none.err
    daemon = await daemons.serve(server, "--history", "30d")
    assert daemon.events("history.created")[0].fields["age_s"] == "2592000"
    client = await clients.connect(server)
    events = await client.arrivals("gozo.event.>")
    for id_ in ("tea", "tea.green"):
        await client.schedule("+1000", reply="kitchen", id=id_)
    await client.schedule("+0", reply="kitchen", id="tea")
    await events.wait(4)
    found = [json.loads(line) for line in ctl.ok("history", "tea", "-o", "jsonl").out.splitlines()]
    assert [one["event"] for one in found] == ["accepted", "accepted", "delivered"]
    assert found[2]["late_ms"] >= 0
    nobody = ctl.run("history", "nobody")
    assert (nobody.code, nobody.out) == (3, "")
    for columns in (80, 200):
        with ctl.terminal("history", "tea", columns=columns) as terminal:
            assert terminal.ends() == 0
            head, _, *rows = terminal.text.splitlines()
            assert head.split() == ["AT", "EVENT", "WHAT"]
            assert " delivered   to kitchen, " in rows[-1]
            assert terminal.colours <= {("default", "default"), ("green", "default")}
    stream = await client.nats.jetstream().stream_info("gozo_history")
    assert stream.config.max_age == 30 * 86_400
    assert await daemon.terminate() == 0

    js = client.nats.jetstream()
    daemon = await daemons.serve(server, "--history", "1s")  # mistyped: nothing is lost
    (told,) = daemon.events("history.not_shortened")
    assert told.level == "warning"
    words = "gozo_history keeps events for 30d, and --history 1s does not shorten that: to remove"
    assert words in told.fields["reason"]
    assert (await js.stream_info("gozo_history")).config.max_age == 30 * 86_400
    assert len(ctl.ok("history", "tea").rows) == 4
    assert await daemon.terminate() == 0

    daemon = await daemons.serve(server, "--history", "60d")
    assert daemon.events("history.changed")[0].fields["age_s"] == "5184000"
    assert (await js.stream_info("gozo_history")).config.max_age == 60 * 86_400


async def test_in_a_terminal(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """A person sees events as they come in columns, below their names."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    await daemons.serve(server, "--events")
    with ctl.terminal("events", "--count", "2") as terminal:
        terminal.shows("listening")
        for id_ in ("早上好", "tea"):
            ctl.ok("create", id_, "kitchen", "--in", "1h")
        assert terminal.ends() == 0
        head, *rows = terminal.text.splitlines()[-3:]
        assert head.split() == ["AT", "EVENT", "ID", "WHAT"]
        for row in rows:
            assert row.index("accepted") == head.index("EVENT")
        assert rows[1].index("to kitchen") == head.index("WHAT")


async def test_hostile_events(servers: Servers, clients: Clients, tmp_path: Path) -> None:
    """What somebody else publishes there breaks nothing, and reaches no terminal as it is."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    client: Client = await clients.connect(server)
    script = ctl.terminal("events", "--count", "1", "-o", "jsonl")
    with script as terminal:
        terminal.shows("listening")
        event = {"type": "gozo.event.v1.leader", "at": "9999-12-31T23:59:59.9Z", "id": None}
        odd = json.dumps(event | {"daemon": "", "at": "0001-01-01T00:00:00+14:00"}).encode()
        for payload in (odd, b"", b"[]", b"{}", b'{"type": 1}', b"\xff", b"[" * 100_000):
            await client.nats.publish("gozo.event.accepted", payload)
        forged = event | {"daemon": "\x1b[2J", "due": None}
        await client.nats.publish("gozo.event.leader", json.dumps(forged).encode())
        await client.confirm()
        assert terminal.ends() == 0
    assert "\\u001b[2J" in terminal.raw
    assert "\x1b[2J" not in terminal.raw


async def test_history_of_another_request_subject(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """It keeps events of the new one as well, and what it has of the old one."""
    server = servers.start()
    first = await daemons.serve(server, "--history", "1h")
    assert await first.terminate() == 0
    second = await daemons.serve(server, "--history", "1h", "--request-subject", "other")
    client = await clients.connect(server, request_subject="other")
    events = await client.arrivals("other.event.accepted.tea")
    await client.schedule("+1000", reply="to", id="tea")
    await events.wait()
    ctl = Gozoctl(tmp_path, server.url)
    (told,) = ctl.ok("history", "tea", "--request-subject", "other", "-o", "json").json
    assert told["event"] == "accepted"
    stream = await client.nats.jetstream().stream_info("gozo_history")
    assert stream.config.subjects == ["gozo.event.>", "other.event.>"]
    assert second.events("history.changed")[0].fields["subject"] == "other.event.>"
    assert await second.terminate() == 0


NO_NAMES = """
authorization: {users: [
    {user: gozo, password: p, permissions: {publish: {deny: "$JS.API.STREAM.NAMES"}}}
    {user: admin, password: p}
]}
"""


@pytest.mark.parametrize("may_look", [True, False])
async def test_history_is_in_the_way(servers: Servers, daemons: Daemons, may_look: bool) -> None:
    """Where another bucket's history keeps the same subject, that is said with what to do."""
    server = servers.start(NO_NAMES)
    login = ("--user", "admin" if may_look else "gozo", "--password", "p")
    for bucket, subject in (("one", "gozo"), ("two", "apart")):
        options = ("--history", "1h", "--bucket", bucket, "--request-subject", subject)
        assert await (await daemons.serve(server, *login, *options)).terminate() == 0
    # Once it would be made, and once it would be changed.
    for bucket in ("three", "two"):
        refused = daemons.start(
            *("serve", "--address", server.url, *login, "--bucket", bucket, "--history", "1h")
        )
        assert await refused.wait() == 1
        said = refused.stderr.splitlines()[-1]
        named = "the stream one_history" if may_look else "another stream"
        assert said.startswith(f"gozo: {named} keeps messages on gozo.event.> already")
        assert "--request-subject" in said
    checked = daemons.start(
        *("check", "--address", server.url, *login, "--bucket", "three", "--history", "1h")
    )
    assert await checked.wait() == (1 if may_look else 0)
    assert ("one_history keeps messages" in checked.stderr) == may_look


async def test_history_is_somebody_elses(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """A stream that gozo did not make is not changed; where it does what is asked, it serves."""
    server = servers.start()
    js = (await clients.connect(server)).nats.jetstream()
    await js.add_stream(name="gozo_history", subjects=["orders.>"])
    for command in ("serve", "check"):
        refused = daemons.start(command, "--address", server.url, "--history", "90s")
        assert await refused.wait() == 1
        said = refused.stderr.splitlines()[-1]
        assert "gozo_history, which keeps orders.> forever, not gozo.event.> for 1m30s: " in said
    subjects = ["orders.new", "gozo.event.>"]
    await js.update_stream(name="gozo_history", subjects=subjects, max_age=3600)
    before = (await js.stream_info("gozo_history")).config
    await daemons.serve(server, "--history", "1h")
    assert (await js.stream_info("gozo_history")).config == before
