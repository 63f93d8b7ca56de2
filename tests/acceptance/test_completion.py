"""Completion in real shells: what the screen shows after TAB, and what the line then means."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from completions.__main__ import scripts
from gozo.cli.completion import SHELLS, script
from tests.support.planner import IDS
from tests.support.shells import start_shell

TAB, ENTER = "\t", "\n"

each_shell = pytest.mark.parametrize("shell", SHELLS)


def test_the_scripts_are_those_that_gozo_writes() -> None:
    """`python -m completions` would change nothing."""
    for path, text in scripts().items():
        assert path.read_text("utf-8") == text, f"{path} is old: run python -m completions"


@each_shell
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("gozo ser", "gozo serve"),
        ("gozo -a nats://host:4222 ser", "gozo -a nats://host:4222 serve"),
        ("gozo serve --req", "gozo serve --request-subject"),
        ("gozo serve --log-level de", "gozo serve --log-level debug"),
        ("gozo serve --log-level=de", "gozo serve --log-level=debug"),
        ("gozo --cert pap", "gozo --cert paper.txt"),
        ("gozo --cert=pap", "gozo --cert=paper.txt"),
        ("gozo --store pan", "gozo --store pantry/"),
        ("gozo --store=pan", "gozo --store=pantry/"),
        ("planner cancel backup:d", "planner cancel backup:daily"),
        ("planner -a nats://host:4222 cancel backup:d", "cancel backup:daily"),
        ("planner cancel key=", "planner cancel key=value"),
        ("planner config p", "planner config path"),
    ],
)
def test_one_tab_completes(shell: str, typed: str, completed: str, tmp_path: Path) -> None:
    """Commands, options, their values, files and folders, on the first TAB of a new shell."""
    (tmp_path / "paper.txt").touch()
    (tmp_path / "pantry").mkdir()
    with start_shell(shell, tmp_path) as terminal:
        terminal.press(typed + TAB)
        terminal.shows(lambda screen: re.search(rf"{re.escape(completed)}( |$)", screen))


@each_shell
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("gozo serve --log-level=", ["debug", "info", "warning", "error"]),
        ("planner cancel --output=", ["table", "json", "jsonl"]),
        ("planner cancel -o ", ["table", "json", "jsonl"]),
        ("planner cancel backup:", ["daily", "weekly"]),
        ("planner ", ["cancel", "list", "config"]),
    ],
)
def test_one_tab_lists(shell: str, typed: str, offered: list[str], tmp_path: Path) -> None:
    """Where several values fit, each of them is shown."""
    with start_shell(shell, tmp_path) as terminal:
        terminal.press(typed + TAB)
        # Each apart from what was typed, and none as the beginning of another only.
        terminal.shows(
            lambda screen: all(
                re.search(rf"\b{one}\b", screen.replace(typed, "")) for one in offered
            )
        )


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_descriptions_are_shown(shell: str, tmp_path: Path) -> None:
    """Beside an id, where the shell can show one; a colon in it does no harm."""
    with start_shell(shell, tmp_path) as terminal:
        terminal.press("planner cancel backup:" + TAB)
        terminal.shows("in 3 h")
        terminal.shows("in 2 d: on Sunday")


@each_shell
@pytest.mark.parametrize(
    ("typed", "id_"),
    [
        ("tw", "two words"),
        ("'two", "two words"),
        ('"two w', "two words"),
        ("don", "don't"),
        ("'$", "$(touch stolen)`touch stolen`"),
        (r"\$", "$(touch stolen)`touch stolen`"),
        ("ru", r"run\$(touch stolen)"),
        (r"back\\", 'back\\slash"quote'),
        ("a:b=", "a:b=c:d"),
    ],
)
def test_a_completed_id_is_the_id(shell: str, typed: str, id_: str, tmp_path: Path) -> None:
    """Whatever characters it has: the program gets it as it is, and no part of it is run."""
    assert id_ in IDS
    with start_shell(shell, tmp_path) as terminal:
        terminal.press(f"planner cancel -o json {typed}{TAB}")
        terminal.shows(
            lambda screen: len(screen.rstrip()) > len(f"> planner cancel -o json {typed}")
        )
        terminal.press(ENTER)
        terminal.shows(f"cancelled: [{id_!r}] json")
    assert not (tmp_path / "stolen").exists()


@each_shell
@pytest.mark.parametrize("line", ["gozo --bucket pap", "gozo no-such-command pap"])
def test_nothing_is_offered_where_nothing_is_known(shell: str, line: str, tmp_path: Path) -> None:
    """Neither files for a name, nor anything after an unknown command."""
    (tmp_path / "paper.txt").touch()
    with start_shell(shell, tmp_path) as terminal:
        terminal.press(line + TAB + "X")  # which is read after the completion, whatever it did
        terminal.shows(f"{line}X")


@each_shell
def test_the_script_can_be_had_from_the_program(shell: str, tmp_path: Path) -> None:
    """`_GOZO_COMPLETE=source_bash gozo` prints it, for those without the file."""
    with start_shell("bash", tmp_path) as terminal:
        terminal.press(f"_GOZO_COMPLETE=source_{shell} gozo >script; echo done=$?{ENTER}")
        terminal.shows("done=0")
    assert (tmp_path / "script").read_text("utf-8") == script("gozo", shell)
