"""Mail about commands, by a program that stands in for sendmail."""

from __future__ import annotations

import email
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.policy import default
from pathlib import Path

import pytest

from gozo.client.worker_tables import Job
from gozoctl.worker import mail
from gozoctl.worker.children import Children
from gozoctl.worker.mail import Mailer, find_sendmail, message
from gozoctl.worker.run import Ended

JOB = Job("web1.backup\nBcc: x@y", "s", "x", mailto="ops@example.com, root")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def children() -> AsyncIterator[Children]:
    """Have processes."""
    children = Children()
    yield children
    children.close()


@pytest.fixture
def sendmail(tmp_path: Path) -> Path:
    """Have a program that writes what it gets to a file."""
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/words\ncat > {tmp_path}/mail\n')
    program.chmod(0o755)
    return program


async def test_what_is_mailed(children: Children, sendmail: Path) -> None:
    """Output and failures, to those that the table names and nobody else."""
    mailer = Mailer(children, str(sendmail), "web1")
    quiet = Ended(0, "", NOW, 1.0)
    await mailer.send(JOB, quiet)
    assert not (sendmail.parent / "mail").exists()
    await mailer.send(Job("a", "s", "x", mailto=""), Ended(1, "exit code 1", NOW, 1.0, b"out"))
    assert not (sendmail.parent / "mail").exists()
    await mailer.send(JOB, Ended(3, "exit code 3", NOW, 1.0, b".\nout\xff\n\0", omitted=7))
    assert (sendmail.parent / "words").read_text() == "-i -t\n"
    sent = email.message_from_bytes((sendmail.parent / "mail").read_bytes(), policy=default)
    assert sent["To"] == "ops@example.com, root"
    assert sent["Bcc"] is None
    assert sent["Subject"] == "gozo: web1.backup Bcc: x@y on web1: exit code 3"
    assert sent["Auto-Submitted"] == "auto-generated"
    lines = sent.get_content().splitlines()
    odd = "\N{REPLACEMENT CHARACTER}"
    assert lines == ["[7 bytes before this were omitted]", ".", f"out{odd}", odd]


def test_a_failure_without_output() -> None:
    """It is mailed as well."""
    sent = email.message_from_bytes(message(JOB, Ended(1, "exit code 1", NOW, 1.0), "web1"))
    assert sent.get_payload() == "exit code 1, without output\n"


async def test_a_sendmail_that_fails(
    children: Children, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and nothing else happens."""
    ended = Ended(1, "exit code 1", NOW, 1.0)
    for program in ("/bin/false", str(tmp_path / "none"), None):
        with caplog.at_level(logging.WARNING, "gozo.worker"):
            caplog.clear()
            await Mailer(children, program, "web1").send(JOB, ended)
            assert [record.message for record in caplog.records] == ["mail.failed"]


def test_where_it_is(sendmail: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where cron looks for it first, then on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mail, "SENDMAIL", str(tmp_path / "none"))
    assert find_sendmail() == str(sendmail)
    monkeypatch.setattr(mail, "SENDMAIL", "/bin/true")
    assert find_sendmail() == "/bin/true"
    monkeypatch.setattr(mail, "SENDMAIL", "/none")
    sendmail.unlink()
    assert find_sendmail() is None
