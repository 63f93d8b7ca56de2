"""The command line: options reach the daemon, and what happens there becomes an exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated

import pytest
import typer

import gozo
from gozo import __main__
from gozo.cli import app as cli
from gozo.cli.options import takes
from gozo.errors import (
    EmbeddedServerError,
    GozoError,
    NoServerError,
    NotAllowedError,
    SettingsError,
)
from gozo.runtime import signals
from gozo.settings.model import ServeSettings
from gozo.settings.options import CONNECTION, SERVE
from gozoctl.app import app as gozoctl_app
from tests.support.commands import clashes, commands

OPTIONS = CONNECTION + SERVE
SECRET = "hunter2-very-secret"  # noqa: S105  # stands for whatever must not be seen


class Gozo:
    """Runs `gozo` in this process, with a daemon that only notes what it is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.given: list[ServeSettings] = []

    def __call__(self, *arguments: str, serve: Callable[[], Awaitable[None]] | None = None) -> int:
        """Return the exit code; `serve` is what the daemon does."""

        async def note(settings: ServeSettings) -> None:
            self.given.append(settings)
            if serve is not None:
                await serve()

        self._monkeypatch.setattr("gozo.daemon.daemon.serve", note)
        self._monkeypatch.setattr(sys, "argv", ["gozo", *arguments])
        return __main__.main()

    @property
    def settings(self) -> ServeSettings:
        """What the daemon was given last."""
        return self.given[-1]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Gozo]:
    """Run gozo where no setting of this machine is found; logging is as before afterwards."""
    monkeypatch.chdir(tmp_path)
    for variable in ("XDG_CONFIG_HOME", *(v for option in OPTIONS for v in option.variables)):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    root, log = logging.getLogger(), logging.getLogger("gozo")
    before = (root.level, log.level, list(root.handlers))
    yield Gozo(monkeypatch)
    root.setLevel(before[0])
    log.setLevel(before[1])
    root.handlers[:] = before[2]


class TestOptions:
    """What stands on the command line reaches the settings."""

    @pytest.mark.parametrize("command", [[], ["serve"]])
    def test_short_and_long_options_with_and_without_the_command(
        self, command: list[str], run: Gozo, tmp_path: Path
    ) -> None:
        """`gozo` with options means `gozo serve`."""
        for name in ("c", "k", "j"):
            (tmp_path / name).touch()
        short = "-a h:1 -s -t T -u U -p P -c c -k k -j j --store s --embedded --replicas 3"
        long = (
            "--address h:1 --secure --token T --user U --password P --cert c --key k --jwt j "
            "--store=s --embedded --replicas=3"
        )
        for line in (short, long):
            assert run(*command, "--name", "n", *line.split()) == 0
            settings, connection = run.settings, run.settings.connection
            assert connection.addresses == ("nats://h:1",)
            assert (connection.secure, settings.embedded) == (True, True)
            assert (connection.token, connection.user, connection.password) == ("T", "U", "P")
            assert (connection.cert, connection.key) == (Path("c"), Path("k"))
            assert (connection.jwt, settings.store) == (Path("j"), Path("s"))
            assert (settings.name, settings.replicas) == ("n", 3)

    def test_what_follows_the_command_wins(self, run: Gozo) -> None:
        """`gozo -a X serve -a Y` means Y; an empty value after it means X."""
        assert run("--bucket", "before", "--secure", "serve") == 0
        assert run.settings.connection.bucket == "before"
        assert run("--bucket", "before", "--secure", "serve", "--bucket", "after") == 0
        assert (run.settings.connection.bucket, run.settings.connection.secure) == ("after", True)
        assert run("--bucket", "before", "--secure", "serve", "--bucket", "", "--no-secure") == 0
        assert (run.settings.connection.bucket, run.settings.connection.secure) == ("before", False)

    def test_what_repeats_adds_up(self, run: Gozo) -> None:
        """What may be given more than once counts each time, before the command and after."""
        assert run("--deny", "a", "--deny", "b,c", "serve", "--deny", "d", "--allow", ">") == 0
        assert run.settings.deny == ("a", "b", "c", "d")
        assert run.settings.allow == (">",)

    def test_the_environment_and_the_file_are_read(
        self, run: Gozo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The command line wins, an empty value there does not."""
        (tmp_path / "gozo.env").write_text("GOZO_BUCKET=file\nNATS_USER=file\nNATS_PASSWORD=file\n")
        monkeypatch.setenv("NATS_USER", "environment")
        monkeypatch.setenv("NATS_PASSWORD", "environment")
        assert run("-p", "line", "-u", "") == 0
        connection = run.settings.connection
        assert (connection.password, connection.user) == ("line", "environment")
        assert connection.bucket == "file"

    def test_no_command_reuses_a_name_or_a_letter(self) -> None:
        """Typer would not complain: an option means the same wherever it stands."""
        assert clashes(cli.app) == []
        assert clashes(gozoctl_app) == []

    def test_a_command_that_reuses_one_is_found(self) -> None:
        """However deep it lies below the root, by name and by letter."""
        app, group = typer.Typer(), typer.Typer()

        @app.callback()
        @takes(CONNECTION)
        def root(**given: str | bool | None) -> None: ...

        @group.command()
        def deep(
            table: Annotated[bool, typer.Option("-t")] = False,
            bucket: Annotated[str, typer.Option("--bucket")] = "",
            key: Annotated[str, typer.Option("--user", "-k")] = "",
            _free: Annotated[str, typer.Option("--free", "-f")] = "",
        ) -> None: ...

        app.add_typer(group, name="group")
        assert clashes(app) == [
            "group deep: -t is token, not table",
            "group deep: --user is user, not key",
        ]


class TestHelp:
    """`--help` and `--version`."""

    @pytest.mark.parametrize(
        "arguments", [["--help"], ["-h"], ["serve", "-h"], ["serve", "--help"]]
    )
    def test_help_tells_every_option_with_its_variable_and_default(
        self, arguments: list[str], run: Gozo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Also of `gozo` alone; a secret has no default to tell."""
        assert run(*arguments) == 0
        text = re.sub(r"\s+", " ", capsys.readouterr().out)
        for option in OPTIONS:
            assert f"--{option.name}" in text
            default = f"; default: {option.default}" if option.default else ""
            assert f"[{' or '.join(option.variables)}{default}]" in text
            assert not option.letter or f"-{option.letter}, --{option.name}" in text
        assert "completion" not in text
        assert not run.given

    def test_what_stands_in_brackets_is_set_apart_alike(self) -> None:
        """Two spaces before it, whether this program writes it or the library does."""
        told = [
            record[1]
            for app in (cli.app, gozoctl_app)
            for name, command in commands(app)
            for context in [command.make_context(name, [], resilient_parsing=True)]
            for parameter in command.params
            if (record := parameter.get_help_record(context))
        ]
        gaps = {gap for text in told for gap in re.findall(r"\S( +)\[", text)}
        assert gaps == {"  "}

    @pytest.mark.parametrize("arguments", [["--version"], ["-u", "x", "--version"]])
    def test_version(
        self, arguments: list[str], run: Gozo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The same answer wherever it stands, on stdout."""
        assert run(*arguments) == 0
        assert capsys.readouterr().out == f"gozo {gozo.__version__}\n"

    @pytest.mark.parametrize(
        ("option", "spared"),
        [("--version", ("typer", "asyncio", "nats", "uvloop")), ("--help", ("nats", "uvloop"))],
    )
    def test_answers_come_without_importing_what_they_do_not_need(
        self, option: str, spared: tuple[str, ...]
    ) -> None:
        """So they come at once."""
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "gozo", option],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "gozo" in imported
        assert not imported.intersection(spared)
        assert "gozo" in done.stdout


class TestExitCodes:
    """How the process ends."""

    @pytest.mark.parametrize(
        "arguments", [["--no-such-option"], ["nonsense"], ["serve", "nonsense"], ["--user"]]
    )
    def test_usage_errors_end_with_2(
        self, arguments: list[str], run: Gozo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """With a sentence on stderr that says what was not understood."""
        assert run(*arguments) == 2
        captured = capsys.readouterr()
        assert re.search(rf"Error: .*{arguments[-1]}", captured.err)
        assert captured.out == ""
        assert not run.given

    def test_a_bad_value_ends_with_2(
        self, run: Gozo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One line that says what is wrong, and nothing else."""
        monkeypatch.setenv("GOZO_REPLICAS", "9")
        assert run() == 2
        assert re.fullmatch(
            "gozo: invalid GOZO_REPLICAS '9': expected .*\n", capsys.readouterr().err
        )

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (GozoError, 1),
            (EmbeddedServerError, 1),
            (SettingsError, 2),
            (NotAllowedError, 4),
            (NoServerError, 5),
        ],
    )
    def test_errors_on_purpose_end_with_their_code(
        self, error: type[GozoError], code: int, run: Gozo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The message goes to stderr as it is, but for what a terminal would obey."""

        async def serve() -> None:
            raise error("it said \x1b[2J\nand more")

        assert run(serve=serve) == code
        captured = capsys.readouterr()
        assert captured.err == "gozo: it said \\u001b[2J\nand more\n"
        assert captured.out == ""

    def test_an_unexpected_error_ends_with_1_and_a_traceback_without_secrets(
        self, run: Gozo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A bug is logged with all that is needed to find it."""

        async def serve() -> None:
            raise RuntimeError("out of cheese")

        assert run("--password", SECRET, serve=serve) == 1
        text = capsys.readouterr().err
        assert 'error process.failed error="out of cheese"' in text
        assert "in serve" in text
        assert SECRET not in text

    def test_ctrl_c_before_the_daemon_listens_to_it_ends_with_130(
        self, run: Gozo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Without a traceback."""

        async def serve() -> None:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()

        assert run(serve=serve) == 130
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize("with_uvloop", [True, False])
    def test_the_signal_handlers_of_the_daemon_are_in_charge(
        self, with_uvloop: bool, run: Gozo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Once they are installed, on both loops: SIGHUP is never the second, others are."""
        if not with_uvloop:
            monkeypatch.setitem(sys.modules, "uvloop", None)
        taken: list[str] = []
        told: list[tuple[signal.Signals, bool]] = []

        async def serve() -> None:
            taken.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])
            again = asyncio.Event()

            def on_signal(number: signal.Signals, is_again: bool) -> None:
                told.append((number, is_again))
                if is_again:
                    again.set()

            with signals.taken(on_signal):
                for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                    os.kill(os.getpid(), number)
                async with asyncio.timeout(30):
                    await again.wait()

        assert run(serve=serve) == 0
        assert taken == ["uvloop" if with_uvloop else "asyncio"]
        assert told == [(signal.SIGHUP, False), (signal.SIGINT, True)]


@pytest.mark.parametrize(("level", "told"), [("warning", True), ("error", False)])
def test_a_file_that_does_not_count_is_told_in_the_log(
    level: str, told: bool, run: Gozo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the level that was asked for, and once."""
    file = tmp_path / "gozo.env"
    file.write_text("GOZO_BUCKET=others")
    file.chmod(0o666)
    assert run("--log-level", level) == 0
    assert run.settings.connection.bucket == "gozo"
    warnings = capsys.readouterr().err.count("warning settings.ignored file=./gozo.env")
    assert warnings == int(told)
