"""A program that is forked off does what one does that is started in the usual way."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import forking
from tests.support.daemon import GOZO, Daemon
from tests.support.gozoctl import PROGRAM
from tests.support.patience import allow
from tests.support.readme import ROOT
from tests.support.server import free_port

pytestmark = pytest.mark.skipif(not forking.FORKS, reason="nothing is forked here")

WAYS = (subprocess.Popen, forking.start)


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a process."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | more


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("import-crontab", "-"), 0), (("import-crontab", "jobs"), 0), (("config", "color"), 2)],
)
def test_streams_and_exit_code(arguments: tuple[str, ...], code: int, tmp_path: Path) -> None:
    """It has arguments, streams, a directory, variables and a time zone of its own."""
    (tmp_path / "jobs").write_text("0 3 * * * restore\n")
    found = []
    for way in WAYS:
        with way(
            [*PROGRAM, *arguments],
            env=environment(TZ="Asia/Tokyo", HOME=str(tmp_path)),
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            found.append((*process.communicate(b"0 3 * * * backup\n", allow(10)), process.wait()))
    started, forked = found
    assert forked == started
    assert forked[2] == code, forked
    assert (b"Asia/Tokyo" in forked[0]) is (code == 0), forked


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_signals(ending: signal.Signals) -> None:
    """It ends by a signal as any does, in a session of its own, and is waited for."""
    found = []
    for way in WAYS:
        process: subprocess.Popen[Any] = way(
            [*GOZO, "serve", "-a", f"127.0.0.1:{free_port()}", "--connect-timeout", "60"],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        with process:
            assert process.stderr is not None
            assert b"connection.failed" in process.stderr.readline()
            assert process.poll() is None
            assert os.getsid(process.pid) == process.pid
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.01)
            process.send_signal(ending)
            found.append(process.wait(allow(10)))
            process.send_signal(ending)  # to nobody: it has ended
        assert process.poll() == found[-1]
    started, forked = found
    assert forked == started


@pytest.mark.parametrize("name", ["PYTHONUTF8", "LD_PRELOAD", "LC_CTYPE"])
def test_variables_that_come_too_late(name: str) -> None:
    """What is read when Python starts is read: nothing is forked."""
    with forking.start(
        [*GOZO, "--version"], env=environment(**{name: ""}), stdout=subprocess.DEVNULL
    ) as process:
        assert type(process) is subprocess.Popen
        assert process.wait(allow(10)) == 0


def test_a_daemon_is_forked() -> None:
    """That is what all this is for."""
    daemon = Daemon("--version").start()
    try:
        assert isinstance(daemon._process, forking.Forked)
    finally:
        daemon.close()
