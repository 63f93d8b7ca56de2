"""The manual pages are those of this version, and every reader of manual pages takes them."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from gozoctl.app import app as gozoctl_app
from man.__main__ import FOLDER, Program, pages
from tests.support import planner
from tests.support.programs import require_program

LINTERS = {
    "mandoc": (["mandoc", "-T", "lint", "-W", "style"], "mandoc"),
    "groff": (["groff", "-man", "-Tutf8", "-ww", "-z"], "groff-base"),
    "man": (["man", "--warnings", "-l", "-Tutf8", "-Z"], "man-db"),
}
"""What reads a page and complains, and the Debian package that has it."""

PLANNER = Program("planner", "1", planner.app, apart=True)


def test_the_pages_are_those_that_are_written() -> None:
    """`python -m man` would change nothing, and no page is left over from another time."""
    found = {path: path.read_text("utf-8") for path in FOLDER.glob("man[0-9]/*")}
    assert found.keys() == pages().keys(), "run python -m man, and remove what it does not write"
    for path, text in pages().items():
        assert found[path] == text, f"{path} is old: run python -m man"


@pytest.mark.parametrize("linter", LINTERS)
@pytest.mark.parametrize("page", sorted(path.name for path in pages()))
def test_nothing_to_complain_of(linter: str, page: str) -> None:
    """Neither an error nor a warning, nor a matter of style."""
    assert complaints(linter, FOLDER / f"man{page[-1]}" / page) == ""


@pytest.mark.parametrize("page", sorted(path.name for path in pages()))
def test_whatis_and_apropos_find_it(page: str) -> None:
    """`lexgrog` reads the name and what it is for from the page."""
    assert f'"{page[:-2]} - ' in lexgrog(FOLDER / f"man{page[-1]}" / page)


def test_a_program_with_commands(tmp_path: Path) -> None:
    """Each command has a page, with what it alone takes; the program's page names them all."""
    texts = {path.name: text for path, text in pages([PLANNER]).items()}
    assert texts.keys() == {
        *("gozo-cron.7", "gozo-protocol.7"),
        *("planner.1", "planner-cancel.1", "planner-config.1", "planner-list.1"),
    }
    assert ".BR planner-cancel (1)\nCancel plans, by their ids.\n" in texts["planner.1"]
    assert "Everything that can be planned, and \\fBmore\\fR." in texts["planner.1"]
    cancel = texts["planner-cancel.1"]
    assert "\\fBplanner cancel\\fR [\\fIoption\\fR]... \\fIID\\fR..." in cancel
    assert "\\fB\\-o\\fR, \\fB\\-\\-output\\fR \\fItable|json|jsonl\\fR" in cancel
    assert "address" not in cancel
    assert ".SS planner config set" in texts["planner-config.1"]
    for name, text in texts.items():
        page = tmp_path / name
        page.write_text(text, encoding="utf-8")
        assert [complaints(linter, page) for linter in LINTERS] == ["", "", ""]
        assert f'"{name[:-2]} - ' in lexgrog(page)


def test_examples_are_commands() -> None:
    """Each command of `gozoctl` in an example exists, with the options that it is given."""
    found = 0
    for page, text in pages().items():
        for example in re.findall(r"^\.EX\n(.*?)^\.EE", text, re.MULTILINE | re.DOTALL):
            for words in commands(example):
                assert mistakes(words) == [], f"{page.name}: {' '.join(words)}"
                found += 1
    assert found > 50


def commands(example: str) -> list[list[str]]:
    """Return the commands of `gozoctl` in an example, without what follows `--` or a pipe."""
    for escape, character in (("\\-", "-"), ("\\(aq", "'"), ("\\(dq", '"'), ("\\e\n", "")):
        example = example.replace(escape, character)
    lines = re.findall(r"^gozoctl (.*?)(?: -- .*| [|>].*)?$", example, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def mistakes(words: list[str]) -> list[str]:
    """Return the words that are neither a command nor one of its options."""
    command: Any = typer.main.get_command(gozoctl_app)
    known = {name for one in command.params for name in one.opts + one.secondary_opts}
    while words and hasattr(command, "commands"):
        if words[0] not in command.commands:
            return words[:1]
        command, *words = command.commands[words[0]], *words[1:]
    known |= {name for one in command.params for name in one.opts + one.secondary_opts}
    return [word for word in words if word.startswith("--") and word.split("=")[0] not in known]


def complaints(linter: str, page: Path) -> str:
    """Return what a linter writes about a page."""
    (program, *options), package = LINTERS[linter]
    done = run([str(require_program(program, package=package)), *options, str(page)])
    return done.stderr + (done.stdout if program == "mandoc" else "")


def lexgrog(page: Path) -> str:
    """Return what `lexgrog`, with which `whatis` and `apropos` are filled, finds in a page."""
    return run([str(require_program("lexgrog", package="man-db")), str(page)]).stdout


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a reader of pages; its exit code says no more than what it writes."""
    return subprocess.run(
        command,
        env={"LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
