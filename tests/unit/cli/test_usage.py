"""What is mistyped is answered with a sentence that points to the right place."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main
from typer.main import get_group
from typer.testing import CliRunner

from gozo.cli import app as cli
from gozo.cli import usage
from gozo.errors import NoServerError
from gozo.settings.model import ConnectionSettings
from gozo.settings.options import CONNECTION, OUTPUT, SERVE
from gozoctl import app as gozoctl
from gozoctl import session
from tests.support.commands import commands

Run = Callable[..., tuple[int, str]]

CREATE = ("create", "tea", "kitchen")
REPLY = (*CREATE, "--in", "1", "--confirm-reply")

SECURE = "-s is --secure here, and takes no value: give the address with -a, --address or --server"
MISTAKES = [
    (("-s", "nats://user:secret@h:1", "list"), SECURE),
    (("list", "-s", "nats://h:1"), SECURE),
    (("cancel", "-s", "tls://h:1", "tea"), SECURE),
    (("-s", "h:4222", "list"), f"No such command 'h:4222'. If it is an address: {SECURE}"),
    (("lst",), "No such command 'lst'. Did you mean 'list'"),
    (("serve",), "No such command 'serve'. Use 'gozo serve'."),
    (
        ("next", "tea"),
        "invalid EXPR 'tea': error at position 1",
        "; for a stored schedule, use --id tea",
    ),
    (("help", "nothing"), "No such command 'nothing'"),
    (("get", "--bogus"), "No such option: --bogus"),
    (("show",), "Usage: gozoctl show [OPTIONS] ID...", "Missing argument 'ID'"),
    (("exec", "jobs", "backup", "--full"), "No such option: --full: put -- before the command"),
    (
        (*CREATE, "--cron", "TZ=Europe/Berlin 0 2 * * *"),
        "give the zone in --time-zone",
    ),
    ((*CREATE, "--when", "CRON_TZ=UTC 0 2 * * *"), "give the zone in --time-zone"),
    (("next", "CRON_TZ=UTC 0 2 * * *"), "give the zone in --time-zone"),
    ((*CREATE, "--cron", "15~45 * * * *"), "minute '15~45' is a random value", "--jitter"),
    ((*CREATE, "--cron", "H 2 * * *"), "minute 'h' is a random value", "--jitter"),
    ((*CREATE, "--cron", "@reboot"), "invalid --cron '@reboot': gozo does not see"),
    ((*CREATE, "--cron", "nonsense"), "invalid --cron 'nonsense': expected five fields"),
    ((*CREATE, "--cron", "0 25 * * *"), "invalid --cron '0 25 * * *': hour '25' is not"),
    ((*CREATE, "--when", "noon"), "invalid --when 'noon': error at position 1"),
    ((*CREATE, "--when", "60"), "--when '60' has passed", "for 60 seconds from now, use --in 60"),
    ((*CREATE, "--when", "1763871234000"), "may be milliseconds; expected seconds, 1763871234.000"),
    ((*CREATE, "--at", "2020-01-01 10:00"), "--at '2020-01-01 10:00' has passed", "--past-ok"),
    ((*CREATE, "--at", "2020-01-01T10:00:00Z"), "has passed", "--past-ok"),
    (("send", "kitchen", "--when", "1763871234"), "--when '1763871234' has passed"),
    (("reschedule", "tea", "--at", "2020-01-01 10:00"), "has passed", "--past-ok"),
    ((*CREATE, "--in", "99999999999"), "--in '99999999999' is due", "use --yes to confirm"),
    ((*CREATE, "--every", "8000 days"), "--every '8000 days' is due", "use --yes"),
    ((*CREATE, "--cron", "@daily", "--start", "2090-01-01 00:00"), "is due", "use --yes"),
    (("send", "kitchen", "--at", "2099-01-01 10:00"), "use --yes to confirm"),
    (("reschedule", "tea", "--in", "8000d"), "use --yes to confirm"),
    ((*CREATE, "--in", "999999999999999"), "it lies beyond the year 9999; expected less"),
    ((*CREATE, "--at", "tomorow 9am"), "invalid --at 'tomorow 9am': expected 17:30"),
    ((*CREATE, "--at", "tomorrow", "9am"), "quote a time", "--at 'tomorrow 9am'"),
    ((*CREATE, "--in", "5", "minutes"), "quote a time", "--in '5 minutes'"),
    ((*CREATE, "--in", "noon"), "invalid --in 'noon': this is a time: use --at 'noon'"),
    ((*CREATE, "--every", "1y"), "months and years vary in length"),
    ((*CREATE, "--every", "5m", "--start", "x"), "invalid --start 'x': expected 17:30"),
    ((*CREATE, "--every", "5m", "--jitter", "x"), "invalid --jitter 'x': expected seconds (10)"),
    (
        (*CREATE, "--in", "1", "--confirm", "--confirm-claim"),
        "give only one of --confirm, --confirm-reply and --confirm-claim",
    ),
    (
        ("send", "kitchen", "--in", "1", "--wait", "--confirm-reply"),
        "--wait receives the message and does not answer it",
    ),
    (
        (*CREATE, "--in", "1", "--attempts", "3"),
        "--attempts needs --confirm, --confirm-reply or --confirm-claim: add one",
    ),
    (
        ("send", "kitchen", "--in", "1", "--confirm", "--ack-wait", "10"),
        "--ack-wait needs --confirm-reply or --confirm-claim: give one of them",
    ),
    ((*REPLY, "--ack-wait", "0.5s"), "invalid --ack-wait '0.5s': expected 1s or more"),
    ((*REPLY, "--backoff", "1s,x"), "invalid --backoff 'x': expected seconds (10)"),
    ((*REPLY, "--max-age", "-1"), "invalid --max-age '-1': expected seconds"),
    (
        (*REPLY, "--max-age", "0"),
        "invalid --max-age '0': expected more than 0s; without a limit, omit it",
    ),
    ((*REPLY, "--overlap", "no"), "Invalid value for '--overlap': 'no' is not one of 'allow'"),
    ((*REPLY, "--overlap", "skip"), "--overlap is for recurring schedules only: omit it"),
    ((*REPLY, "--dead-letter", ""), "--dead-letter is empty: give a subject, or omit it"),
    (
        (*CREATE, "--in", "1", "--confirm", "--dead-letter", "a"),
        "--dead-letter needs --attempts or --max-age, since it does not recur and --confirm is",
    ),
    ((*REPLY, "--expect", "0.5"), "invalid --expect '0.5': expected 1s or more"),
    ((*CREATE, "--in", "1", "--expect", "1h"), "--expect needs --confirm-reply or --confirm-claim"),
    ((*REPLY, "--ttl", "5m"), "--ttl is for --confirm only: omit it"),
    (
        (*CREATE, "--in", "1", "--confirm", "--ttl", "0.5"),
        "invalid --ttl '0.5': expected whole seconds, 1s or more",
    ),
    (
        (*CREATE, "--at", "noon", "--tz", "europe/berlin"),
        "invalid --time-zone 'europe/berlin': expected",
    ),
    (CREATE, "give the due time with one of --in, --at, --when, --cron and --every"),
    ((*CREATE, "--tz", "Europe/Malta"), "give the due time with one of --in, --at, --when"),
    (("reschedule", "tea"), "give the due time with one of --in, --at and --when"),
    (("next", "@reboot"), "invalid EXPR '@reboot': it is not a time but the start of"),
    ((*CREATE, "--when", "@reboot"), "invalid --when '@reboot': it is not a time but"),
    ((*CREATE, "--in", "1e9"), "invalid --in '1e9': expected seconds (10)"),
    ((*CREATE, "--in", "1,5h"), "invalid --in '1,5h': expected seconds (10)"),
    (("status", "-s", "h.example"), f"argument(s) (h.example). If that is an address: {SECURE}"),
    (("list", "-s", "h:4222"), f"argument(s) (h:4222). If that is an address: {SECURE}"),
    (("list", "--json"), "No such option: --json", "--output json"),
    (("--json", "list"), "No such option: --json", "--output json"),
    (("list", "--due-before", "tomorow"), "invalid --due-before 'tomorow': expected"),
    (("list", "--due-after", "tomorrow"), "invalid --due-after 'tomorrow': add a time of day"),
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run gozoctl in this process until it would connect; return code and what it wrote."""

    async def work(settings: ConnectionSettings, *_: object) -> int:
        raise NoServerError(f"{settings.addresses[0]} does not answer")

    monkeypatch.setattr(session, "_work", work)
    monkeypatch.chdir(tmp_path)
    for option in (*CONNECTION, *OUTPUT):
        for variable in (*option.variables, "XDG_CONFIG_HOME"):
            monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["gozoctl", *arguments])
        code = gozoctl.main()
        captured = capsys.readouterr()
        return code, captured.err + captured.out

    return call


@pytest.mark.parametrize(("arguments", "said"), [(one, said) for one, *said in MISTAKES])
def test_mistake(arguments: tuple[str, ...], said: list[str], run: Run) -> None:
    """It exits 2, and says it without a header of the protocol, or a secret, in the sentence."""
    code, text = run(*arguments)
    text = " ".join(text.split())
    assert code == 2, text
    for words in said:
        assert words in text
    assert "Gozo-" not in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("arguments", "source"),
    [
        (("--output", "xml", "list"), "--output 'xml'"),
        (("list", "--bucket", "a.b"), "--bucket 'a.b'"),
        ((*CREATE, "--in", "1y"), "--in '1y'"),
        ((*CREATE, "--at", "25:00"), "--at '25:00'"),
        ((*CREATE, "--when", "noon"), "--when 'noon'"),
        ((*CREATE, "--cron", "0 0 31 2 *"), "--cron '0 0 31 2 *'"),
        ((*CREATE, "--every", "1ms"), "--every '1ms'"),
        ((*CREATE, "--in", "1", "--until", "@daily"), "--until '@daily'"),
        ((*CREATE, "--cron", "@daily", "--tz", "Mars"), "--time-zone 'Mars'"),
        (("next", "@daily", "--tz", "Mars"), "--time-zone 'Mars'"),
        (("next", "+1x"), "EXPR '+1x'"),
        (("history", "--since", "2999-01-01"), "--since '2999-01-01'"),
        (("history", "--since", "1h", "--until", "2h"), "--until '2h'"),
        (("import-crontab", "-", "--subject", "a b"), "--subject 'a b'"),
        (("config", "set", "bucket", "a.b"), "bucket 'a.b'"),
    ],
)
def test_one_form_of_invalid_values(arguments: tuple[str, ...], source: str, run: Run) -> None:
    """The option or argument and its value come first, as in the messages of `gozo serve`."""
    code, text = run(*arguments)
    assert code == 2
    assert text.startswith(f"gozoctl: invalid {source}: "), text


def test_the_other_program() -> None:
    """A command of the other program is named with it, and no command is forgotten."""
    done = CliRunner().invoke(cli.app, ["status"], prog_name="gozo")
    assert done.exit_code == 2
    assert "No such command 'status'. Use 'gozoctl status'." in done.output
    ours = {"gozo": {*get_group(cli.app).commands}, "gozoctl": {*gozoctl.COMMANDS, "config"}}
    for program, names in ours.items():
        other = ours["gozo" if program == "gozoctl" else "gozoctl"]
        listed = {name for name, of in usage.ELSEWHERE.items() if of == program}
        assert listed == names - other - {"completion", "help"}


@pytest.mark.parametrize(
    "line",
    [
        (*CREATE, "--at", "2020-01-01 10:00", "--past-ok"),
        (*CREATE, "--in", "99999999999", "--yes"),
        (*CREATE, "--at", "tomorrow", "milk"),
        (*CREATE, "--in", "5", "--payload", "minutes"),
        ("get",),
        ("get", "tea", "--payload"),
        ("get", "--subject", "jobs.>"),
        ("show", "tea"),
        ("describe", "tea"),
        ("delete", "tea"),
        ("list", "--due-before", "tomorrow 9am"),
    ],
)
def test_what_is_meant_goes_on(line: tuple[str, ...], run: Run) -> None:
    """Until there is no server: nothing is wrong with the line."""
    assert run(*line)[0] == 5


@pytest.mark.parametrize("app", [cli.app, gozoctl.app], ids=["gozo", "gozoctl"])
def test_only_the_command_that_is_asked_for_is_built(app: typer.Typer) -> None:
    """Building all takes longer than most commands run."""
    root: Any = typer.main.get_command(app)
    context = root.make_context("program", ["help"])
    root.resolve_command(context, ["help"])
    built = [name for name, one in root.commands.data.items() if type(one) is usage.Command]
    assert built == ["help"]
    assert len(root.commands) > 2


def test_other_names_of_options(run: Run) -> None:
    """--server and --creds are --address and --jwt, before the command and after it."""
    for line in (("--server", "127.0.0.1:2", "list"), ("list", "--server", "127.0.0.1:2")):
        assert "nats://127.0.0.1:2 does not answer" in run(*line)[1]
    code, text = run("list", "--creds", "missing.creds")
    assert (code, "'missing.creds'" in text) == (2, True)


def test_a_phrase_is_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is sent; what is written in figures needs no explanation."""
    assert re.match(r"tomorrow 9am is \w{3} .* 09:00:00 ", run(*CREATE, "--at", "tomorrow 9am")[1])
    assert re.match(r"\+3d is .*, in 3d", run(*CREATE, "--at", "+3d")[1])
    assert run(*CREATE, "--in", "3d")[1].startswith("gozoctl: nats://")
    assert run(*CREATE, "-q", "--at", "tomorrow 9am")[1].startswith("gozoctl: nats://")


def test_what_clocks_make_of_a_time_is_shown(run: Run) -> None:
    """Where they leave it out, or show it twice; other times need no explanation."""

    def said(time: str) -> str:
        return run(*CREATE, "--tz", "Europe/Berlin", "--yes", "--at", time)[1]

    assert said("2030-03-31 02:30").startswith("2030-03-31 02:30 is Sun 2030-03-31 03:30:00 CEST")
    assert said("2030-10-27T02:30").startswith("2030-10-27T02:30 is Sun 2030-10-27 02:30:00 CEST")
    for time in ("2030-03-31 03:30", "2030-10-27 03:30", "2030-10-27T02:30:00+01:00"):
        assert said(time).startswith("gozoctl: nats://")


def test_help_of_a_command(run: Run) -> None:
    """`gozoctl help CMD` prints what `gozoctl CMD --help` does."""
    for command in ("create", "ls", "config set", "exec"):
        assert run("help", *command.split()) == run(*command.split(), "--help")
    assert run("help") == run("--help")


TREE = [
    (f"{program} {name}".strip(), command, program)
    for program, app in (("gozo", cli.app), ("gozoctl", gozoctl.app))
    for name, command in commands(app)
]


@pytest.mark.parametrize(("name", "command"), [one[:2] for one in TREE], ids=[t[0] for t in TREE])
def test_help_names_only_options_that_there_are(name: str, command: Any) -> None:
    """Others are named with their program, as in `gozo serve --history`."""
    context = command.make_context(name, [], resilient_parsing=True)
    known = {spelling for one in context.command.params for spelling in one.opts}
    known |= {spelling for one in context.command.params for spelling in one.secondary_opts}
    own = [one for one in context.command.params if one.name not in _SHARED]
    texts = [context.command.help or "", *(one.help or "" for one in own)]
    named = {
        found
        for text in texts
        for found in re.findall(r"(?<![\w-])--[a-z][\w-]*", re.sub(r"`gozo[^`]*`", "", text))
    }
    assert named <= known | {"--help"}


_SHARED = {option.identifier for option in (*CONNECTION, *OUTPUT, *SERVE)}


@pytest.mark.parametrize(("name", "command"), [one[:2] for one in TREE], ids=[t[0] for t in TREE])
def test_usage_and_summary(name: str, command: Any) -> None:
    """No braces in the usage, and whole sentences."""
    context = command.make_context(name, [], resilient_parsing=True)
    usage = context.command.get_usage(context)
    assert "{" not in usage
    for one in context.command.params:
        if one.param_type_name == "argument" and one.nargs == -1:
            assert re.search(r"[A-Z]\]?\.\.\.", usage)
    assert context.command.get_short_help_str().endswith(".")
    assert "..." not in context.command.get_short_help_str()


def test_usage_of_exec(run: Run) -> None:
    """What is run stands after --."""
    assert "gozoctl exec [OPTIONS] SUBJECT -- COMMAND...\n" in run("exec", "--help")[1]
