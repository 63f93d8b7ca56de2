"""Where a login may go: never to an address that `./gozo.env` chose for another's login."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gozo.errors import SettingsError
from gozo.settings.model import ConnectionSettings
from gozo.settings.resolve import resolve_connection
from gozo.settings.sources import Sources
from tests.support.credentials import key_pair, operator

SECRET = "hunter2-very-secret"  # noqa: S105  # stands for whatever must not be seen
ELSEWHERE = "NATS_ADDRESS=nats://elsewhere.example\n"


class Places:
    """Every source that there is, each empty at first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.command_line: dict[str, str] = {}
        self.environment = {"XDG_CONFIG_HOME": str(folder / "config")}
        self.local = folder / "work" / "gozo.env"
        self.local.parent.mkdir()
        self.system = folder / "etc.env"

    def context(self, **fields: str) -> None:
        """Save the context `prod`."""
        path = self.folder / "config" / "nats" / "context" / "prod.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(fields))

    def defaults(self, text: str) -> None:
        """Save the user's `config.toml`."""
        path = self.folder / "config" / "gozo" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def load(self) -> Sources:
        """Read all of them."""
        return Sources.load(
            self.command_line, self.environment, local=self.local, system=self.system
        )

    def resolve(self) -> ConnectionSettings:
        """Resolve the settings."""
        return resolve_connection(self.load())

    def refused(self, login: str, address: str) -> None:
        """Hold that they are refused, with a sentence that names both sources and no secret."""
        with pytest.raises(SettingsError) as caught:
            self.resolve()
        said = str(caught.value)
        assert f"the credentials from {login}" in said
        assert f"the address from {address}" in said
        assert "./gozo.env as well" in said
        assert SECRET not in said


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Make the sources."""
    return Places(tmp_path)


def logins(folder: Path) -> dict[str, dict[str, str]]:
    """Return a login of each kind, by its variables."""
    for name in ("cert", "key"):
        (folder / name).touch()
    (folder / "creds").write_text(operator().credentials)
    return {
        "token": {"NATS_TOKEN": SECRET},
        "user": {"NATS_USER": "ada", "NATS_PASSWORD": SECRET},
        "nkey": {"NATS_NKEY": key_pair().seed},
        "jwt": {"NATS_JWT": str(folder / "creds")},
        "creds": {"NATS_CREDS": str(folder / "creds")},
        "cert": {"NATS_CERT": str(folder / "cert"), "NATS_KEY": str(folder / "key")},
    }


KINDS = ("token", "user", "nkey", "jwt", "creds", "cert")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["command line", "environment", "system"])
def test_a_login_from_elsewhere(kind: str, source: str, places: Places) -> None:
    """Whatever kind it is, and whether it ranks above `./gozo.env` or below."""
    login = logins(places.folder)[kind]
    places.local.write_text(ELSEWHERE)
    names = list(login)
    if source == "command line":
        option = {"creds": "jwt"}.get(kind, kind)
        given = [option] if len(login) == 1 else [n.removeprefix("NATS_").lower() for n in login]
        places.command_line.update(zip(given, login.values(), strict=True))
        names = [f"--{name}" for name in given]
    elif source == "environment":
        places.environment |= login
    else:
        places.system.write_text("".join(f"{n}='{text}'\n" for n, text in login.items()))
        names = [f"{name} in {places.system}" for name in names]
    places.refused(" and ".join(names), f"NATS_ADDRESS in {places.local}")
    places.local.write_text("")
    assert places.resolve().addresses == ("nats://localhost:4222",)


@pytest.mark.parametrize("kind", KINDS)
def test_a_login_beside_the_address(kind: str, places: Places) -> None:
    """What stands in `./gozo.env` together belongs together, before a login of elsewhere."""
    login = logins(places.folder)[kind]
    lines = "".join(f"{name}='{text}'\n" for name, text in login.items())
    places.local.write_text(ELSEWHERE + lines)
    if kind != "cert":
        places.system.write_text("NATS_TOKEN=another\n")
    assert places.resolve().addresses == ("nats://elsewhere.example:4222",)


def test_half_a_login_beside_the_address(places: Places) -> None:
    """A user's name there does not draw the password of the environment to it."""
    places.local.write_text(ELSEWHERE + "NATS_USER=ada\n")
    places.environment["NATS_PASSWORD"] = SECRET
    places.refused("NATS_PASSWORD", f"NATS_ADDRESS in {places.local}")


@pytest.mark.parametrize(
    ("address", "login"),
    [
        ("environment", "system"),
        ("environment", "local"),
        ("command line", "local"),
        ("defaults", "environment"),
        ("defaults", "local"),
        ("system", "environment"),
        ("system", "defaults"),
        ("system", "local"),
        ("none", "environment"),
    ],
)
def test_sources_that_do_not_depend_on_the_directory(
    address: str, login: str, places: Places
) -> None:
    """They are the user's or root's own: each option is from the first that has it, as ever."""
    where, token = {"NATS_ADDRESS": "nats://a.example"}, {"NATS_TOKEN": SECRET}
    for source, values in ((address, where), (login, token)):
        match source:
            case "command line":
                places.command_line["address"] = where["NATS_ADDRESS"]
            case "environment":
                places.environment |= values
            case "defaults" if values is where:
                places.defaults('address = "nats://a.example"\n')
            case "defaults":
                places.defaults('context = "prod"\n')
                places.context(url="nats://a.example", token=SECRET)
            case "local" | "system":
                file = places.local if source == "local" else places.system
                file.write_text("".join(f"{name}={text}\n" for name, text in values.items()))
    found = places.resolve()
    host = "localhost" if address == "none" else "a.example"
    assert found.addresses == (f"nats://{host}:4222",)
    assert found.token == SECRET


@pytest.mark.parametrize("named_in", ["defaults", "local", "environment"])
@pytest.mark.parametrize("login", ["user", "jwt"])
def test_the_login_of_a_context_is_for_its_address(
    named_in: str, login: str, places: Places
) -> None:
    """An address of `./gozo.env` does not get it, wherever the context is named."""
    made = operator()
    if login == "user":
        places.context(url="nats://a.example", user="ada", password=SECRET)
    else:
        token = made.credentials.splitlines()[1]
        places.context(url="nats://a.example", user_jwt=token, user_seed=made.user.seed)
    text = ELSEWHERE
    match named_in:
        case "defaults":
            places.defaults('context = "prod"\n')
        case "local":
            text += "GOZO_CONTEXT=prod\n"
        case "environment":
            places.environment["GOZO_CONTEXT"] = "prod"
    places.local.write_text(text)
    if named_in == "environment":  # a context ranks with the source that names it
        assert places.resolve().addresses == ("nats://a.example:4222",)
    else:
        what = "user in" if login == "user" else "user_jwt in"
        with pytest.raises(SettingsError, match=rf"the credentials from {what}.*NATS_ADDRESS in"):
            places.resolve()
    # Given by the user for this once, an address does.
    places.environment["NATS_ADDRESS"] = "nats://b.example"
    assert places.resolve().addresses == ("nats://b.example:4222",)
    del places.environment["NATS_ADDRESS"]
    places.local.write_text("GOZO_CONTEXT=prod\n")
    assert places.resolve().addresses == ("nats://a.example:4222",)


def test_a_context_that_the_directory_names_gets_no_other_login(places: Places) -> None:
    """It chooses among the user's servers, one of which may be anybody's."""
    places.context(url="nats://demo.example")
    places.local.write_text("GOZO_CONTEXT=prod\n")
    places.environment["NATS_TOKEN"] = SECRET
    with pytest.raises(SettingsError, match=r"NATS_TOKEN are not sent .* which GOZO_CONTEXT in"):
        places.resolve()


class TestOwner:
    """`./gozo.env` counts only where nobody else can have written it."""

    @pytest.mark.parametrize("mode", [0o666, 0o664, 0o602, 0o620])
    def test_others_may_write_it(self, mode: int, places: Places) -> None:
        """It does not count then, and that is said with the cure."""
        places.local.write_text("GOZO_BUCKET=others\n")
        places.local.chmod(mode)
        sources = places.load()
        assert resolve_connection(sources).bucket == "gozo"
        [(name, reason)] = sources.ignored
        assert name == str(places.local)
        assert "chmod go-w" in reason

    @pytest.mark.parametrize("mode", [0o644, 0o600, 0o444])
    def test_others_may_read_it(self, mode: int, places: Places) -> None:
        """That is the user's own business."""
        places.local.write_text("GOZO_BUCKET=own\n")
        places.local.chmod(mode)
        assert places.resolve().bucket == "own"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    @pytest.mark.parametrize("what", ["file", "link", "target", "fifo", "directory"])
    def test_it_is_another_users(self, what: str, places: Places) -> None:
        """Neither the file nor a link to it; and one that is no file keeps nobody waiting."""
        other, local = 65_534, places.local
        match what:
            case "file":
                local.write_text("GOZO_BUCKET=others\n")
            case "link" | "target":
                target = places.folder / "target"
                target.write_text("GOZO_BUCKET=others\n")
                local.symlink_to(target)
                if what == "target":
                    os.chown(target, other, other)
            case "fifo":
                os.mkfifo(local)
            case "directory":
                local.mkdir()
        if what != "target":
            os.chown(local, other, other, follow_symlinks=False)
        sources = places.load()
        assert resolve_connection(sources).bucket == "gozo"
        [(_, reason)] = sources.ignored
        assert "belongs to another user" in reason

    def test_a_fifo_of_ones_own(self, places: Places) -> None:
        """One that nobody writes to is an empty file."""
        os.mkfifo(places.local)
        assert places.resolve().bucket == "gozo"

    def test_one_without_an_end(self, places: Places) -> None:
        """It is not read into memory; a device is everybody's anyway."""
        places.local.write_text("#" * 2_000_000)
        assert "larger than" in places.load().ignored[0][1]
        places.local.unlink()
        places.local.symlink_to("/dev/zero")
        assert "chmod go-w" in places.load().ignored[0][1]


class TestTls:
    """Who names certificates wants TLS."""

    @pytest.mark.parametrize("how", ["ca", "cert", "context", "tls_first"])
    def test_it_is_demanded(self, how: str, places: Places) -> None:
        """Unless the same source says otherwise, or one that goes before it."""
        for name in ("ca", "cert", "key"):
            (places.folder / name).touch()
        ca = str(places.folder / "ca")
        if how == "ca":
            places.environment["NATS_CA"] = ca
        elif how == "cert":
            places.environment |= {
                f"NATS_{name.upper()}": str(places.folder / name) for name in ("cert", "key")
            }
        else:
            places.environment["GOZO_CONTEXT"] = "prod"
            if how == "context":
                places.context(ca=ca)
            else:
                path = places.folder / "config" / "nats" / "context" / "prod.json"
                places.context()
                path.write_text('{"tls_first": true}')
        assert places.resolve().demands_tls
        places.local.write_text("NATS_SECURE=no\n")
        assert places.resolve().demands_tls
        places.environment["NATS_SECURE"] = "no"
        assert not places.resolve().demands_tls

    def test_it_is_not(self, places: Places) -> None:
        """Without any, as ever."""
        assert not places.resolve().demands_tls
        places.environment["NATS_SECURE"] = "yes"
        assert places.resolve().demands_tls
