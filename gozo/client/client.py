"""gozo from Python: one object that schedules, cancels and reads.

Requests go to the leading daemon, which answers each with a receipt. Without a daemon, the
client writes to the bucket itself, each write with an expected revision: the next daemon to
start delivers the schedules stored there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Unpack

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
from gozo.client.client_reads import ClientReads
from gozo.client.client_streams import ClientStreams
from gozo.client.models import Answer, Applied, Cancelled, Stored, Wanted
from gozo.client.typed import typed
from gozo.protocol.admin import read_note
from gozo.runtime.clock import wall_us
from gozo.schedule.model import Entry


class Client(ClientReads, ClientStreams):
    """A connection to NATS, and gozo's schedules there.

        async with await Client.connect("nats://localhost:4222") as client:
            await client.schedule("reminders", b"tea is ready", when=timedelta(minutes=3))

    A moment is an aware datetime; a delay is a timedelta, counted from when the request is
    received; a string is an expression of `Gozo-When`, such as `+1h30m`. Each `timeout` is in
    seconds. An argument of the wrong type raises a `TypeError` that names it, a number out of
    range (a `timeout` of 0) a `ValueError`.

    A lost connection is restored for as long as the client is open. Every call may raise:
    `NoServerError` if no answer came in time, `DisconnectedError` if there is no connection at
    the moment, `NotAllowedError` if a permission is missing, `JetStreamError` if JetStream is
    missing or refused a call, `ContradictionError` if daemons of different buckets share a
    request subject and answered differently; all are `gozo.errors.GozoError`.
    """

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
        """Schedule `payload` for `subject`; returns once that is stored.

        `headers` are passed on; the message also has `Gozo-Due`.

        With `confirm`, a delivery counts only once a stream has acknowledged it (True or
        `stream`) or its receiver has answered (`reply`; `claim`, for those that ask before they
        start), and is retried until then, or `attempts` times; 0 means without limit. The other
        options of `ConfirmOptions` say how.

        A recurring schedule (`@every 90s`, `@daily`, `0 2 * * mon-fri`) needs an id. A cron
        expression names times in `time_zone`, an IANA name; the default is UTC. It is not due
        before `start` nor after `until`, and at most `count` times; 0 means without limit.
        `jitter` is the longest random delay added to each due time. `misfire` says what happens
        to missed occurrences: send one (`once`), every one (`all`) or none (`skip`). An
        occurrence is missed once it is later than `misfire_grace`: seconds or a duration as a
        string, or a timedelta.

        `replace=False` bypasses the daemon and writes to the bucket, provided that there is
        nothing under the id: this is safe against every other writer, and needs permission to
        write there. Only this method creates the bucket.

        A moment in the past is sent at once, as the protocol requires; `past="refuse"` refuses
        one that passed more than ten seconds ago (`invalid_when`).

        `protect` writes to the bucket too; requests on the request subject can then neither
        replace nor cancel the schedule. The other methods can, and so can this one with
        `protect`.

        Raises:
            RequestError: it was refused; `code` (a `gozo.errors.Refusal`) says why.
            ExistsError: with `replace=False`, there already is a schedule with this id.
            UnansweredError: it may or may not be stored. With an id it is safe to try again;
                with `replace=False` the second attempt may then find the first.
        """
        check_past(when, past, wall_us())
        entry = self._requested(subject, payload, when, id, headers, options, protect)
        if replace and not protect and await self._presence.hear():
            stored = await self._daemons.send(
                entry, payload, options, receipt=True, timeout=timeout
            )
            assert stored is not None
            return stored
        return await self._writes.store(entry, payload, replace=replace, timeout=timeout)

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

        Without `receipt` it returns None once the server has the request, and the delivery has
        the headers of the basic protocol; if the daemon refuses the request, only its log says
        so. `past` and the other options are as for `schedule`.

        Raises:
            NoServerError: no daemon listens.
            RequestError, UnansweredError: as for `schedule`.
        """
        check_past(when, past, wall_us())
        entry = self._requested(subject, payload, when, id, headers, options)
        await self._presence.require()
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
    async def cancel(self, *ids: str, timeout: float = 5.0) -> list[Cancelled]:
        """Cancel schedules; returns the result for each, in the order given.

        `cancelled` is final; running work goes on (`Cancelled.running`), and is not tried
        again. `already_delivered` is known for ten minutes, by daemons that ran
        at the time; after that, and without a daemon, for some seconds.

        Raises:
            RequestError: an id is invalid, or a cancel was refused (`unavailable`).
            UnansweredError: it is unknown which were cancelled; it is safe to try again.
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
        """Change the due time of a schedule and keep the rest; `replaced` is always true.

        `past` is as for `schedule`.

        Raises:
            NotFoundError: there is no such schedule; `status` is `not_found` or
                `already_delivered`.
            RequestError: the time is invalid, or the change was refused.
            UnansweredError: the outcome is unknown; with a moment it is safe to try
                again.
        """
        id_, text = canonical_id(id), expression(when)
        check_past(when, past, wall_us())
        stored = await self._daemons.reschedule(id_, text, timeout=timeout)
        if stored is None:
            stored = await self._writes.reschedule(id_, text, timeout=timeout)
        return stored

    @typed
    async def pause(self, *ids: str, note: str = "", timeout: float = 5.0) -> list[Answer]:
        """Stop delivering schedules until they are resumed; results in the order given.

        The `note`, up to 200 characters, says why; `Schedule.reason` has it. Pausing a paused
        schedule changes nothing but the note.

        Raises:
            RequestError: an id or the note is invalid, or it was refused (`unavailable`).
            UnansweredError: it is unknown which were paused; it is safe to try again.
        """
        checked, note = [canonical_id(id_) for id_ in ids], read_note(note)
        answers = await self._daemons.pause(checked, note, timeout=timeout)
        if answers is None:
            answers = await self._writes.pause(checked, note, timeout=timeout)
        return answers

    @typed
    async def resume(self, *ids: str, timeout: float = 5.0) -> list[Answer]:
        """Deliver paused schedules again; results in the order given.

        Each schedule's misfire policy applies to what fell due meanwhile. Resuming a schedule
        that is not paused changes nothing.

        Raises:
            RequestError, UnansweredError: as for `pause`.
        """
        checked = [canonical_id(id_) for id_ in ids]
        answers = await self._daemons.resume(checked, timeout=timeout)
        if answers is None:
            answers = await self._writes.resume(checked, timeout=timeout)
        return answers

    @typed
    async def trigger(self, *ids: str, force: bool = False, timeout: float = 5.0) -> list[Answer]:
        """Deliver schedules now, once, paused ones too, and leave them unchanged.

        Results are in the order given: `triggered` once the server has the message, or a stream
        if the schedule requires confirmation; there is only one attempt. Where the receiver has
        to confirm it (`Gozo-Confirm: reply` or `claim`), a run begins that is tried like any
        other; while another one of the schedule is not settled, this is refused (`running`),
        unless it is forced with `force`.

        Raises:
            NoServerError: no daemon listens.
            RequestError: an id is invalid, or it was refused (`running`, `unavailable`).
            UnansweredError: it is unknown which were delivered.
        """
        checked = [canonical_id(id_) for id_ in ids]
        answers = await self._daemons.trigger(checked, force=force, timeout=timeout)
        if answers is None:
            raise self._presence.missing()
        return answers

    @typed
    def check(self, wanted: Wanted) -> None:
        """Make sure that gozo would accept a schedule.

        Raises:
            RequestError: it would not; `code` says why.
        """
        self._applier.check(wanted)

    @typed
    async def apply(
        self,
        wanted: Sequence[Wanted],
        *,
        prune: Collection[str] = (),
        dry_run: bool = False,
        past: Past = "refuse",
        timeout: float = 30.0,
    ) -> list[Applied]:
        """Create, update and (with `prune`) delete schedules to match; results in order.

        A schedule that already matches is left alone: a delay counts from when it was first
        applied. `prune` names sets; their schedules that are not wanted are deleted. Writes to
        the bucket itself, like `schedule` with `replace=False`; simultaneous calls wait for each
        other. With `dry_run` nothing is changed.

        A moment in the past is not sent again: a missing schedule is skipped. If the change
        would send an existing one at once, nothing is done, unless `past="send"`; a dry run
        reports these (`Applied.at_once`).

        Raises:
            RequestError: one of them would be refused, or sent at once (`invalid_when`); or it
                took so long that another apply took its place (`superseded`), or others are
                applying all the time (`busy`).
            ExistsError: one belongs to another set. After these, except for `superseded`,
                nothing was changed.
            UnansweredError: some were applied, and others may not be; it is safe to try again.
        """
        check_choice(past)
        if dry_run:
            return await self._applier.plan(wanted, prune)
        return await self._applier.apply(wanted, prune, past=past, timeout=timeout)
