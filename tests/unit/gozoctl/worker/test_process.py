"""What a command of `gozoctl exec` finds in its environment."""

from __future__ import annotations

import asyncio
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gozo.client import Message
from gozoctl.worker.process import LONGEST_STRING, end_group, environment, fitting, run


def message(*headers: tuple[str, str], subject: str = "jobs") -> Message:
    """Make a message with headers."""
    return Message(subject, b"payload", headers, datetime.now(UTC))


def test_names_are_made_fit() -> None:
    """Upper case, and an underscore for whatever a variable's name cannot hold."""
    found = environment(message(("x-trace.ID=é", "1"), ("a_1", "2")), {})
    assert found == {
        b"GOZO_MESSAGE_SUBJECT": b"jobs",
        b"GOZO_MESSAGE_HEADER_X_TRACE_ID__": b"1",
        b"GOZO_MESSAGE_HEADER_A_1": b"2",
    }


def test_the_first_of_a_name_counts() -> None:
    """Whatever its case, and whether it is written with a dash or an underscore."""
    found = environment(message(("A-b", "1"), ("a-B", "2"), ("a_b", "3"), ("gozo-id", "i")), {})
    assert found[b"GOZO_MESSAGE_HEADER_A_B"] == b"1"
    assert found[b"GOZO_MESSAGE_ID"] == b"i"


def test_values_are_made_fit() -> None:
    """No system takes a zero byte; a line end would forge a line in the output of `env`."""
    found = environment(message(("a", "x\r\nGOZO_MESSAGE_ID=\0y \ud800"), subject="ü\n"), {})
    assert found[b"GOZO_MESSAGE_HEADER_A"] == b"x  GOZO_MESSAGE_ID= y ?"
    assert found[b"GOZO_MESSAGE_SUBJECT"] == "ü ".encode()


def test_what_is_inherited() -> None:
    """Everything, but for what another message said."""
    inherited = {b"PATH": b"/bin", b"GOZO_MESSAGE_ID": b"old", b"GOZO_MESSAGE_HEADER_X": b"old"}
    found = environment(message(), inherited)
    assert found == {b"PATH": b"/bin", b"GOZO_MESSAGE_SUBJECT": b"jobs"}


class TestSize:
    """Variables with which the system would start no command are omitted, and no others."""

    async def test_one_that_is_too_long(self) -> None:
        """The longest that is left starts a command, and one byte more does not."""
        name = b"GOZO_MESSAGE_HEADER_X"
        longest = b"x" * (LONGEST_STRING - len(name) - 2)
        command = ["/bin/true"]
        for value, omitted in ((longest, []), (longest + b"x", [name.decode()])):
            fit, names = fitting({b"PATH": b"/bin", name: value}, command)
            assert names == omitted
            assert fit.keys() == {b"PATH"} | ({name} - {n.encode() for n in names})
            assert (await run(command, fit, b"")).reason == ""
            ended = await run(command, {name: value}, b"")
            assert bool(ended.reason) == bool(omitted)  # it is the system's own bound

    @pytest.mark.parametrize("size", [100, 50_000, 120_000])
    async def test_all_of_them_together(self, size: int) -> None:
        """With the arguments; what is short stays, and so does all that is not of the message."""
        count = 8_000_000 // size
        command = ["/bin/true", "y" * 50_000]
        variables = {b"GOZO_MESSAGE_HEADER_%d" % n: b"x" * size for n in range(count)}
        variables |= {b"GOZO_MESSAGE_SUBJECT": b"jobs", b"OTHER": b"z" * 100_000}
        assert (await run(command, variables, b"")).status == 126
        fit, names = fitting(variables, command)
        assert len(fit) + len(names) == len(variables)
        assert {b"GOZO_MESSAGE_SUBJECT", b"OTHER"} < fit.keys()
        assert (await run(command, fit, b"")).reason == ""
        most = min(os.sysconf("SC_ARG_MAX"), 6 * 1024 * 1024)
        assert sum(map(len, fit.values())) > most * 0.7 - 200_000

    def test_what_fits_is_left_alone(self) -> None:
        """As it is with messages that a stream keeps, whose headers are of 64 KiB at most."""
        found = environment(message(*((f"h{n}", "x" * 1000) for n in range(60))), {})
        assert fitting(found, ["true"]) == (found, [])


async def test_a_group_of_zombies_has_ended() -> None:
    """Nobody may ever reap them, as where PID 1 of a container does not; the test does it last."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("there is no /proc to see zombies in")
    process = subprocess.Popen(["/bin/sh", "-c", "sleep 1000; :"], process_group=0)
    try:
        async with asyncio.timeout(60):
            await end_group(process.pid, kill_after=3600)
    finally:
        process.kill()
        process.wait()
