"""Contexts of the NATS command line: what is taken from them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gozo.errors import SettingsError
from gozo.settings import nats_contexts as contexts
from gozo.settings.model import ConnectionSettings
from gozo.settings.resolve import resolve_connection
from gozo.settings.sources import File, Sources
from tests.support.credentials import key_pair

SECRET = "hunter2-very-secret"  # noqa: S105  # stands for whatever must not be seen
WORD = "p$HOME"  # a variable's name, were it a path


class Home:
    """A user's directory of settings, with contexts in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"XDG_CONFIG_HOME": str(folder)}

    def path(self, name: str) -> Path:
        """Return where a context is, or would be."""
        return self.folder / "nats" / "context" / f"{name}.json"

    def save(self, name: str, **fields: Any) -> None:
        """Write a context as `nats context save` does, the empty fields too."""
        self.write(name, json.dumps({"description": "", "nsc": "", "token": ""} | fields))

    def write(self, name: str, text: str) -> None:
        """Write anything in the place of a context."""
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(text)

    def resolve(
        self, command_line: dict[str, str], environment: dict[str, str] | None = None
    ) -> ConnectionSettings:
        """Resolve settings with these options and variables."""
        return resolve_connection(Sources(command_line, self.environment | (environment or {})))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Make an empty directory of settings."""
    return Home(tmp_path)


class TestFields:
    """What a context fills."""

    def test_everything_that_gozo_knows_is_taken(self, home: Home, tmp_path: Path) -> None:
        """Addresses without a scheme, several of them; `$VAR` and `${VAR}` in paths."""
        for name in ("cert", "key", "ca"):
            (tmp_path / name).touch()
        home.save(
            "prod",
            url="a.example, tls://b.example:1",
            user="ada",
            password=WORD,
            cert="$PLACE/cert",
            key="${PLACE}/key",
            ca=f"{tmp_path}/ca$NOTHING",
            jetstream_domain="hub",
            inbox_prefix="_INBOX_ada",
            tls_first=True,
            color_scheme="blue",
        )
        found = home.resolve({"context": "prod"}, {"PLACE": str(tmp_path)})
        assert found == ConnectionSettings(
            addresses=("nats://a.example:4222", "tls://b.example:1"),
            context="prod",
            user="ada",
            password=WORD,
            cert=tmp_path / "cert",
            key=tmp_path / "key",
            ca=tmp_path / "ca",
            js_prefix="$JS.hub.API",
            inbox_prefix="_INBOX_ada",
            tls_first=True,
        )

    def test_home_is_expanded(
        self, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`~` in the path of a credentials file."""
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "ada.creds").touch()
        home.save("prod", creds="~/ada.creds")
        assert home.resolve({"context": "prod"}).jwt == tmp_path / "ada.creds"

    def test_of_several_logins_the_first_counts(self, home: Home, tmp_path: Path) -> None:
        """In the order of the NATS command line; a JWT takes the nkey's seed, or its own."""
        (tmp_path / "creds").touch()
        one, other = key_pair().seed, key_pair().seed
        fields = {"user": "u", "creds": str(tmp_path / "creds"), "user_jwt": "j"}
        fields |= {"nkey": one, "token": "t"}
        seen = []
        for key in fields:
            home.save("prod", **fields)
            found = home.resolve({"context": "prod"})
            logins = (found.user, found.jwt, found.user_jwt, found.nkey, found.token)
            seen.append([bool(login) for login in logins].index(True))
            assert sum(bool(login) for login in logins) == 1
            fields[key] = ""
        assert seen == [0, 1, 2, 3, 4]
        home.save("prod", user_jwt="j", nkey=one)
        assert home.resolve({"context": "prod"}).user_seed == one
        home.save("prod", user_jwt="j", nkey=one, user_seed=other)
        assert home.resolve({"context": "prod"}).user_seed == other

    @pytest.mark.parametrize(
        ("fields", "prefix"),
        [
            ({}, "$JS.API"),
            ({"jetstream_domain": "hub"}, "$JS.hub.API"),
            ({"jetstream_api_prefix": "$JS.other.API"}, "$JS.other.API"),
            ({"jetstream_api_prefix": "acme.js."}, "acme.js"),
            ({"jetstream_api_prefix": "x", "jetstream_domain": "hub"}, "$JS.hub.API"),
        ],
    )
    def test_prefix_of_the_api(self, fields: dict[str, str], prefix: str, home: Home) -> None:
        """From the domain, else as it is given, else the server's own."""
        home.save("prod", **fields)
        assert home.resolve({"context": "prod"}).js_prefix == prefix

    def test_the_selected_one_is_not_used(self, home: Home) -> None:
        """Only a context that is named to gozo counts."""
        home.save("prod", url="prod.example")
        (home.folder / "nats" / "context.txt").write_text("prod")
        assert home.resolve({}, {"NATS_CONTEXT": "prod"}) == ConnectionSettings()

    def test_names_for_completion(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those that are there, sorted; none where there is no directory."""
        monkeypatch.setenv("XDG_CONFIG_HOME", str(home.folder))
        assert contexts.names() == []
        home.save("prod")
        home.save("dev.eu")
        assert contexts.names() == ["dev.eu", "prod"]


class TestRank:
    """A context against what else is given, and logins against each other."""

    def test_a_context_ranks_with_the_source_that_names_it(self, home: Home) -> None:
        """Below the options of that source, above those of the next."""
        home.save("prod", url="context.example")
        places = ({"address": "line"}, {"NATS_URL": "environment"}, {"NATS_ADDRESS": "file"})

        def host(rank: int, *given: int) -> str:
            line, environment, file = (
                (places[n] if n in given else {}) | ({key: "prod"} if n == rank else {})
                for n, key in enumerate(("context", "GOZO_CONTEXT", "GOZO_CONTEXT"))
            )
            sources = Sources(
                line, home.environment | environment, (File("./gozo.env", file, is_local=True),)
            )
            [address] = resolve_connection(sources).addresses
            return address.removeprefix("nats://").partition(":")[0]

        assert host(0, 0, 1, 2) == "line"
        assert host(0, 1, 2) == "context.example"
        assert host(1, 0, 1, 2) == "line"
        assert host(1, 1, 2) == "environment"
        assert host(1, 2) == "context.example"
        assert host(2, 1, 2) == "environment"
        assert host(2, 2) == "file"
        assert host(2) == "context.example"

    @pytest.mark.parametrize("winner", ["token", "user", "nkey", "jwt", "address", "context"])
    @pytest.mark.parametrize("loser", ["token", "user", "nkey", "jwt", "address", "context"])
    def test_a_login_replaces_every_other_kind(
        self, winner: str, loser: str, home: Home, tmp_path: Path
    ) -> None:
        """Whatever kinds they are, only the one of the first source is left."""
        texts = {
            "token": {"token": "t{0}"},
            "user": {"user": "u{0}", "password": "p{0}"},
            "nkey": {"nkey": ""},
            "jwt": {"jwt": str(tmp_path / "creds{0}")},
            "address": {"address": "nats://a{0}:pw{0}@h"},
            "context": {"context": "c{0}"},
        }
        given: list[dict[str, str]] = []
        for place in range(2):
            (tmp_path / f"creds{place}").touch()
            home.save(f"c{place}", user_jwt=f"jwt{place}", user_seed=key_pair().seed)
            kind = (winner, loser)[place]
            given.append({key: text.format(place) for key, text in texts[kind].items()})
            if kind == "nkey":
                given[place]["nkey"] = key_pair().seed
        variables = {
            f"{'GOZO' if key == 'context' else 'NATS'}_{key.upper()}": text
            for key, text in given[1].items()
        }
        found = home.resolve(given[0], variables)
        alone = home.resolve(given[0])
        kinds = ("token", "user", "password", "nkey", "jwt", "user_jwt", "user_seed")
        left = {kind: getattr(found, kind) for kind in kinds}
        if winner == "address":
            assert "@" in found.addresses[0]
        assert left == {kind: getattr(alone, kind) for kind in kinds}

    def test_an_address_of_the_same_source_yields_to_a_login_there(self, home: Home) -> None:
        """`-t token -a nats://user:password@host` logs in with the token, as it always did."""
        found = home.resolve({"token": WORD, "address": "nats://u:p@h"})
        assert found.token == WORD

    def test_a_password_goes_with_the_user_it_was_given_for(self, home: Home) -> None:
        """Options may come from two sources; a context's password is for its own user only."""
        home.save("prod", user="ada", password=SECRET)
        split = home.resolve({"user": "bob"}, {"NATS_PASSWORD": "p"})
        assert (split.user, split.password) == ("bob", "p")
        other = home.resolve({"user": "bob", "context": "prod"})
        assert (other.user, other.password) == ("bob", None)
        newer = home.resolve({"password": "p", "context": "prod"})
        assert (newer.user, newer.password) == ("ada", "p")
        token = home.resolve({"token": "t"}, {"NATS_PASSWORD": "p"})
        assert (token.token, token.password) == ("t", None)

    @pytest.mark.parametrize(
        ("own", "other"), [("NATS_ADDRESS", "NATS_URL"), ("NATS_JWT", "NATS_CREDS")]
    )
    def test_variables_of_the_nats_command_line(
        self, own: str, other: str, home: Home, tmp_path: Path
    ) -> None:
        """After gozo's own of the same source, before those of the next."""
        for name in "abc":
            (tmp_path / name).touch()
        a, b, c = (str(tmp_path / name) if own == "NATS_JWT" else name for name in "abc")

        def value(environment: dict[str, str], file: dict[str, str]) -> str:
            sources = Sources({}, environment, (File("./gozo.env", file, is_local=True),))
            found = resolve_connection(sources)
            return str(found.jwt) if own == "NATS_JWT" else found.addresses[0][7:-5]

        assert value({own: a, other: b}, {own: c}) == a
        assert value({other: b}, {own: c}) == b
        assert value({own: "", other: b}, {}) == b
        assert value({}, {other: c}) == c


class TestErrors:
    """Contexts that cannot be used."""

    @pytest.mark.parametrize("name", ["..", "a..b", "a/b", "/a", "a\\b", "a\nb"])
    def test_names_that_lead_elsewhere_are_refused(self, name: str, home: Home) -> None:
        """No name reads a file outside of the directory."""
        with pytest.raises(SettingsError, match=r"invalid --context '.*': expected a name without"):
            home.resolve({"context": name})

    def test_a_context_that_is_not_there(self, home: Home) -> None:
        """With its name, where it was looked for, and how to see those that are there."""
        with pytest.raises(SettingsError) as caught:
            home.resolve({"context": "prod"})
        assert str(caught.value) == (
            f"there is no context 'prod', {home.path('prod')} is missing: 'nats context ls' "
            "lists all contexts"
        )

    def test_without_a_home_directory(self) -> None:
        """It says what to set."""
        with pytest.raises(SettingsError, match="set HOME or XDG_CONFIG_HOME"):
            resolve_connection(Sources({"context": "prod"}, {}))

    @pytest.mark.parametrize(
        "text", ["", "{", f'{{"token": {SECRET}', f'["{SECRET}"]', "\xff", f'"{SECRET}"']
    )
    def test_a_malformed_file(self, text: str, home: Home) -> None:
        """Told without what stands in it."""
        home.write("prod", text)
        with pytest.raises(SettingsError, match="the context 'prod' is malformed") as caught:
            home.resolve({"context": "prod"})
        assert SECRET not in str(caught.value)

    def test_a_directory_in_its_place(self, home: Home) -> None:
        """Told as the operating system does."""
        home.path("prod").mkdir(parents=True)
        with pytest.raises(SettingsError, match=r"cannot be read .*directory"):
            home.resolve({"context": "prod"})

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"token": [SECRET]}, "invalid token in {path} (not shown): expected a string"),
            ({"token": 5}, "invalid token in {path} (not shown): expected a string"),
            ({"token": "\ud800"}, "invalid token in {path} (not shown): expected a string"),
            ({"tls_first": "yes"}, "invalid tls_first in {path} 'yes': expected true or false"),
            ({"user_jwt": SECRET}, "{path} has a user_jwt but no user_seed"),
            (
                {"user_jwt": "j", "user_seed": SECRET},
                "invalid user_seed in {path} (not shown): expected a user seed",
            ),
            ({"nkey": SECRET}, "invalid nkey in {path} (not shown): expected a user seed"),
            ({"creds": "/no/such"}, "invalid creds in {path} '/no/such': it cannot be read"),
            ({"url": "http://h"}, "invalid url in {path} 'http://h': unknown scheme"),
            ({"cert": "/dev/null"}, "cert in {path} is given without --key"),
            ({"jetstream_domain": "a b"}, "invalid jetstream_domain in {path} 'a b': it contains"),
            (
                {"jetstream_api_prefix": "a.>"},
                "invalid jetstream_api_prefix in {path} 'a.>': it contains a wild",
            ),
            (
                {"inbox_prefix": "a..b"},
                "invalid inbox_prefix in {path} 'a..b': it has an empty token",
            ),
        ],
    )
    def test_a_bad_field(self, fields: dict[str, Any], message: str, home: Home) -> None:
        """Told by its name in the file, with the value where it is not secret."""
        home.save("prod", **fields)
        with pytest.raises(SettingsError) as caught:
            home.resolve({"context": "prod"})
        assert message.format(path=home.path("prod")) in str(caught.value)
        assert SECRET not in str(caught.value)

    def test_nothing_secret_is_in_a_repr(self, home: Home) -> None:
        """Settings may land in a log or a traceback."""
        seed = key_pair().seed
        home.save("jwt", user_jwt=SECRET, user_seed=seed)
        home.save("user", url=f"nats://u:{SECRET}@h", user="u", password=SECRET)
        for name in ("jwt", "user"):
            context = contexts.load(name, home.environment)
            for thing in (context, home.resolve({"context": name})):
                assert SECRET not in repr(thing)
                assert seed not in repr(thing)
