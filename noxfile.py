"""The tasks of a contributor: `.venv/bin/nox -l` lists them, `.venv/bin/nox -s check` runs one.

They run in the environment that nox is installed in, so that nothing else has to be made first.
What follows `--` goes to pytest: `nox -s unit -- tests/unit/schedule -k cron`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["check", "unit"]

PARALLEL = ("--numprocesses=6", "--dist=worksteal")
"""Most tests wait most of the time; without the second, the last minutes are one worker's."""


def run(session: nox.Session, program: str, *arguments: str) -> None:
    """Run a program of this environment."""
    session.run(str(Path(sys.executable).with_name(program)), *arguments, external=True)


@nox.session
def check(session: nox.Session) -> None:
    """Lint, format, types and imports: seconds."""
    run(session, "ruff", "check")
    run(session, "ruff", "format", "--check")
    run(session, "mypy")
    run(session, "lint-imports", "--no-logo")


@nox.session
def unit(session: nox.Session) -> None:
    """The unit tests, with few examples of each property."""
    run(session, "pytest", *(session.posargs or ["tests/unit"]))


@nox.session
def integration(session: nox.Session) -> None:
    """The integration tests: parts of gozo with a real nats-server."""
    run(session, "pytest", *PARALLEL, *(session.posargs or ["tests/integration"]))


@nox.session
def acceptance(session: nox.Session) -> None:
    """The acceptance tests: gozo and gozoctl as users run them."""
    run(session, "pytest", *PARALLEL, *(session.posargs or ["tests/acceptance"]))


@nox.session(name="all")
def everything(session: nox.Session) -> None:
    """Every test and check, with all examples of each property, as CI runs them."""
    run(session, "pytest", *PARALLEL, "--hypothesis-profile=full", *session.posargs)


@nox.session
def mutation(session: nox.Session) -> None:
    """Change operators of the pure packages, and list what no unit test notices: hours.

    `.venv/bin/pip install -e '.[mutation]'` comes first. Some of it: `nox -s mutation --
    'gozo.schedule.timetable.*'`. `.venv/bin/mutmut show NAME` shows a change.
    """
    run(session, "mutmut", "run", "--max-children=1", *session.posargs)
    run(session, "mutmut", "results")
