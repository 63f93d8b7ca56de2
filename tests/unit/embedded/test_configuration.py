"""What an embedded server is told, and which options do not go with one."""

from __future__ import annotations

import codecs
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.embedded.configuration import Place, authorization, place, quoted, rendered
from gozo.errors import SettingsError
from gozo.settings.local_store import Files
from gozo.settings.model import ConnectionSettings

SECRET = "hunter2-very-secret"  # noqa: S105  # stands for whatever must not be seen


def settings(**chosen: Any) -> ConnectionSettings:
    """Return settings with some fields chosen."""
    return dataclasses.replace(ConnectionSettings(), **chosen)


@pytest.mark.parametrize(
    ("address", "where", "for_clients"),
    [
        ("nats://localhost:4222", "127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("nats://127.9.8.7:1", "127.9.8.7:1", "nats://127.9.8.7:1"),
        ("nats://[::1]:4223", "[::1]:4223", "nats://[::1]:4223"),
    ],
)
def test_the_server_listens_on_the_loopback_address(
    address: str, where: str, for_clients: str
) -> None:
    """`localhost` is 127.0.0.1, so that one address is listened on."""
    found = place(settings(addresses=(address,)))
    assert (str(found), found.address) == (where, for_clients)


@pytest.mark.parametrize(
    ("addresses", "problem"),
    [
        (("nats://localhost:1", "nats://localhost:2"), "names 2: give one"),
        (("nats://0.0.0.0:4222",), "not a loopback address"),
        (("nats://192.168.1.1:4222",), "not a loopback address"),
        (("nats://[::]:4222",), "not a loopback address"),
        (("nats://example.com:4222",), "not a loopback address"),
        (("nats://localhost.example.com:4222",), "not a loopback address"),
        (("tls://localhost:4222",), "does not support TLS"),
    ],
)
def test_another_address_is_refused(addresses: tuple[str, ...], problem: str) -> None:
    """It would serve the network, or not at all."""
    with pytest.raises(SettingsError, match=problem) as caught:
        place(settings(addresses=addresses))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("chosen", "problem"),
    [
        ({"secure": True}, r"--secure \(NATS_SECURE\) cannot be used with --embedded"),
        ({"cert": Path("c"), "key": Path("k")}, "--cert"),
        ({"ca": Path("c")}, "--ca"),
        ({"nkey": SECRET}, "--nkey"),
        ({"jwt": Path("j")}, "--jwt"),
        ({"context": "prod"}, "--context"),
        ({"token": SECRET, "user": "u", "password": SECRET}, "one or the other"),
        ({"user": "u"}, "both --user and --password"),
        ({"password": SECRET}, "both --user and --password"),
        ({"token": f"$2a$10${SECRET}"}, "invalid --token \\(not shown\\): .* bcrypt hash"),
        ({"user": "u", "password": f"$2y$11${SECRET}"}, "--password .* bcrypt hash"),
    ],
)
def test_what_an_embedded_server_cannot_do_is_refused(chosen: dict[str, Any], problem: str) -> None:
    """Rather than left out in silence: somebody relies on it."""
    with pytest.raises(SettingsError, match=problem) as caught:
        authorization(settings(**chosen))
    assert SECRET not in str(caught.value)


def test_a_login_is_demanded_of_clients_where_one_is_given() -> None:
    """A token, a user with a password, or nothing."""
    assert authorization(settings()) == {}
    login = {"token": "t"}
    assert authorization(settings(**login)) == login
    login = {"user": "u", "password": "p"}
    assert authorization(settings(**login)) == login
    within = settings(addresses=("nats://u:p%40@localhost:4222",))
    assert authorization(within) == {"user": "u", "password": "p@"}
    assert place(within).address == "nats://127.0.0.1:4222"
    within = settings(addresses=("nats://token@localhost:4222",))
    assert authorization(within) == {"token": "token"}
    assert authorization(dataclasses.replace(within, token=SECRET)) == {"token": SECRET}
    text = rendered("n", Place("127.0.0.1", 1), Files(Path("/s")), login)
    assert 'authorization { user: "u", password: "p" }\n' in text
    assert "authorization" not in rendered("n", Place("127.0.0.1", 1), Files(Path("/s")), {})


@given(st.text())
def test_any_text_can_be_quoted(text: str) -> None:
    """It stays within its quotes and on its line, and reads back as it was."""
    written = quoted(text)
    assert re.fullmatch(r'"([^"\\\x00-\x1f\x7f]|\\["\\]|\\x[0-9a-f]{2})*"', written)
    body = written[1:-1].encode("latin-1", "backslashreplace")
    assert codecs.decode(body, "unicode_escape") == text
