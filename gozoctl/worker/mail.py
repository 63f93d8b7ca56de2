"""Mails the output of commands, by the sendmail of this host, as cron does."""

from __future__ import annotations

import asyncio
import os
import shutil

from gozo.client.worker_tables import Job
from gozo.runtime.logs import get_logger
from gozoctl.worker import process
from gozoctl.worker.children import Children, Start
from gozoctl.worker.run import Ended

SENDMAIL = "/usr/sbin/sendmail"
TIME = 60.0  # seconds that it may take
PASSED = ("PATH", "HOME")
"""Variables that it gets."""
KEPT = 1024  # bytes of its own output, for the log

log = get_logger("gozo.worker")


def find_sendmail() -> str | None:
    """Return the path of sendmail: where cron looks for it, or on PATH."""
    if os.access(SENDMAIL, os.X_OK):
        return SENDMAIL
    return shutil.which("sendmail")


class Mailer:
    """Mails what commands print, and that they failed."""

    def __init__(self, children: Children, sendmail: str | None, host: str) -> None:
        self._children = children
        self._sendmail = sendmail
        self._host = host

    async def send(self, job: Job, ended: Ended) -> None:
        """Mail the end of a command, unless it succeeded and printed nothing."""
        if not (job.mailto and (ended.output or ended.reason)):
            return
        if self._sendmail is None:
            log.repeated("warning", "mail.failed", id=job.id, reason="there is no sendmail")
            return
        # -i: a dot on a line does not end the message; -t: recipients are in its headers.
        start = Start(
            (self._sendmail, "-i", "-t"),
            {"PATH": os.defpath}
            | {name: os.environ[name] for name in PASSED if name in os.environ},
            "/",
            payload=message(job, ended, self._host),
            keeps=KEPT,
        )
        try:
            child = self._children.start(start)
        except OSError as error:
            log.repeated("error", "mail.failed", id=job.id, reason=error)
            return
        await asyncio.wait([child.exited], timeout=TIME)
        if not child.exited.done():
            await process.end_group(child.pid, 1)
            await child.exited
        await child.close()
        if code := child.exited.result():
            log.error("mail.failed", id=job.id, status=code, reason=child.output)


def message(job: Job, ended: Ended, host: str) -> bytes:
    """Return the message about the end of a command."""
    from email.message import EmailMessage  # noqa: PLC0415  # takes memory that few workers need
    from email.policy import SMTP  # noqa: PLC0415

    what = ended.reason or "succeeded"
    mail = EmailMessage(SMTP.clone(linesep="\n"))
    mail["To"] = job.mailto or ""
    mail["Subject"] = _line(f"gozo: {job.id} on {host}: {what}")
    mail["Auto-Submitted"] = "auto-generated"
    text = ended.output.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    if ended.omitted:
        text = f"[{ended.omitted} bytes before this were omitted]\n{text}"
    mail.set_content(text or f"{what}, without output\n")
    return mail.as_bytes()


def _line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
