"""gozo from Python: one object that schedules, cancels and looks.

Requests go to the daemon that leads, which answers each with a receipt. Where none runs, the
bucket is written directly, each write with the revision that it expects: whichever daemon
starts next delivers what is there.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from types import TracebackType
from typing import NoReturn, Self, Unpack

from gozo.client.apply import Applying
from gozo.client.arguments import (
    HeadersLike,
    Past,
    ScheduleOptions,
    When,
    canonical_id,
    check_choice,
    check_past,
    expression,
    requested,
)
from gozo.client.bucket_writes import Writes
from gozo.client.daemon_calls import Daemons
from gozo.client.events import Chronicle, Following
from gozo.client.keys import Keys
from gozo.client.models import (
    Answer,
    Applied,
    BucketInfo,
    Cancelled,
    Change,
    Counts,
    Event,
    HistoryInfo,
    Outcome,
    Replica,
    Rival,
    Schedule,
    Server,
    Stored,
    Wanted,
)
from gozo.client.pull_consumer import Pulling
from gozo.client.reader import Reader
from gozo.client.subscription import Listening
from gozo.client.typed import typed
from gozo.client.watch import Watcher
from gozo.errors import SettingsError, UnusableError
from gozo.protocol.admin import read_note
from gozo.protocol.subject_policy import Policy
from gozo.runtime.clock import wall_us
from gozo.runtime.logs import get_logger
from gozo.runtime.tasks import end
from gozo.schedule.model import Entry
from gozo.settings.model import ConnectionSettings
from gozo.settings.parsers import read_addresses
from gozo.settings.resolve import resolve_connection
from gozo.settings.sources import Sources
from gozo.transport.connection import Connection
from gozo.transport.jetstream import JetStream

log = get_logger("gozo.client")


class Client:
    """A connection to NATS, and gozo's schedules there.

        async with await Client.connect("nats://localhost:4222") as client:
            await client.schedule("reminders", b"tea is ready", when=timedelta(minutes=3))

    A moment is an aware datetime, a delay a timedelta, counted from when the request is taken;
    a text is an expression of `Gozo-When`, such as `+1h30m`. Each `timeout` is in seconds. An
    argument of the wrong type is a `TypeError` that names it, a number that cannot be meant (a
    `timeout` of 0) a `ValueError`.

    A lost connection is made again for as long as the client is open. What every call may
    raise: `NoServerError` where nobody answers in time, `DisconnectedError` where there is no
    connection just now, `NotAllowedError` where a permission is missing, `JetStreamError`
    where JetStream is missing or refuses, `ContradictionError` where daemons of different buckets
    have one request subject and answered differently; all are `gozo.errors.GozoError`.
    """

    def __init__(self, connection: Connection, settings: ConnectionSettings) -> None:
        """Use `Client.connect`."""
        policy = Policy(settings.request_subject, api_prefix=settings.js_prefix)
        self.settings = settings
        self._connection = connection
        self._policy = policy
        self._daemons = Daemons(connection, settings, policy)
        keys = Keys(connection, settings.request_subject, settings.bucket)
        self._reader = Reader(connection, settings.bucket, policy, self._daemons.rules, keys)
        self._writes = Writes(self._reader)
        self._chronicle = Chronicle(connection, settings)
        self._applying = Applying(self._reader, self._writes, policy)
        self._keeper = asyncio.create_task(connection.keep(), name="keep the connection")
        self._keeper.add_done_callback(_on_end)

    @classmethod
    @typed
    async def connect(
        cls,
        settings: ConnectionSettings | str | None = None,
        *,
        timeout: float = 3.0,
        name: str = "gozo client",
    ) -> Self:
        """Connect, within `timeout` seconds; `name` is what the server's own tools show.

        A text is an address, or several with commas between them. None means what `gozo serve`
        without options would use: the environment, gozo.env, the user's config.toml,
        and the token of this user's embedded server.

        Raises:
            NoServerError: no server answered.
            NotAllowedError: it refused the credentials, or does not offer TLS that is required.
            UnsuitableServerError: it does not support headers.
            SettingsError: an address, a file of settings or one of certificates cannot be used.
        """
        if settings is None:
            sources = Sources.load({})
            sources.warn(log)
            settings = resolve_connection(sources)
        elif isinstance(settings, str):
            try:
                settings = ConnectionSettings(addresses=read_addresses(settings))
            except UnusableError as error:
                raise SettingsError(f"the address {error}") from None
        connection = Connection(settings, name)
        await connection.open(timeout)
        return cls(connection, settings)

    async def close(self) -> None:
        """Close the connection; iterators of this client end with `DisconnectedError`."""
        await end(self._keeper)
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def server(self) -> Server:
        """The server that it is, or was last, connected to."""
        info = self._connection.info
        return Server(
            name=str(info.get("server_name", "")),
            version=str(info.get("version", "")),
            address=self._connection.address,
            max_payload=self._connection.max_payload,
        )

    # Change

    @typed
    async def schedule(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        when: When,
        id: str | None = None,  # noqa: A002  # the protocol's word
        headers: HeadersLike = (),
        replace: bool = True,
        protect: bool = False,
        past: Past = "send",
        timeout: float = 5.0,
        **options: Unpack[ScheduleOptions],
    ) -> Stored:
        """Have `payload` sent to `subject` when the time comes; returns once that is stored.

        `headers` are passed on; the message has `Gozo-Due` besides. With `confirm` the delivery
        counts only once a stream has acknowledged it, and is tried again until then, or
        `attempts` times; 0 is without end.

        A schedule that recurs (`@every 90s`, `@daily`, `0 2 * * mon-fri`) needs an id. A cron
        expression names times in `time_zone`, an IANA name, or UTC. It is not due before
        `start` nor after `until`, and `count` times at most; 0 is without end. `jitter` is the
        longest delay that is added each time. `misfire` (`once`, `all` or `skip`) says what
        becomes of occurrences that were missed, which is later than `misfire_grace`: a text of
        seconds or a duration, or a timedelta.

        `replace=False` never asks the daemon but writes to
        the bucket itself, demanding that there is nothing under the id: so it is safe against
        every other writer, and needs the right to write there. Only this method creates the
        bucket.

        A moment that has passed is sent at once, as the protocol has it; with `past="refuse"`
        one that passed more than ten seconds ago is refused (`invalid_when`).

        With `protect`, which is written to the bucket as well, requests on the request subject
        can neither replace nor cancel it; the other methods can, and this one with `protect`.

        Raises:
            RequestError: it was refused; `code` (a `gozo.errors.Refusal`) says why.
            ExistsError: with `replace=False`, there is a schedule with this id.
            UnansweredError: it may or may not be stored. With an id it is safe to ask again;
                with `replace=False` the second attempt may then find the first.
        """
        check_past(when, past, wall_us())
        entry = self._requested(subject, payload, when, id, headers, options, protect)
        if replace and not protect and await self._daemons.hear():
            stored = await self._daemons.send(
                entry, payload, options, receipt=True, timeout=timeout
            )
            assert stored is not None
            return stored
        return await self._writes.store(entry, payload, replace=replace, timeout=timeout)

    @typed
    async def cancel(self, *ids: str, timeout: float = 5.0) -> builtins.list[Cancelled]:
        """Cancel schedules; returns what became of each, in the order given.

        `cancelled` is final. `already_delivered` is known for ten minutes after it, by daemons
        that ran then; afterwards, and where no daemon runs, for some seconds.

        Raises:
            RequestError: an id is none, or a cancel was refused (`unavailable`).
            UnansweredError: it is unknown which were cancelled; it is safe to ask again.
        """
        checked = [canonical_id(id_) for id_ in ids]
        answers = await self._daemons.cancel(checked, timeout=timeout)
        if answers is None:
            answers = await self._writes.cancel(checked, timeout=timeout)
        return answers

    @typed
    async def reschedule(
        self,
        id: str,  # noqa: A002  # the protocol's word
        when: When,
        *,
        past: Past = "send",
        timeout: float = 5.0,
    ) -> Stored:
        """Give a schedule another due time, and keep the rest; `replaced` is always true.

        `past` is as for `schedule`.

        Raises:
            NotFoundError: there is none; `status` is `not_found` or `already_delivered`.
            RequestError: the time is none, or it was refused.
            UnansweredError: it is unknown whether it was done; a moment is safe to ask again.
        """
        id_, text = canonical_id(id), expression(when)
        check_past(when, past, wall_us())
        stored = await self._daemons.reschedule(id_, text, timeout=timeout)
        if stored is None:
            stored = await self._writes.reschedule(id_, text, timeout=timeout)
        return stored

    @typed
    async def pause(self, *ids: str, note: str = "", timeout: float = 5.0) -> builtins.list[Answer]:
        """Keep schedules and do not deliver them, until they are resumed; answers in order.

        The `note`, up to 200 characters, says why; `Schedule.reason` has it. To pause what is
        paused changes nothing, unless there is another note.

        Raises:
            RequestError: an id or the note is none, or it was refused (`unavailable`).
            UnansweredError: it is unknown which were paused; it is safe to ask again.
        """
        checked, note = [canonical_id(id_) for id_ in ids], read_note(note)
        answers = await self._daemons.pause(checked, note, timeout=timeout)
        if answers is None:
            answers = await self._writes.pause(checked, note, timeout=timeout)
        return answers

    @typed
    async def resume(self, *ids: str, timeout: float = 5.0) -> builtins.list[Answer]:
        """Let paused schedules be delivered again; answers in order.

        What fell due meanwhile is a matter of each schedule's misfire policy. To resume what is
        not paused changes nothing.

        Raises:
            RequestError, UnansweredError: as for `pause`.
        """
        checked = [canonical_id(id_) for id_ in ids]
        answers = await self._daemons.resume(checked, timeout=timeout)
        if answers is None:
            answers = await self._writes.resume(checked, timeout=timeout)
        return answers

    @typed
    async def trigger(self, *ids: str, timeout: float = 5.0) -> builtins.list[Answer]:
        """Have schedules delivered now, once, paused ones too, and leave them as they are.

        Answers in order: `triggered` once the server has the message, or a stream where the
        schedule is to be confirmed; it is tried once only.

        Raises:
            NoServerError: no daemon listens.
            RequestError: an id is none, or it was refused.
            UnansweredError: it is unknown which were delivered.
        """
        answers = await self._daemons.trigger([canonical_id(id_) for id_ in ids], timeout=timeout)
        if answers is None:
            raise self._daemons.missing()
        return answers

    @typed
    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        when: When,
        id: str | None = None,  # noqa: A002  # the protocol's word
        headers: HeadersLike = (),
        receipt: bool = False,
        past: Past = "send",
        timeout: float = 5.0,
        **options: Unpack[ScheduleOptions],
    ) -> Stored | None:
        """Send a request to the daemon as any client would, and never touch the bucket.

        Without `receipt` it returns None once the server has the request, and the delivery
        has the headers of the basic protocol; what the daemon refuses then, only its log tells.
        `past` is as for `schedule`.

        Raises:
            NoServerError: no daemon listens.
            RequestError, UnansweredError: as for `schedule`.
        """
        check_past(when, past, wall_us())
        entry = self._requested(subject, payload, when, id, headers, options)
        await self._daemons.require()
        return await self._daemons.send(entry, payload, options, receipt=receipt, timeout=timeout)

    def _requested(
        self,
        subject: str,
        payload: bytes,
        when: When,
        id_: str | None,
        headers: HeadersLike,
        options: ScheduleOptions,
        protect: bool = False,
    ) -> Entry:
        with self._connection.doubting_limits():
            return requested(
                self._policy,
                self._connection.max_payload,
                subject,
                payload,
                when=when,
                id_=id_,
                headers=headers,
                options=options,
                now_us=wall_us(),
                protect=protect,
            )

    @typed
    def check(self, wanted: Wanted) -> None:
        """Make sure that gozo would take a schedule.

        Raises:
            RequestError: it would not; `code` says why.
        """
        self._applying.check(wanted)

    @typed
    async def apply(
        self,
        wanted: Sequence[Wanted],
        *,
        prune: Collection[str] = (),
        dry_run: bool = False,
        past: Past = "refuse",
        timeout: float = 30.0,
    ) -> builtins.list[Applied]:
        """Make schedules be as they are wanted; tells what was done, in the order given.

        What is as it is wanted is left alone: a delay counts from when it was first applied.
        `prune` names sets of which is removed whatever is not wanted. Writes to the bucket
        itself, like `schedule` with `replace=False`; who applies at the same time waits. With
        `dry_run` nothing is changed.

        A moment that has passed is not sent again: where there is no such schedule, it is left
        out. Where there is one that would be sent at once by the change, nothing is done, unless
        with `past="send"`; a dry run tells which (`Applied.at_once`).

        Raises:
            RequestError: one of them would be refused, or sent at once (`invalid_when`); or it
                took so long that another applied in its place (`superseded`), or others do so
                all the time (`busy`).
            ExistsError: one belongs to another set. After these, but for `superseded`, nothing
                was changed.
            UnansweredError: some were applied, and others may not be; it is safe to ask again.
        """
        check_choice(past)
        if dry_run:
            return await self._applying.plan(wanted, prune)
        return await self._applying.apply(wanted, prune, past=past, timeout=timeout)

    # Look

    @typed
    async def get(self, id: str) -> Schedule | None:  # noqa: A002  # the protocol's word
        """Read one schedule, with its payload; None where there is none.

        Raises:
            RequestError: `invalid_id`.
        """
        return await self._reader.get(canonical_id(id))

    @typed
    async def last_outcome(self, id: str) -> Outcome | None:  # noqa: A002  # the protocol's word
        """Tell how the schedule with this id left the bucket, where that is still known.

        Its delete marker tells for some seconds, and the daemon that leads for ten minutes, if it
        followed the bucket then. None where there is a schedule with this id, too.

        Raises:
            RequestError: `invalid_id`.
        """
        id_ = canonical_id(id)
        outcome = await self._reader.last_outcome(id_)
        if outcome is None and (reason := await self._daemons.outcome(id_)) is not None:
            outcome = Outcome("" if reason == "removed" else reason, None)
        return outcome

    @typed
    def list(self, *, subject: str | None = None, prefix: str = "") -> AsyncIterator[Schedule]:
        """Iterate over all schedules, in no order, without payloads.

        `subject` keeps those that are sent to it; `*` and `>` are wildcards, as in NATS. `prefix`
        keeps those whose id begins so. Never creates the bucket: where there is none, there are no
        schedules. Schedules that come or go meanwhile may be in it or not.
        """
        return self._reader.list(subject, prefix)

    async def count(self) -> Counts:
        """Count the schedules in the bucket; 0 where there is no bucket.

        The leader is asked, which knows that without reading anything; where there is none, all
        of them are read.
        """
        return await self._reader.count()

    def watch(self) -> AsyncIterator[Change]:
        """Iterate over all schedules, then over each change, for ever.

        After what was there before comes a `Change` of the kind `current`. A lost connection
        is made good: what changed meanwhile is told once it is back, the last state of each
        key only. Waits for the bucket where there is none.
        """
        return Watcher(self._connection, self._reader).changes()

    @typed
    def listen(
        self,
        subject: str,
        *,
        queue: str | None = None,
        count: int | None = None,
        max_backlog: int | None = None,
    ) -> Listening:
        """Iterate over the messages on a subject; `*` and `>` are wildcards.

        Of all that listen in the same `queue` group, one gets each message. It ends after
        `count` messages, and takes no more than those from others; without it, never. What is
        not read yet waits in memory, `max_backlog` bytes at most where that is given and
        `count` is not: what comes when they are full is dropped, counted and logged.

        Enter it (`async with client.listen("a") as messages`) to be sure that messages sent
        from then on are heard; else it subscribes with the first step.

        Raises:
            RequestError: `invalid_request`, for what is no subject or no name of a group.
        """
        return Listening(
            self._connection, subject, queue=queue, count=count, max_backlog=max_backlog
        )

    @typed
    def pull(self, stream: str, consumer: str, subject: str) -> Pulling:
        """Take messages on a subject from a durable pull consumer of JetStream, one by one.

        Enter it (`async with client.pull("JOBS", "backup", "jobs.backup") as messages`), then
        `take` a message as often as there is something to do it with; each is to be
        acknowledged. Where there is no such consumer, it is created: see `Pulling`.

        Raises:
            RequestError: `invalid_request`, for what is no name or no subject.
        """
        return Pulling(JetStream(self._connection), stream, consumer, subject)

    @typed
    def events(self, id: str | None = None) -> Following:  # noqa: A002  # the protocol's word
        """Iterate over what daemons with `--events` tell from now on, for ever.

        With an `id`, over what they tell of that schedule. Enter it (`async with`) to be sure
        that it hears what is told from then on; else it subscribes with the first step.

        Raises:
            RequestError: `invalid_id`.
        """
        return self._chronicle.follow(None if id is None else canonical_id(id))

    @typed
    def history(
        self,
        id: str | None = None,  # noqa: A002  # the protocol's word
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        kinds: Collection[str] = (),
        subject: str | None = None,
    ) -> AsyncIterator[Event]:
        """Iterate over what is still known of a schedule, or of all, the oldest first.

        What was stored from `since` on and before `until`, by the server's clock. `kinds` are
        those of events, such as `failed`. `subject` keeps the events of schedules that are sent
        to it, of the kinds that name one; `*` and `>` are wildcards, as in NATS. It ends with
        the last event that there was when it began.

        Raises:
            RequestError: `invalid_id`, or `invalid_request` where no event could match.
            NotFoundError: no daemon keeps a history (`gozo serve --history 30d`).
        """
        canonical = None if id is None else canonical_id(id)
        return self._chronicle.past(canonical, since, until, kinds, subject)

    async def history_info(self) -> HistoryInfo | None:
        """Say since when and for how long events are kept; None: no daemon keeps a history."""
        return await self._chronicle.info()

    @typed
    async def replicas(self, *, wait: float = 0.3) -> builtins.list[Replica]:
        """Ask all daemons of this bucket and request subject; hears answers for `wait` seconds."""
        return await self._daemons.replicas(wait)

    @typed
    async def rivals(self, *, wait: float = 0.3) -> builtins.list[Rival]:
        """Return the leaders on the request subject if there are several, with different buckets.

        Each of them stores and delivers every request. Normally the list is empty.
        """
        return await self._daemons.rivals(wait)

    async def has_leader(self) -> bool:
        """Tell whether a daemon takes requests at this moment."""
        return await self._daemons.lead()

    async def bucket(self) -> BucketInfo | None:
        """Describe the bucket; None where there is none."""
        return await self._reader.info()


def _on_end(keeper: asyncio.Task[NoReturn]) -> None:
    error = None if keeper.cancelled() else keeper.exception()
    if error is not None:
        log.error("client.failed", reason=repr(error))
