"""`python -m man` writes the pages anew, after a change of options, help texts or `source`."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from gozo import __version__
from gozo.cli import app as cli
from gozo.cli import usage
from gozoctl.app import app as gozoctl_app

FOLDER = Path(__file__).parent
DATE = "2026-11-24"  # when `source` was last worked on: it may not change with each run

WIDTH = 78  # columns of the source; mandoc complains beyond 80

VOLUMES = {"1": "User Commands", "7": "Miscellaneous", "8": "System Administration"}
ORDER = (
    *("NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "ARGUMENTS", "OPTIONS"),
    *("EXIT STATUS", "ENVIRONMENT", "FILES", "SIGNALS", "METRICS", "SERVICE", "NOTES"),
    *("EXAMPLES", "SEE ALSO"),
)

Sections = dict[str, str]
"""The sections of a page, in roff, by their titles."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program with a page; with one for each of its commands too, if they stand `apart`."""

    name: str
    section: str
    app: typer.Typer
    apart: bool


PROGRAMS = (
    Program("gozo", "8", cli.app, apart=False),
    Program("gozoctl", "1", gozoctl_app, apart=True),
)


def pages(programs: Iterable[Program] = PROGRAMS) -> dict[Path, str]:
    """Return what each page has to hold."""
    found = {name: _source(name) for name in ("gozo-cron.7", "gozo-protocol.7")}
    for program in programs:
        found |= _pages_of(program)
    return {
        FOLDER / f"man{name[-1]}" / name: _page(name, sections) for name, sections in found.items()
    }


def _pages_of(program: Program) -> dict[str, Sections]:
    name = f"{program.name}.{program.section}"
    command = typer.main.get_command(program.app)
    root = command.make_context(program.name, [], resilient_parsing=True)
    found = {name: _generated(root, program.section, apart=program.apart) | _source(name)}
    if program.apart:
        shared = _source(f"{program.name}-COMMAND.{program.section}")
        for context in _commands(root):
            page = f"{_page_name(context)}.{program.section}"
            found[page] = _generated(context, program.section) | shared | _source(page)
    return {
        page: {title: sections[title] for title in sorted(sections, key=ORDER.index)}
        for page, sections in found.items()
    }


def _generated(context: Any, section: str, *, apart: bool = False) -> Sections:
    help_ = inspect.cleandoc(context.command.help or "")
    summary = help_.partition("\n\n")[0].rstrip(".").replace("`", "")
    arguments, options = _parameters(context)
    listed = [_listed(one, section) if apart else _subsection(one) for one in _commands(context)]
    lines = [context, *([] if apart else _commands(context))]
    if context.parent:
        page = f"{_page_name(context.parent)} ({section})"
        options += ".PP\n" if options else ""
        options += f"The options of\n.BR {page}\nare taken too, before the command or after.\n"
    sections = {
        "NAME": _name(context, summary),
        "SYNOPSIS": ".br\n".join(map(_synopsis, lines)),
        "DESCRIPTION": _prose(help_),
        "COMMANDS": "".join(listed),
        "ARGUMENTS": arguments,
        "OPTIONS": options,
    }
    return {title: text for title, text in sections.items() if text}


def _name(context: Any, summary: str) -> str:
    name, text = _page_name(context), _prose(summary[:1].lower() + summary[1:])
    end = " " if len(f"{name} \\- {text}") <= WIDTH else "\n"
    return f"{name} \\-{end}{text}"


def _listed(context: Any, section: str) -> str:
    summary = (context.command.help or "").partition("\n\n")[0]
    return f".TP\n.BR {_page_name(context)} ({section})\n{_prose(summary)}"


def _subsection(context: Any) -> str:
    return f".SS {_literal(context.command_path)}\n{_prose(context.command.help or '')}" + "".join(
        _parameters(context)
    )


def _commands(context: Any) -> list[Any]:
    commands = getattr(context.command, "commands", {}).values()
    return [
        one.make_context(one.name, [], parent=context, resilient_parsing=True)
        for one in commands
        if not one.hidden
    ]


def _parameters(context: Any) -> tuple[str, str]:
    """Return the arguments and the options, but for those that the commands above take too."""
    above = context.parent.command.get_params(context.parent) if context.parent else []
    known = {spelling for parameter in above for spelling in parameter.opts}
    entries: dict[str, str] = {"argument": "", "option": ""}
    for parameter in context.command.get_params(context):
        if parameter.hidden or known.issuperset(parameter.opts):
            continue
        spellings = sorted([*parameter.opts, *parameter.secondary_opts], key=_is_long)
        names = ", ".join(f"\\fB{_literal(one)}\\fR" for one in spellings)
        value = parameter.make_metavar(context).strip("[]<>.")
        if parameter.param_type_name == "argument":
            names = f"\\fI{_literal(value)}\\fR"
        elif not parameter.is_flag:
            names += f" \\fI{_literal(value)}\\fR"
        record = parameter.get_help_record(context)
        entries[parameter.param_type_name] += f".TP\n{names}\n{_prose(record[1] if record else '')}"
    return entries["argument"], entries["option"]


def _is_long(spelling: str) -> bool:
    return spelling.startswith("--")


def _synopsis(context: Any) -> str:
    words = [f"\\fB{_literal(context.command_path)}\\fR", "[\\fIoption\\fR]..."]
    for parameter in context.command.params:
        if parameter.param_type_name == "argument":
            word = _literal(usage.argument_word(parameter, context))
            words.append(re.sub(r"[A-Z]+", r"\\fI\g<0>\\fR", word))
    if context.parent is None and not getattr(context.command, "invoke_without_command", True):
        words.append("\\fIcommand\\fR ...")
    return " ".join(words) + "\n"


def _page_name(context: Any) -> str:
    return str(context.command_path).replace(" ", "-")


def _prose(text: str) -> str:
    """Turn a help text into roff: paragraphs, a sentence a line, literals and options in bold."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        line = " ".join(paragraph.split())
        parts = re.split(r"`([^`]+)`|((?<![\w-])--?[a-z][\w-]*)", line)
        marked = "".join(
            _escaped(part) if index % 3 == 0 else f"\\fB{_literal(part)}\\fR"
            for index, part in enumerate(parts)
            if part
        )
        sentences = re.split(r"(?<=[.?!]) (?=[A-Z\[])", marked)
        lines = [line for sentence in sentences for line in _wrap(sentence)]
        paragraphs.append("".join(f"{line}\n" for line in lines))
    return ".PP\n".join(paragraphs)


def _wrap(sentence: str) -> list[str]:
    lines = textwrap.wrap(sentence, WIDTH, break_long_words=False, break_on_hyphens=False)
    return [f"\\&{line}" if line.startswith((".", "'")) else line for line in lines]


def _literal(text: str) -> str:
    return _escaped(text).replace("-", "\\-").replace("'", "\\(aq")


def _escaped(text: str) -> str:
    for character, escape in (("\\", "\\e"), ("^", "\\(ha"), ("~", "\\(ti"), ("`", "\\(ga")):
        text = text.replace(character, escape)
    return text


def _source(name: str) -> Sections:
    """Return the sections that are written by hand; none where there is no such file."""
    path = FOLDER / "source" / name
    text = path.read_text("utf-8") if path.exists() else ""
    parts = re.split(r"^\.SH (.+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _page(name: str, sections: Sections) -> str:
    title, _, section = name.rpartition(".")
    head = (
        '.\\" Written by `python -m man` from the command tree and man/source: change those.\n'
        f'.TH {title.upper()} {section} {DATE} "gozo {__version__}" "{VOLUMES[section]}"\n'
    )
    return head + "".join(f".SH {title}\n{text.strip()}\n" for title, text in sections.items())


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
