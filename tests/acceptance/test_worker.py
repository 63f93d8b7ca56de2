"""`gozoctl worker`: runs what its own file says, once, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from gozo.client import Client, Message
from gozoctl.worker import mail
from tests.support.gozoctl import PROGRAM
from tests.support.hosts import Hosts, apply, settled, starts_of, table
from tests.support.patience import allow, until


async def end_of(client: Client, id_: str) -> Message:
    """Trigger a schedule, and return the final answer of its worker."""
    async with client.listen("gozo.ack.*") as answers:
        await client.trigger(id_)
        async with asyncio.timeout(allow(10)):
            async for answer in answers:
                if any(name == "Gozo-Exit-Status" for name, _ in answer.headers):
                    return answer
    raise AssertionError


async def test_what_a_command_gets(gozo: Client, hosts: Hosts, tmp_path: Path) -> None:
    """A clean environment, its folder, the payload where it asks for it; and it is all reported."""
    text = '[worker]\nenvironment = { A = "1", B = "2" }\n'
    text += table("env", "env; pwd; cat", payload="unread", input=True, directory=str(tmp_path))
    text += table("list", "no", environment="no").replace("'''no'''", '["/bin/echo", "$HOME"]', 1)
    text = text.replace("environment = '''no'''", 'environment = { B = "3" }')
    text += table("fails", "echo bad >&2; cat; exit 3", keep_output=False)
    text += table("missing", "true", directory="/no/such")
    text += table("other", "touch other", host="web2")
    await apply(gozo, text)
    secret = {"NATS_TOKEN": "secret", "GOZO_BUCKET": "gozo", "TZ": "Europe/Malta"}
    worker = await hosts.start(text, variables=secret)
    answer = await end_of(gozo, "env")
    lines = answer.payload.decode().splitlines()
    variables = dict(line.split("=", 1) for line in lines if "=" in line)
    assert variables.pop("HOME")
    assert {name: variables.pop(name) for name in ("PWD", "_", "OLDPWD") if name in variables}
    variables.pop("LANG", None)
    user = variables.pop("USER")
    assert variables == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "SHELL": "/bin/sh",
        "LOGNAME": user,
        "TZ": "Europe/Malta",
        "GOZO_ID": "env",
        "A": "1",
        "B": "2",
    }
    assert lines[-2:] == [str(tmp_path), "unread"]
    headers = dict(answer.headers)
    assert headers["Gozo-Answer"] == "+ACK"
    assert headers["Gozo-Exit-Status"] == "0"
    assert headers["Gozo-Host"] == "web1"
    assert float(headers["Gozo-Duration"].removesuffix("s")) < allow(5)
    assert headers["Gozo-Started"].endswith("Z")
    assert (await end_of(gozo, "list")).payload == b"$HOME\n"
    answer = await end_of(gozo, "fails")
    assert answer.payload == b'-NAK {"reason": "exit code 3"}'  # its output is not to be kept
    assert await settled(gozo, "fails") == "exit code 3"
    outcomes = {}
    for id_ in ("list", "fails"):
        await settled(gozo, id_)
        (outcome,) = [one async for one in gozo.outcomes(id_)]
        assert outcome.host == "web1"
        assert outcome.took is not None
        outcomes[id_] = outcome.reason, outcome.exit_status, outcome.detail
    assert outcomes == {"list": ("succeeded", 0, ""), "fails": ("failed", 3, "exit code 3")}
    assert await gozo.output("list") == b"$HOME\n"
    assert await gozo.output("fails") is None
    answer = await end_of(gozo, "missing")
    assert dict(answer.headers)["Gozo-Exit-Status"] == "126"
    reason = "cannot start: No such file or directory: /no/such"
    assert await settled(gozo, "missing") == reason
    (failed,) = worker.events("job.failed")
    assert failed.fields["reason"] == reason
    ended = worker.events("job.ended")
    assert [one.fields["id"] for one in ended] == ["env", "list", "fails"]
    assert {"host", "pid", "duration_ms", "due", "attempt", "status"} <= ended[0].fields.keys()
    assert "bad" not in worker.stderr  # output may hold secrets


async def test_an_attacked_worker(gozo: Client, hosts: Hosts) -> None:
    """Whoever may publish starts nothing but what is due, and is answered nowhere else."""
    mark = hosts.folder / "ran"
    text = table("mine", f"echo \"$@\" $GOZO_ID >> '{mark}'; cat >> '{mark}'", input=True)
    text += table("due", f"echo due >> '{mark}'", when="@every 1h")
    await apply(gozo, text)
    worker = await hosts.start(text)
    evil = f"; touch {hosts.folder}/pwned; $(touch {hosts.folder}/pwned)"
    ids = ("mine", f"mine{evil}", "due")
    async with gozo.listen("victim.>") as victims, gozo.listen("gozo.ack.*") as acks:
        connection = gozo._connection
        wrong = ("victim.a", "gozo.ackx.a", "gozo.ack.a.b", "gozo.ack", "")
        for id_ in ids:
            headers = f"NATS/1.0\r\nGozo-Id: {id_}\r\nLD_PRELOAD: {evil}\r\n\r\n".encode()
            # The last one looks right: it is claimed or given back, and no leader knows of it.
            for reply in (*wrong, "gozo.ack.a-_1"):
                connection.publish("cron.mine", evil.encode(), headers=headers, reply=reply)
        await connection.echo()
        said = [await asyncio.wait_for(anext(acks), allow(5)) for _ in range(3)]
        words = sorted(message.payload.split(b" ")[0] for message in said)
        # A known id on another subject is no table either.
        assert words == [b"+CLAIM", b"-NAK", b"-NAK"]
        await worker.event("message.unknown", id="due")
        await worker.event("message.ignored")
        assert not victims.waiting
        await gozo.trigger("mine")
        assert await hosts.written("ran") == ["mine"]
        await settled(gozo, "mine")
        assert not victims.waiting
    assert hosts.lines("ran") == ["mine"]
    assert not (hosts.folder / "pwned").exists()
    assert worker.alive


async def test_an_offer_that_is_repeated(gozo: Client, hosts: Hosts) -> None:
    """While the worker claims a run, it does not give the same run back."""
    text = table("mine", "true")
    await apply(gozo, text)
    await hosts.start(text)
    async with gozo.listen("gozo.ack.*") as acks:
        for id_, reply in (("mine", "claimed"), ("mine", "claimed"), ("other", "given-back")):
            headers = f"NATS/1.0\r\nGozo-Id: {id_}\r\n\r\n".encode()
            gozo._connection.publish("cron.mine", b"", headers=headers, reply=f"gozo.ack.{reply}")
        said = [await asyncio.wait_for(anext(acks), allow(5))]
        while said[-1].subject != "gozo.ack.given-back":
            said.append(await asyncio.wait_for(anext(acks), allow(5)))
    words = {one.payload.split(b" ")[0] for one in said if one.subject == "gozo.ack.claimed"}
    assert words == {b"+CLAIM"}


async def test_one_hung_job_delays_no_other(gozo: Client, hosts: Hosts) -> None:
    """Each schedule has its own lane, a timeout ends all of a group, none runs beside itself."""
    out = hosts.folder
    text = table("hung", f"echo $$ >> '{out}/hung'; sleep 1000", timeout="1s")
    text += table("child", f"sleep 1000 & echo $! >> '{out}/child'; wait", timeout="1s")
    text += table("quick", f"echo x >> '{out}/quick'")
    text += table("hang", f"echo x >> '{out}/hang'; sleep 1000")
    await apply(gozo, text)
    worker = await hosts.start(text)
    await gozo.trigger("hang")
    await hosts.written("hang")
    await gozo.trigger("hung")
    await gozo.trigger("child")
    for count in range(3):
        await gozo.trigger("quick")
        await hosts.written("quick", count + 1)
        await settled(gozo, "quick")
    assert await settled(gozo, "hung") == "timed out after 1 s"
    ended = await worker.event("job.ended", id="hung")
    assert ended.fields["status"] == "124"
    await worker.event("job.ended", id="child")
    (child,) = await hosts.written("child")
    await until(lambda: not Path(f"/proc/{child}").exists(), "the group has ended")
    assert hosts.lines("hang") == ["x"]
    # A second signal ends what still hangs, which is reported.
    worker.send(signal.SIGTERM)
    await worker.event("worker.stopping", running="1")
    worker.send(signal.SIGTERM)
    assert await worker.wait() == 130
    assert await settled(gozo, "hang") == "ended with its worker"


async def test_no_room(gozo: Client, hosts: Hosts) -> None:
    """A worker without room leaves the rest to others, and takes it when it has room again."""
    out = hosts.folder
    text = "[worker]\nmax-parallel = 1\n"
    text += table("long", f"echo $$ >> '{out}/long'; read -r _ < '{out}/go'")
    text += table("next", f"echo $$ >> '{out}/next'")
    os.mkfifo(out / "go")
    await apply(gozo, text)
    worker = await hosts.start(text)
    await gozo.trigger("long")
    await hosts.written("long")
    await gozo.trigger("next")
    reasons: set[str] = set()

    async def is_postponed() -> bool:
        reasons.update([one.reason async for one in gozo.list(prefix="next") if one.is_run])
        return any(reasons)

    await until(is_postponed, "nobody took it")
    assert reasons - {""} == {"nobody subscribes to cron.next"}
    assert not hosts.lines("next")
    (out / "go").write_text("go\n")
    await hosts.written("next")
    assert await settled(gozo, "next") == ""
    assert await worker.terminate() == 0


async def test_two_workers_share(gozo: Client, hosts: Hosts) -> None:
    """Each occurrence runs once, on one of them; what is for one host runs there."""
    out = hosts.folder
    text = table("tick", f"echo $GOZO_ID >> '{out}/tick'", when="@every 0.2s", count=20)
    text += table("here", f"echo $GOZO_ID >> '{out}/here'", host="web2")
    one = await hosts.start(text.replace("$GOZO_ID", "web1"), "web1")
    two = await hosts.start(text.replace("$GOZO_ID", "web2"), "web2")
    await apply(gozo, text)
    await gozo.trigger("here")
    ran = await hosts.written("tick", 20)
    assert await hosts.written("here") == ["web2"]
    await settled(gozo, "here")
    await until(lambda: len(starts_of(one, two)) == 21, "all were logged")
    assert len(ran) == 20
    assert set(ran) == {"web1", "web2"}
    dues = [event["due"] for event in starts_of(one, two) if event["id"] == "tick"]
    assert len(set(dues)) == 20


async def test_a_worker_is_found(gozo: Client, hosts: Hosts) -> None:
    """It is a NATS service, which says what runs."""
    text = table("busy", "sleep 1000", timeout="1h")
    await apply(gozo, text)
    worker = await hosts.start(text, "web7")
    await gozo.trigger("busy")
    await worker.event("job.started")
    reply = await gozo._connection.request("$SRV.INFO.gozo-worker", timeout=allow(5))
    said = json.loads(reply.payload)
    assert said["type"] == "io.nats.micro.v1.info_response"
    assert said["name"] == "gozo-worker"
    assert said["metadata"]["host"] == "web7"
    assert said["metadata"]["files"] == "cron.toml"
    assert said["metadata"]["running"] == "1"
    (running_now,) = said["running"]
    assert running_now["id"] == "busy"
    assert running_now["attempt"] == "1"
    # Nobody can have it answer anywhere else.
    async with gozo.listen("cron.busy") as messages:
        gozo._connection.publish("$SRV.PING.gozo-worker", reply="$KV.gozo.x")
        await gozo._connection.request("$SRV.PING.gozo-worker", timeout=allow(5))
        assert not messages.waiting
    assert await gozo.get("x") is None


@pytest.mark.skipif(os.access(mail.SENDMAIL, os.X_OK), reason="this host would send mail")
async def test_mail(gozo: Client, hosts: Hosts, tmp_path: Path) -> None:
    """Output is mailed by the sendmail of the host, for which the end of the worker waits."""
    program = tmp_path / "sendmail"
    program.write_text(f"#!/bin/sh\nsleep 0.5\ncat >> '{tmp_path}/mail'\n")
    program.chmod(0o755)
    text = "[worker]\nmailto = 'ops@example.com'\n"
    text += table("mail", "echo out; exit 3") + table("nomail", "echo no", mailto="")
    await apply(gozo, text)
    worker = await hosts.start(text, variables={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    for id_ in ("nomail", "mail"):
        await gozo.trigger(id_)
        await worker.event("job.ended", id=id_)
    assert await worker.terminate() == 0
    lines = hosts.lines("mail")
    assert "To: ops@example.com" in lines
    assert "Subject: gozo: mail on web1: exit code 3" in lines
    assert lines.count("out") == 1
    assert "no" not in lines


async def test_standard_input_is_no_file(hosts: Hosts) -> None:
    """It could not be read again."""
    worker = hosts.daemons.start(
        "worker", "-", variables={"NATS_ADDRESS": hosts.server.url}, program=PROGRAM
    )
    assert await worker.wait() == 2
    assert worker.stderr.endswith("a worker reads its files again on SIGHUP: give files, not -")
