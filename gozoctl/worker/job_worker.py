"""The worker of `gozoctl worker`: runs the commands of tables for the messages of their schedules.

It runs only what its own files say, whoever may publish. It starts nothing that it has not claimed,
and repeats its answer until the leader has stored the outcome.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from gozo.errors import GozoError, NoServerError, SettingsError
from gozo.runtime import signals
from gozo.runtime.logs import get_logger
from gozo.runtime.notify_socket import NotifySocket
from gozo.runtime.tasks import end
from gozoctl.exit_codes import DONE, INTERRUPTED
from gozoctl.worker.children import Children
from gozoctl.worker.locks import Locks, lock_folder
from gozoctl.worker.mail import Mailer, find_sendmail
from gozoctl.worker.places import Place, Places
from gozoctl.worker.run import Ended, Runner
from gozoctl.worker.tables import Table, Tables

if TYPE_CHECKING:
    from gozo.client import Client, Message, RunAttempt

QUEUE = "gozo-worker"
CLAIM_TIME = 5.0  # seconds for which a claim is repeated before we look whether to go on
LAST_WORDS = 5.0  # seconds for which an answer is repeated after the second signal
GIVE_BACK_TIME = 2.0  # seconds for which a message is given back; gozo repeats it anyway
HEADERS_SIZE = 4096  # bytes of an answer that are reserved for its headers
MOST_GIVEN_BACK = 1000
"""Messages that are given back at a time; others are ignored, and gozo repeats them."""
HEADERS = ("gozo-id", "gozo-due", "gozo-attempt")

log = get_logger("gozo.worker")


class JobWorker:
    """Works on tables until SIGTERM or SIGINT, and then waits for what runs.

    A second of these signals ends the commands that run, a third kills them. SIGHUP reads the
    files again; what runs keeps its table.
    """

    def __init__(
        self,
        client: Client,
        load: Callable[[], Tables],
        tables: Tables,
        places: Callable[[Callable[[], None]], Places],
        runner: Runner,
        mailer: Mailer,
        notify: NotifySocket,
        host: str,
    ) -> None:
        """`load` reads the files again; `places` makes the room for commands."""
        self._client = client
        self._load = load
        self._tables = tables
        self._places = places(self._follow)
        self._runner = runner
        self._mailer = mailer
        self._notify = notify
        self._host = host
        self._receiving = client.receive(QUEUE, self._on_message)
        self._working: set[asyncio.Task[None]] = set()
        """What has begun and is not answered or mailed yet."""
        self._given_back: set[asyncio.Task[None]] = set()
        self._running: dict[str, dict[str, object]] = {}
        self._ending = asyncio.Event()
        self._interrupted = False

    async def run(self) -> int:
        """Work until the end; return the exit code.

        Raises:
            GozoError: messages cannot be received.
        """
        service = self._client.announce(QUEUE, "runs the commands of schedules", self._describe)
        loop = asyncio.get_running_loop()
        with signals.taken(self._on_signal):
            loop.add_signal_handler(signal.SIGHUP, self._reload)
            self._follow()
            await self._receiving.joined()
            self._notify.send(["READY=1"])
            log.info(
                "worker.ready",
                host=self._host,
                files=",".join(self._tables.files),
                jobs=len(self._tables),
            )
            try:
                await self._ending.wait()
                await self._wait_for_all()
            finally:
                service.stop()
                await end(*self._working, *self._given_back)
        log.info("worker.stopped", host=self._host)
        return INTERRUPTED if self._interrupted else DONE

    async def _wait_for_all(self) -> None:
        while self._working:
            await asyncio.wait(self._working)
        if self._given_back:
            await asyncio.wait(self._given_back)

    def _on_signal(self, number: signal.Signals, again: bool) -> None:
        if not self._ending.is_set():
            log.info("worker.stopping", signal=number.name, running=len(self._running))
            self._notify.send(["STOPPING=1"])
            self._ending.set()
            self._follow()
        elif again:
            self._interrupted = True
            self._runner.interrupt()
            for task in self._working - self._busy():
                task.cancel()  # waits for an answer, which nobody may ever give

    def _busy(self) -> set[asyncio.Task[None]]:
        """The tasks whose commands run."""
        return {task for task in self._working if task.get_name() in self._running}

    def _reload(self) -> None:
        try:
            tables = self._load()
        except (SettingsError, OSError) as error:
            log.repeated("error", "worker.not_reloaded", reason=error)
            return
        self._tables = tables
        self._follow()
        log.info("worker.reloaded", jobs=len(tables))

    def _follow(self) -> None:
        """Be a member of the queue group where there is work and room for it."""
        if self._ending.is_set():
            self._receiving.follow(())
        else:
            self._receiving.follow(self._tables.subjects(self._places.full))

    def _describe(self) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        settings = self._client.settings
        metadata = {
            "host": self._host,
            "files": ", ".join(self._tables.files),
            "bucket": settings.bucket,
            "request_subject": settings.request_subject,
            "jobs": str(len(self._tables)),
            "running": str(len(self._running)),
        }
        return metadata, {"running": list(self._running.values())}

    # One message

    def _on_message(self, message: Message) -> None:
        attempt = self._client.attempt_of(message)
        if attempt is None:
            reason = 'its reply subject is not one of gozo\'s: the schedule needs confirm = "claim"'
            log.limited("warning", "message.ignored", subject=message.subject, reason=reason)
            return
        found = {name: value for name in HEADERS if (value := _header(message, name)) is not None}
        table = self._tables.find(message.subject, found.get("gozo-id"))
        place = None
        if table is None:
            log.limited(
                "warning",
                "message.unknown",
                id=found.get("gozo-id"),
                subject=message.subject,
                reason="no table of this worker has this subject and id: given back",
            )
        elif any(task.get_name() == message.reply for task in self._working):
            return  # offered again while it is claimed here
        elif not self._ending.is_set():
            place = self._places.take(table)
        if place is None:
            if len(self._given_back) < MOST_GIVEN_BACK:
                self._begin(self._given_back, _give_back(attempt), "give back")
            return
        about: dict[str, object] = {
            "id": place.table.job.id,
            "host": self._host,
            "due": found.get("gozo-due"),
            "attempt": found.get("gozo-attempt"),
        }
        self._begin(self._working, self._do(place, attempt, about), attempt.message.reply)

    def _begin(
        self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None], name: str
    ) -> None:
        task = asyncio.create_task(work, name=name)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(_look)

    async def _do(self, place: Place, attempt: RunAttempt, about: dict[str, object]) -> None:
        """Claim an attempt, run its command, and answer how that ended."""
        with place:
            if not await self._claim(attempt):
                return
            name = attempt.message.reply
            self._running[name] = about
            try:
                async with attempt.kept():
                    ended = await self._runner.run(place, attempt.message.payload, about)
            finally:
                del self._running[name]
        if place.table.job.mailto:
            self._begin(self._working, self._mailer.send(place.table.job, ended), "mail")
        await self._tell(place.table, attempt, ended)

    async def _claim(self, attempt: RunAttempt) -> bool:
        """Ask until the leader says whether to start, which it may have granted already."""
        while True:
            try:
                return await attempt.claim(CLAIM_TIME)
            except NoServerError as error:
                log.repeated("warning", "claim.unanswered", reason=error)
                if self._ending.is_set():
                    return False

    async def _tell(self, table: Table, attempt: RunAttempt, ended: Ended) -> None:
        from gozo.client import Report  # noqa: PLC0415  # not needed for --help

        room = self._client.server.max_payload - HEADERS_SIZE
        report = Report(
            ended.status,
            self._host,
            ended.started,
            ended.seconds,
            ended.last_output(room) if table.job.keep_output else b"",
        )
        try:
            async with asyncio.timeout(LAST_WORDS if self._interrupted else None):
                if ended.reason:
                    await attempt.nak(ended.reason, report)
                else:
                    await attempt.ack(report)
        except (TimeoutError, asyncio.CancelledError):  # the worker ends: nothing comes after this
            reason = "no daemon has confirmed the answer"
            log.limited("error", "job.unanswered", id=table.job.id, reason=reason)


async def work_on(client: Client, load: Callable[[], Tables], host: str) -> int:
    """Work on the tables that `load` reads; return the exit code.

    Raises:
        GozoError: as for `JobWorker.run`.
        SettingsError: the files contain mistakes, or there can be no locks.
    """
    tables = load()
    if not tables:
        log.warning("worker.idle", host=host, reason="no table is for this host")
    sendmail = find_sendmail()
    if tables.mailed and sendmail is None:
        log.warning("mail.unavailable", reason="there is no sendmail: nothing is mailed")
    locks = Locks(lock_folder(), client.settings.request_subject, client.settings.bucket)
    children = Children()
    try:
        worker = JobWorker(
            client,
            load,
            tables,
            partial(Places, locks),
            Runner(children, os.environ),
            Mailer(children, sendmail, host),
            NotifySocket(os.environ),
            host,
        )
        return await worker.run()
    finally:
        children.close()


async def _give_back(attempt: RunAttempt) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(GIVE_BACK_TIME):
            await attempt.give_back()


def _look(task: asyncio.Task[None]) -> None:
    """Log it if a task failed: such as a permission that is missing."""
    if task.cancelled():
        return
    error = task.exception()
    if isinstance(error, GozoError):
        log.repeated("error", "job.unanswered", reason=error)
    elif error is not None:
        log.error("task.failed", task=task.get_name(), error=repr(error))


def _header(message: Message, name: str) -> str | None:
    """Return a header of a message; of several with one name, the first counts."""
    return next((value for key, value in message.headers if key.lower() == name), None)
