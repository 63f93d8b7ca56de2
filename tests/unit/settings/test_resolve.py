"""Settings: every option from every source, what is refused, and what is never shown."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gozo.errors import SettingsError
from gozo.runtime.logs import get_logger
from gozo.settings.credentials import redacted
from gozo.settings.model import ConnectionSettings, ServeSettings
from gozo.settings.options import CONNECTION, SERVE, Option
from gozo.settings.resolve import resolve_connection, resolve_serve
from gozo.settings.sources import File, Sources
from tests.support.credentials import key_pair

OPTIONS = CONNECTION + SERVE
SECRETS = [option for option in OPTIONS if option.is_secret]
ONLY_IN_CONTEXTS = ("js_prefix", "user_jwt", "user_seed", "tls_first")
NAMES = [option.name for option in OPTIONS]
SECRET = "hunter2-very-secret"  # noqa: S105  # stands for whatever must not be seen


def option_named(name: str) -> Option:
    """Return an option of the tables."""
    return next(option for option in OPTIONS if option.name == name)


def resolve(
    command_line: Mapping[str, str | bool | list[str] | None] | None = None,
    environment: Mapping[str, str] | None = None,
    files: Mapping[str, Mapping[str, str]] | None = None,
) -> ServeSettings:
    """Resolve settings from sources that are given here and nowhere else."""
    read = tuple(
        File(name, variables, is_local=name.startswith("./"))
        for name, variables in (files or {}).items()
    )
    return resolve_serve(Sources(command_line or {}, environment or {}, read))


def value_of(settings: ServeSettings, option: Option) -> Any:
    """Return what an option has set."""
    owner = settings.connection if option in CONNECTION else settings
    return getattr(owner, option.field)


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, list[str]]:
    """Four different good texts for each option."""
    made: dict[str, list[str]] = {}
    for name in ("cert", "key", "ca", "jwt"):
        made[name] = [str(tmp_path / f"{name}{number}") for number in range(4)]
        for path in made[name]:
            Path(path).write_text("something")
    folder = tmp_path / "config" / "nats" / "context"
    folder.mkdir(parents=True)
    made["context"] = [f"c{number}" for number in range(4)]
    for name in made["context"]:
        (folder / f"{name}.json").write_text("{}")
    return made | {
        "address": [f"nats://host{number}:1" for number in range(4)],
        "secure": ["yes", "no", "yes", "no"],
        "embedded": ["1", "0", "1", "0"],
        "token": ["t0", "t1", "t2", "t3"],
        "user": ["u0", "u1", "u2", "u3"],
        "password": ["p$0", 'p"1', "p 2", "p#3"],
        "nkey": [key_pair().seed for _ in range(4)],
        "request-subject": ["s.0", "s.1", "s.2", "s.3"],
        "bucket": ["b0", "b1", "b2", "b3"],
        "inbox-prefix": ["_INBOX.a", "b.", "c.d", "_INBOX"],
        "replicas": ["1", "2", "3", "5"],
        "name": ["n0", "n1", "n2", "n3"],
        "max-backlog": ["1KiB", "2kB", "3", "4MiB"],
        "allow": ["a.>,b", "a.*", "c", ">"],
        "allow-answers": ["_INBOX.a.>", "*.b", "c, d", ">"],
        "deny": ["a.>", "*.b", "c, d", "e"],
        "max-pending": ["1", "20", "300", "100000"],
        "max-payload": ["1KiB", "2kB", "3", "4MiB"],
        "max-delay": ["90", "30d", "1h30m", "250ms"],
        "max-rate": ["1", "0.5", "1000", "20000"],
        "min-interval": ["10ms", "1", "5m", "0.25"],
        "max-deliver-rate": ["1", "0.5", "1000", "20000"],
        "connect-timeout": ["1", "2.5", "0.1", "30"],
        "skip-due-before": ["1", "1.5", "@at 2026-12-24T17:00:00Z", "2026-12-24T18:00:00+01:00"],
        "metrics": [":0", "127.0.0.1:1", "[::1]:9464", "host:65535"],
        "metrics-ids": ["backup-*", "a, b", "*", "c?"],
        "events": ["yes", "no", "yes", "no"],
        "history": ["30d", "1s", "12h", "90m"],
        "outcomes": ["30d", "0", "365d", "90m"],
        "log-level": ["debug", "WARNING", "error", "info"],
        "log-format": ["json", "TEXT", "json", "text"],
        "store": ["/s/0", "/s/1", "/s/2", "/s/3"],
    }


class TestSources:
    """Where values come from, and which wins."""

    @pytest.mark.parametrize("name", NAMES)
    def test_the_first_source_with_a_value_wins(
        self, name: str, texts: dict[str, list[str]], tmp_path: Path
    ) -> None:
        """Command line, environment, ./gozo.env, /etc/gozo.env: for every option, in this order.

        Removing the winner leaves the next; an empty value does not win.
        """
        option = option_named(name)
        partner = {"cert": "key", "key": "cert"}.get(name)
        given = {partner: texts[partner][0]} if partner else {}
        for winner in range(4):
            pieces = [text if place >= winner else "" for place, text in enumerate(texts[name])]
            settings = resolve(
                {**given, option.identifier: pieces[0]},
                {option.variable: pieces[1], "XDG_CONFIG_HOME": str(tmp_path / "config")},
                {
                    "./gozo.env": {option.variable: pieces[2]},
                    "/etc/gozo.env": {option.variable: pieces[3]},
                },
            )
            assert value_of(settings, option) == option.read(texts[name][winner])

    @pytest.mark.parametrize("name", NAMES)
    def test_nothing_or_only_empty_values_leave_the_default(self, name: str) -> None:
        """An empty value counts as not set, wherever it stands."""
        option = option_named(name)
        empty = {option.variable: ""}
        settings = resolve({option.identifier: ""}, empty, {"./gozo.env": empty})
        if name == "name":
            assert re.fullmatch(
                re.escape(re.sub(r"[^\w.-]", "-", socket.gethostname())) + "-[0-9a-f]{6}",
                settings.name,
            )
            assert settings.name != resolve().name
        else:
            assert value_of(settings, option) == value_of(resolve(), option)

    def test_a_flag_of_the_command_line_wins_with_no_as_well(self) -> None:
        """`--no-secure` is a value, and not the lack of one."""
        assert not resolve({"secure": False}, {"NATS_SECURE": "1"}).connection.secure
        assert resolve({"secure": None}, {"NATS_SECURE": "1"}).connection.secure

    def test_files_are_read_as_they_are(self, tmp_path: Path) -> None:
        """Quotes, comments, `export`, a byte order mark; a `$` is an ordinary character."""
        file = tmp_path / "gozo.env"
        file.write_bytes(
            b"\xef\xbb\xbf# mine\nexport NATS_USER=me # not you\n"
            b"NATS_PASSWORD='a$HOME${X} # b'\nNATS_TOKEN=x$y\nGOZO_BUCKET=\nGOZO_NAME\n"
        )
        sources = Sources.load({}, {}, local=file, system=tmp_path / "none.env")
        settings = resolve_serve(sources).connection
        assert (settings.user, settings.password) == ("me", "a$HOME${X} # b")
        assert (settings.token, settings.bucket) == ("x$y", "gozo")

    def test_the_files_are_those_of_the_protocol(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`gozo.env` is looked for where gozo is started, and named `./gozo.env`."""
        (tmp_path / "gozo.env").write_text("GOZO_REPLICAS=many\n")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(
            SettingsError, match=r"invalid GOZO_REPLICAS in \./gozo\.env 'many': expected"
        ):
            resolve_serve(Sources.load({}, {}))

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (b"NATS_USER=a\nNATS_TOKEN=\xffhunter2-very-secret\n", 2),
            (b"NATS_USER=a\n\n\nhunter2-very-secret but no value\n", 4),
            (b"NATS_USER=a\nNATS_TOKEN='hunter2-very-secret\n", 2),
        ],
    )
    def test_a_bad_file_is_told_with_the_line(
        self, content: bytes, line: int, tmp_path: Path
    ) -> None:
        """The message names file and line, and never what stands there."""
        file = tmp_path / "gozo.env"
        file.write_bytes(content)
        with pytest.raises(SettingsError) as caught:
            Sources.load({}, {}, local=file)
        assert f"{file}, line {line}:" in str(caught.value)
        assert SECRET not in str(caught.value)

    def test_a_directory_in_the_place_of_a_file_is_told(self, tmp_path: Path) -> None:
        """What cannot be read for another reason than permissions is an error."""
        with pytest.raises(SettingsError, match="cannot be read"):
            Sources.load({}, {}, local=tmp_path)

    def test_a_file_that_may_not_be_read_is_skipped_and_logged(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A warning names it; the other files still count."""
        closed, open_ = tmp_path / "closed.env", tmp_path / "open.env"
        closed.write_text("GOZO_BUCKET=closed")
        open_.write_text("GOZO_BUCKET=open")
        read = Path.read_bytes

        def refuse(path: Path) -> bytes:
            if path == closed:  # the tests may run as root, who may read everything
                raise PermissionError
            return read(path)

        monkeypatch.setattr(Path, "read_bytes", refuse)
        sources = Sources.load({}, {}, local=open_, system=closed)
        assert resolve_serve(sources).connection.bucket == "open"
        sources.warn(get_logger("gozo.test"))
        [record] = caplog.records
        assert record.__dict__["gozo_fields"]["file"] == str(closed)


class TestTables:
    """The tables of options against the settings and the protocol."""

    def test_each_field_has_its_option_and_the_default_that_help_tells(self) -> None:
        """No field without an option, no option without a field, no default told wrongly."""
        for table, settings in ((CONNECTION, ConnectionSettings), (SERVE, ServeSettings)):
            fields = {field.name: field for field in dataclasses.fields(settings)}
            for other in ("connection", *ONLY_IN_CONTEXTS):
                fields.pop(other, None)
            assert sorted(fields) == sorted(option.field for option in table)
            for option in table:
                default = fields[option.field].default
                if default not in (None, (), dataclasses.MISSING):
                    assert option.read(option.default) == default
                assert fields[option.field].repr == (option.conceal is None)

    def test_names_letters_and_variables_are_those_of_the_protocol(self) -> None:
        """Others depend on them: they cannot change."""
        letters = {option.letter: option.name for option in OPTIONS if option.letter}
        assert letters == {
            "a": "address",
            "s": "secure",
            "t": "token",
            "u": "user",
            "p": "password",
            "c": "cert",
            "k": "key",
            "n": "nkey",
            "j": "jwt",
        }
        for option in OPTIONS:
            mine = option.name in letters.values() or option.name == "ca"
            prefix = "NATS" if mine else "GOZO"
            assert option.variable == f"{prefix}_{option.name.upper().replace('-', '_')}"


class TestAddresses:
    """`--address`."""

    @pytest.mark.parametrize(
        ("text", "addresses"),
        [
            ("localhost", ("nats://localhost:4222",)),
            ("nats://a, tls://b:1 ,,c:65535/", ("nats://a:4222", "tls://b:1", "nats://c:65535")),
            ("NATS://a,nats://a:4222", ("nats://a:4222",)),
            ("::1", ("nats://[::1]:4222",)),
            ("tls://[fe80::1%eth0]:5", ("tls://[fe80::1%eth0]:5",)),
            ("nats://u:p@h", ("nats://u:p@h:4222",)),
            ("nats://token@[::1]", ("nats://token@[::1]:4222",)),
            ("u:p@ss@h:5", ("nats://u:p@ss@h:5",)),
        ],
    )
    def test_scheme_and_port_are_filled_in(self, text: str, addresses: tuple[str, ...]) -> None:
        """Lists, IPv6, logins; what is written twice counts once."""
        assert resolve({"address": text}).connection.addresses == addresses

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (",", "expected an address such as"),
            ("ws://h", "WebSockets"),
            ("wss://h", "WebSockets"),
            ("http://h", "unknown scheme"),
            ("nats://", "invalid host; expected"),
            ("h:", "port"),
            ("h:0", "port"),
            ("h:65536", "port"),
            ("h:٣", "port"),
            ("[::1", "invalid host; expected"),
            ("[nonsense]:4222", "invalid host; expected"),
            ("a..b:4222", "invalid host; expected"),
            (f"{'a' * 64}.example", "invalid host; expected"),
            ("h h", "white space"),
            ("h/path", "white space or one of"),
        ],
    )
    def test_what_is_no_address_is_refused(self, text: str, problem: str) -> None:
        """With a sentence that says which part is wrong."""
        with pytest.raises(SettingsError, match=problem):
            resolve({"address": text})

    @given(user=st.text(), password=st.text())
    def test_no_login_is_ever_shown(self, user: str, password: str) -> None:
        """Whatever is in user or password, `redacted` shows none of it."""
        assert redacted(f"nats://{user}:{password}@host:1") == "nats://***@host:1"

    def test_addresses_without_a_login_are_shown_as_they_are(self) -> None:
        """There is nothing to hide in them."""
        for address in ("nats://localhost:4222", "tls://[::1]:4222", "tls://[fe80::1%eth0]:1"):
            assert redacted(address) == address


class TestMetrics:
    """`--metrics`."""

    @pytest.mark.parametrize(
        ("text", "where"),
        [
            ("127.0.0.1:9464", ("127.0.0.1", 9464)),
            ("[::1]:0", ("::1", 0)),
            (":9464", ("", 9464)),
            (" localhost:1 ", ("localhost", 1)),
        ],
    )
    def test_a_host_and_a_port(self, text: str, where: tuple[str, int]) -> None:
        """Both kinds of addresses, names, and none for all of the machine's."""
        assert resolve({"metrics": text}).metrics == where

    @pytest.mark.parametrize(
        "text",
        ["9464", "host", "host:", "h:65536", "::1:5", "a b:1", "[x]:1", "a..b:1", f"{'a' * 64}:1"],
    )
    def test_what_is_none_is_refused(self, text: str) -> None:
        """With an example of what would do."""
        with pytest.raises(SettingsError, match=r"127\.0\.0\.1:9464"):
            resolve({"metrics": text})


class TestSecrets:
    """What must never be seen."""

    @pytest.mark.parametrize(
        "text",
        [
            f"nats://u:{SECRET}@h:x",
            f"nats://u:{SECRET}",
            f"nats://u:{SECRET},x@h:1,nats://h2:p",
            f"u:{SECRET}@h,ws://h",
            f"nats://u:{SECRET}@h ost",
            f"nats://u:{SECRET}/@h",
            f"http://u:{SECRET}@h",
        ],
    )
    def test_a_bad_address_does_not_betray_its_login(self, text: str) -> None:
        """Neither in the value shown nor in what is said of it."""
        with pytest.raises(SettingsError) as caught:
            resolve({"address": text})
        assert SECRET not in str(caught.value)

    @given(text=st.text(min_size=30))
    def test_a_mistyped_seed_is_not_shown(self, text: str) -> None:
        """A value of `--nkey` that is no seed may be one with a typing error."""
        with pytest.raises(SettingsError) as caught:
            resolve({"nkey": text + "/no/such/file"})
        assert text not in str(caught.value)

    def test_a_seed_with_a_wrong_letter_is_refused_and_not_shown(self) -> None:
        """Its checksum tells; the server would only say that it does not know the user."""
        seed = key_pair().seed
        wrong = seed[:20] + ("A" if seed[20] != "A" else "B") + seed[21:]
        with pytest.raises(SettingsError, match="checksum") as caught:
            resolve({"nkey": wrong})
        assert wrong not in str(caught.value)

    def test_secrets_are_in_no_repr(self) -> None:
        """Settings may land in a log or a traceback."""
        seed = key_pair().seed
        values = {option.variable: SECRET for option in SECRETS} | {
            "NATS_NKEY": seed,
            "NATS_ADDRESS": f"nats://u:{SECRET}@h",
        }
        sources = Sources({}, values, (File("./gozo.env", values),))
        for thing in (resolve_serve(sources), resolve_connection(sources), sources):
            assert SECRET not in repr(thing)
            assert seed not in repr(thing)

    def test_secrets_that_are_not_utf_8_are_refused_unseen(self) -> None:
        """NATS has no way to carry them."""
        broken = os.fsdecode(SECRET.encode() + b"\xff")
        for name in ("token", "password", "nkey"):
            with pytest.raises(SettingsError, match="UTF-8") as caught:
                resolve({}, {f"NATS_{name.upper()}": broken})
            assert SECRET not in str(caught.value)


class TestValues:
    """Values that are read, and values that are refused with the cure."""

    @pytest.mark.parametrize("text", ["1", "true", "YES", "On"])
    def test_yes(self, text: str) -> None:
        """These mean yes, in any case."""
        assert resolve({}, {"NATS_SECURE": text}).connection.secure

    @pytest.mark.parametrize("text", ["0", "FALSE", "no", "Off"])
    def test_no(self, text: str) -> None:
        """These mean no: `0` is a value."""
        assert not resolve({}, {"NATS_SECURE": text}).connection.secure

    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("1", 1),
            ("512MiB", 512 * 1024**2),
            ("1 GiB", 1024**3),
            ("64mb", 64 * 1000**2),
            ("1.5kB", 1500),
            ("2T", 2 * 1000**4),
        ],
    )
    def test_sizes(self, text: str, size: int) -> None:
        """Bytes, or units of 1000 and of 1024."""
        assert resolve({"max_backlog": text}).max_backlog == size

    @pytest.mark.parametrize(
        ("text", "us"),
        [("90", 90_000_000), ("+0.5", 500_000), ("1h30m", 5_400_000_000), ("30d", 2592 * 10**9)],
    )
    def test_delays(self, text: str, us: int) -> None:
        """Seconds, or a duration, as in `Gozo-When`."""
        assert resolve({"max_delay": text}).max_delay_us == us

    def test_longest_history(self) -> None:
        """An age that JetStream cannot count is refused before it is asked."""
        assert resolve({"history": "106751d"}).history_us == 106751 * 86_400_000_000
        with pytest.raises(SettingsError, match=r"invalid --history '106752d': .* at most 106751d"):
            resolve({"history": "106752d"})

    def test_repeated(self) -> None:
        """What may be given more than once is the same as with commas."""
        settings = resolve({"allow": ["a.>", "b,c", "a.>"], "deny": []}, {"GOZO_DENY": "x, y"})
        assert settings.allow == ("a.>", "b", "c")
        assert settings.deny == ("x", "y")

    @pytest.mark.parametrize("name", ["allow", "deny"])
    @pytest.mark.parametrize("given", [[""], ["jobs.>", ""], [" "]])
    def test_empty_pattern(self, name: str, given: list[str]) -> None:
        """One of a variable that was not set does not quietly allow what was to be forbidden."""
        with pytest.raises(SettingsError) as failed:
            resolve({name: given}, {f"GOZO_{name.upper()}": "x"})
        assert str(failed.value).startswith(f"invalid --{name} {','.join(given)!r}: ")
        assert "> for all subjects, or omit it" in str(failed.value)
        with pytest.raises(SettingsError):
            resolve({}, {f"GOZO_{name.upper()}": "jobs.>,"})

    def test_most(self) -> None:
        """A number that is too high is told with those that are not."""
        assert resolve({"max_pending": "9" * 15}).max_pending == 10**15 - 1
        with pytest.raises(
            SettingsError, match=r"'1000000000000000': .* from 1 to 999999999999999"
        ):
            resolve({"max_pending": "1" + "0" * 15})

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("secure", "maybe"),
            ("embedded", "2"),
            ("replicas", "0"),
            ("replicas", "6"),
            ("replicas", "three"),
            ("replicas", "٣"),
            ("bucket", "a.b"),
            ("bucket", "a b"),
            ("request-subject", "a.*"),
            ("request-subject", "a.>"),
            ("request-subject", "a..b"),
            ("request-subject", ".a"),
            ("request-subject", "$SYS.x"),
            ("request-subject", "a b"),
            ("request-subject", "a\x0bb"),
            ("request-subject", "a" * 256),
            ("name", "two words"),
            ("name", "bell\x07"),
            ("max-backlog", "0"),
            ("max-backlog", "-1"),
            ("max-backlog", "1 furlong"),
            ("max-backlog", "9" * 400),
            *(("allow", "a..b"), ("allow", "a b"), ("allow", "a.>.b"), ("deny", ", ,")),
            *(("deny", "a*"), ("deny", "a.*b"), ("deny", "a>"), ("allow", "a.**")),
            *(("max-pending", "0"), ("max-pending", "1.5"), ("max-pending", "many")),
            *(("max-payload", "0"), ("max-delay", "0"), ("max-delay", "soon"), ("max-delay", "-1")),
            *(("max-rate", "0"), ("max-rate", "inf"), ("max-rate", "9" * 400)),
            *(("min-interval", "0"), ("min-interval", "-1s"), ("min-interval", "often")),
            *(("max-deliver-rate", "0"), ("max-deliver-rate", "all")),
            ("connect-timeout", "0"),
            ("connect-timeout", "30s"),
            ("connect-timeout", "inf"),
            ("connect-timeout", "1e3"),
            ("connect-timeout", "9" * 400),
            ("skip-due-before", "+10"),
            ("skip-due-before", "yesterday"),
            ("skip-due-before", "9" * 40),
            ("log-level", "loud"),
            ("cert", "/no/such/file"),
            ("jwt", "/"),
            ("store", "~nobody-of-this-name/store"),
        ],
    )
    def test_a_bad_value_is_told_with_its_source_and_the_cure(self, name: str, text: str) -> None:
        """The message has the value, the option or variable, and after a colon what to do."""
        option = option_named(name)
        partner = {"key": text} if name == "cert" else {}
        for command_line, variables, origin in (
            ({option.identifier: text}, {}, f"--{name}"),
            ({}, {option.variable: text}, option.variable),
        ):
            with pytest.raises(SettingsError) as caught:
                resolve({**command_line, **partner}, variables)
            message = str(caught.value)
            assert message.startswith(f"invalid {origin} {text!r}: ")
            assert re.search(r": .*(expected|give|remove|use)", message)

    @given(text=st.text())
    @example(text="3\x1f")  # white space for `strip`, and none for `int` and `float`
    def test_no_text_breaks_the_parsers(self, text: str) -> None:
        """Any text is a value, or a SettingsError; nothing else ever comes out."""
        for option in OPTIONS:
            message = ""
            try:
                option.parse(text, "a test")
            except SettingsError as error:
                message = str(error)
                assert message.startswith("invalid a test ")
            assert message.isprintable()

    @pytest.mark.parametrize(("one", "other"), [("cert", "key"), ("key", "cert")])
    def test_certificate_and_key_go_together(self, one: str, other: str, tmp_path: Path) -> None:
        """One without the other is an error that names both."""
        file = tmp_path / "file.pem"
        file.touch()
        with pytest.raises(SettingsError, match=f"NATS_{one.upper()} is given without --{other}"):
            resolve({}, {f"NATS_{one.upper()}": str(file)})

    def test_a_file_that_may_not_be_read_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At the start, and not when a server asks for it."""
        file = tmp_path / "ca.pem"
        file.touch()
        monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
        with pytest.raises(SettingsError, match="permission denied"):
            resolve({"ca": str(file)})


class TestNkey:
    """`--nkey`: a seed, or a file that holds one."""

    def test_a_seed_stands_for_itself(self) -> None:
        """White space around it, as a file or a shell may leave, does not matter."""
        seed = key_pair().seed
        assert resolve({}, {"NATS_NKEY": f" {seed}\n"}).connection.seed() == seed

    def test_a_file_is_read_when_the_seed_is_needed(self, tmp_path: Path) -> None:
        """So a seed that is exchanged is used at the next connection."""
        file = tmp_path / "user.nk"
        first, second = key_pair().seed, key_pair().seed
        file.write_text(f"-----BEGIN USER NKEY SEED-----\n{first}\n------END------\n")
        settings = resolve({"nkey": str(file)}).connection
        assert settings.seed() == first
        file.write_text(second)
        assert settings.seed() == second
        file.write_text("nothing")
        with pytest.raises(SettingsError, match="does not contain a seed"):
            settings.seed()

    def test_only_seeds_of_users_are_taken(self) -> None:
        """An account's seed cannot log in."""
        account = key_pair(0).seed
        with pytest.raises(SettingsError, match="begins with SU"):
            resolve({"nkey": account})

    def test_without_an_nkey_there_is_no_seed(self) -> None:
        """None, rather than an error."""
        assert resolve().connection.seed() is None
