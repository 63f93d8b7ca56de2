"""Completion of command lines: the scripts for bash, zsh and fish, and the answers to them.

When TAB is pressed, the script runs the program itself with three variables: `_GOZO_COMPLETE` (for
gozoctl `_GOZOCTL_COMPLETE`) is `complete_` and the shell's name, `_TYPER_COMPLETE_ARGS` is the
command line up to the cursor, and `_TYPER_COMPLETE_WORD_TO_COMPLETE` is the text that bash would
replace. The first line of the answer is what to offer: `values`, `files` or `directories`; the
values follow, one a line. `_GOZO_COMPLETE=source_bash gozo` prints the script.

The variables and verbs are those of Typer. Its own scripts are not used: they break words at `:`
and `=`, do nothing on the first TAB in zsh, and have the shell evaluate the answer, which contains
untrusted ids. Here the shells only read lines.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from typing import Any

import typer

SHELLS = ("bash", "zsh", "fish")

_SCRIPTS = {
    "bash": """\
# Completion of {program} for bash 4.4 or later.

_{program}() {{
    local IFS=$'\\n'
    mapfile -t COMPREPLY < <({variable}=complete_bash \\
        _TYPER_COMPLETE_ARGS="${{COMP_LINE:0:COMP_POINT}}" \\
        _TYPER_COMPLETE_WORD_TO_COMPLETE="$2" "$1" 2>/dev/null </dev/null)
    case ${{COMPREPLY[0]-}} in
        files) compopt -o default ;;
        directories) compopt -o dirnames ;;
    esac
    COMPREPLY=("${{COMPREPLY[@]:1}}")
}}

complete -F _{program} {program}
""",
    "zsh": """\
#compdef {program}
# Completion of {program} for zsh. It may be autoloaded from fpath, or be sourced.

_{program}() {{
    local -a answer values
    answer=("${{(@f)$({variable}=complete_zsh \\
        _TYPER_COMPLETE_ARGS="${{(j: :)words[1,CURRENT-1]}} $QIPREFIX$PREFIX" \\
        $words[1] 2>/dev/null </dev/null)}}")
    [[ $PREFIX == -*=* ]] && compset -P 1 '*='
    case $answer[1] in
        values) values=("${{(@)answer[2,-1]}}") && _describe value values ;;
        files) _files ;;
        directories) _files -/ ;;
    esac
}}

if [[ $funcstack[1] == _{program} ]]; then
    _{program} "$@"
else
    compdef _{program} {program}
fi
""",
    "fish": """\
# Completion of {program} for fish 3.4 or later.

function __{program}_complete
    set -l answer ({variable}=complete_fish \\
        _TYPER_COMPLETE_ARGS=(commandline --cut-at-cursor --current-process | string collect) \\
        {program} 2>/dev/null </dev/null)
    set -l word (commandline --cut-at-cursor --current-token)
    set -l option (string replace --regex -- '^(-[^=]*=)?.*' '$1' "$word")
    set -l path (string replace --regex -- '^-[^=]*=' '' "$word")
    switch "$answer[1]"
        case values
            printf '%s\\n' $answer[2..]
        case files
            printf '%s\\n' $option(__fish_complete_path $path)
        case directories
            printf '%s\\n' $option(__fish_complete_directories $path)
    end
end

complete --command {program} --no-files --arguments '(__{program}_complete)'
""",
}


def script(program: str, shell: str) -> str:
    """Return the completion script of a program for a shell (one of `SHELLS`)."""
    return _SCRIPTS[shell].format(program=program, variable=_variable(program))


def answer(app: typer.Typer, program: str) -> str | None:
    """Return the answer to the shell that runs this process; None if no shell asked."""
    verb, _, shell = os.environ.get(_variable(program), "").partition("_")
    if shell in SHELLS and verb == "source":
        return script(program, shell)
    if shell in SHELLS and verb == "complete":
        line = os.environ.get("_TYPER_COMPLETE_ARGS", "")
        replaced = os.environ.get("_TYPER_COMPLETE_WORD_TO_COMPLETE", "")
        return "".join(f"{one}\n" for one in _offers(app, program, shell, line, replaced))
    return None


def _variable(program: str) -> str:
    return f"_{program.upper()}_COMPLETE"


def _offers(app: typer.Typer, program: str, shell: str, line: str, replaced: str) -> Iterator[str]:
    # Private names of Typer, which is why pyproject.toml bounds its version.
    from typer._click import shell_completion  # noqa: PLC0415  # not needed otherwise

    words, word, quote = _split(line)
    context = shell_completion._resolve_context(  # noqa: SLF001
        typer.main.get_command(app), {}, program, words[1:]
    )
    target, begun = shell_completion._resolve_incomplete(context, words, word)  # noqa: SLF001
    option = word[: len(word) - len(begun)]  # `--output=` if the value is in the same word
    found = [
        (option + item.value, " ".join((item.help or "").split()))
        for item in target.shell_complete(context, begun)
        if item.type == "plain" and item.value.isprintable()
    ]
    yield "values" if found else _kind(target)
    for value, help_ in found:
        match shell:
            case "bash":
                cut = len(word) - len(replaced) if word.endswith(replaced) else 0
                yield from _quoted(value[cut:], quote)
            case "zsh":
                texts = (value.removeprefix(option), help_)
                yield ":".join(re.sub(r"[\\:]", r"\\\g<0>", text) for text in texts if text)
            case _:
                yield f"{value}\t{help_}" if help_ else value


def _kind(target: Any) -> str:
    """Return how to complete a parameter, judging by the name of its value in help texts."""
    names = (getattr(target, "metavar", None) or getattr(target, "type", None)) or ""
    words = re.findall("[A-Z]+", str(getattr(names, "name", names)).upper())
    if "FILE" in words or "PATH" in words:
        return "files"
    return "directories" if "DIRECTORY" in words else "values"


def _split(line: str) -> tuple[list[str], str, str]:
    """Return the complete words of a line, the word at the cursor, and its open quote.

    After a space, the word at the cursor is empty.
    """
    end = "\0"  # cannot occur in a command line
    lexer: Any = shlex.shlex(line + end, posix=True)  # its state, documented, has no type
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    quote = ""
    try:
        words.extend(lexer)
    except ValueError:  # no closing quote
        words.append(lexer.token)
        quote = str(lexer.state)
    *complete, last = words
    return complete, last.removesuffix(end), quote


def _quoted(value: str, quote: str) -> Iterator[str]:
    """Quote a value for bash; skip one that the open quote cannot contain."""
    if not quote:
        yield re.sub(r"""[\s\\'"$`!#&*()\[\]{}|;<>?~^]""", r"\\\g<0>", value)
    elif not set(value) & set("'" if quote == "'" else '"\\$`!'):
        yield value
