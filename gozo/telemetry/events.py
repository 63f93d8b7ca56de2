"""Publishes events about schedules on `<request subject>.event.>`.

Each event is a JSON object on `<request subject>.event.<kind>.<key>`, or without the key if the
schedule has no id, so that clients can subscribe to the events of one schedule, or of one kind.
Events are plain messages of core NATS: nothing waits for them, and on a congested link they are
dropped rather than delay a delivery. If the server denies them, that is logged once for each
connection, and publishing is tried again after `DENIED` seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from gozo.errors import DisconnectedError, RequestError
from gozo.protocol.event_kinds import Kind
from gozo.protocol.headers import fields
from gozo.protocol.ids import LONGEST_ID, RESERVED, escape_id, unescape_key
from gozo.runtime.clock import steady, wall_us
from gozo.runtime.logs import get_logger
from gozo.schedule.expression import print_rfc3339
from gozo.schedule.model import MICROSECONDS, Entry, Outgoing, State
from gozo.schedule.outcome import ALERTING, Outcome, Result
from gozo.schedule.recurrence import jitter_us
from gozo.transport.commands import publication
from gozo.transport.connection import Connection
from gozo.transport.permissions import missing_permission

TYPE = "gozo.event.v1"
BACKLOG = 1024 * 1024  # unsent bytes beyond which events are dropped
AT_ONCE = 500  # invalid entries reported before others get a turn
DENIED = 60.0  # seconds without events after the server refused one

_KINDS = {
    Result.SUCCEEDED: Kind.SUCCEEDED,
    Result.SKIPPED: Kind.SKIPPED,
    Result.MISSED: Kind.MISSED,
}
"""The kinds of events for outcomes; `failed` for others."""

log = get_logger("gozo.events")


class Events:
    """The events of one daemon."""

    enabled = True

    def __init__(self, connection: Connection, request_subject: str, name: str) -> None:
        self._connection = connection
        self._prefix = f"{request_subject}.event"
        self._name = name
        self._silent_until = 0.0
        self._complained = False
        """Whether the denial of events was logged for this connection."""
        connection.denial_claims.append(self._takes_denied)
        connection.on_connected.append(self._on_connected)

    def accepted(self, entry: Entry, *, replaced: bool) -> None:
        """A schedule was stored, or is kept in memory; `replaced`: in place of an earlier one."""
        self._publish(
            Kind.ACCEPTED,
            entry.id,
            subject=entry.subject,
            when=entry.when,
            due=print_rfc3339(entry.due_us),
            state=entry.state,
            replaced=replaced,
        )

    def acted(self, kind: Kind, entry: Entry) -> None:
        """An administrator's verb was done; its result has its own event."""
        more: dict[str, object] = {"subject": entry.subject}
        if kind is not Kind.TRIGGERED:
            more["due"] = print_rfc3339(entry.due_us)
        if kind is Kind.RESCHEDULED:
            more["when"] = entry.when
        if kind is Kind.PAUSED:
            more["note"] = entry.reason
        self._publish(kind, entry.id, **more)

    def delivered(self, message: Outgoing) -> None:
        """A message was delivered: the server, or a stream, has it."""
        id_ = dict(fields(message.headers)).get(b"gozo-id")
        due_us = message.due_us
        wanted_us = due_us + (jitter_us(message.entry, due_us) if message.entry else 0)
        self._publish(
            Kind.DELIVERED,
            None if id_ is None else id_.decode("utf-8", "replace"),
            subject=message.subject.decode("utf-8", "replace"),
            due=print_rfc3339(due_us),
            late_ms=max(wall_us() - wanted_us, 0) / 1000,
        )

    def not_delivered(self, entry: Entry) -> None:
        """An attempt failed: published for the last one, and for the first one that is retried.

        All attempts of runs are published.
        """
        given_up = entry.state is State.FAILED
        if given_up or entry.tried == 1 or entry.run is not None:
            self._publish(
                Kind.FAILED if given_up else Kind.RETRYING,
                entry.id,
                subject=entry.subject,
                due=print_rfc3339(entry.due_us),
                attempts=entry.tried,
                reason=entry.reason,
            )

    def started(self, run: Entry) -> None:
        """A receiver was sent an attempt of a run, or has claimed it."""
        self._publish(
            Kind.STARTED,
            run.id,
            subject=run.subject,
            due=print_rfc3339(run.due_us),
            attempt=run.tried + 1,
        )

    def ended(self, outcome: Outcome) -> None:
        """An occurrence that its receiver has to confirm has an outcome."""
        more: dict[str, object] = {
            "subject": outcome.subject,
            "due": print_rfc3339(outcome.due_us),
            "outcome": outcome.result,
            "attempts": outcome.attempt,
            "reason": outcome.reason,
            "host": outcome.host,
            "exit_status": outcome.exit_status,
            "took": None if outcome.took_us is None else outcome.took_us / MICROSECONDS,
            "late": outcome.late,
        }
        self._publish(_KINDS.get(outcome.result, Kind.FAILED), outcome.id, **more)
        if outcome.result in ALERTING:
            self._publish(Kind.ALERT, outcome.id, **more)

    def overdue(self, entry: Entry, due_us: int) -> None:
        """No occurrence of a schedule has succeeded in time since the one due then."""
        for kind in (Kind.OVERDUE, Kind.ALERT):
            self._publish(
                kind,
                entry.id,
                subject=entry.subject,
                due=print_rfc3339(due_us),
                outcome=Kind.OVERDUE,
            )

    def missed(self, id_: str | None, due_us: int) -> None:
        """A schedule, or an occurrence of one, was too late and was skipped."""
        self._publish(Kind.MISSED, id_, due=print_rfc3339(due_us))

    def cancelled(self, key: str) -> None:
        """A schedule was cancelled."""
        self._publish(Kind.CANCELLED, id_of(key))

    def invalid(self, key: str, reason: str) -> None:
        """An entry is invalid, or must not be delivered: it stays in the bucket."""
        self._publish(Kind.INVALID, id_of(key), reason=reason)

    def refused(self, id_: str | None, error: RequestError) -> None:
        """A request was refused, or a verb for one id."""
        self._publish(Kind.REFUSED, id_, error=error.code.value, message=str(error))

    def leads(self) -> None:
        """This daemon leads from now on."""
        self._publish(Kind.LEADER, None)

    def _publish(self, kind: Kind, id_: str | None, **more: object) -> None:
        connection = self._connection
        if steady() < self._silent_until:
            return
        if connection.backlog > BACKLOG:
            log.repeated("warning", "events.dropped", reason="the connection is congested")
            return
        subject = f"{self._prefix}.{kind}"
        if id_ is not None and len(id_.encode("utf-8", "replace")) <= LONGEST_ID:
            subject += f".{_key(id_)}"
        event = {
            "type": f"{TYPE}.{kind}",
            "at": print_rfc3339(wall_us()),
            "daemon": self._name,
            "id": id_,
            **more,
        }
        payload = json.dumps(event).encode()
        try:
            if len(payload) <= connection.max_payload:
                connection.write(publication(subject.encode(), payload))
        except DisconnectedError:
            log.repeated("info", "events.dropped", reason="there is no connection")

    def _takes_denied(self, kind: str, subject: str) -> bool:
        """Publish nothing for a while if the server refuses an event; log that once."""
        if kind != "publish" or not subject.startswith(f"{self._prefix}."):
            return False
        self._silent_until = steady() + DENIED
        if not self._complained:
            self._complained = True
            reason = missing_permission(kind, f"{self._prefix}.>")
            log.error("events.denied", reason=f"{reason}, or omit --events and --history")
        return True

    def _on_connected(self) -> None:
        self._silent_until, self._complained = 0.0, False


class NullEvents:
    """Used when events are off: publishes nothing."""

    enabled = False
    """Checked where a call for each message would cost too much."""

    def accepted(self, entry: Entry, *, replaced: bool) -> None:
        """Publish nothing, like all methods below."""

    def acted(self, kind: Kind, entry: Entry) -> None:
        """An administrator's verb was done."""

    def delivered(self, message: Outgoing) -> None:
        """A message was delivered: the server, or a stream, has it."""

    def not_delivered(self, entry: Entry) -> None:
        """An attempt failed."""

    def started(self, run: Entry) -> None:
        """A receiver was sent an attempt of a run, or has claimed it."""

    def ended(self, outcome: Outcome) -> None:
        """An occurrence that its receiver has to confirm has an outcome."""

    def overdue(self, entry: Entry, due_us: int) -> None:
        """No occurrence of a schedule has succeeded in time."""

    def missed(self, id_: str | None, due_us: int) -> None:
        """A schedule, or an occurrence of one, was skipped."""

    def cancelled(self, key: str) -> None:
        """A schedule was cancelled."""

    def invalid(self, key: str, reason: str) -> None:
        """An entry cannot be served."""

    def refused(self, id_: str | None, error: RequestError) -> None:
        """A request was refused."""

    def leads(self) -> None:
        """This daemon leads from now on."""


EventSink = Events | NullEvents


class Bystander:
    """Publishes others' changes of the bucket, and invalid entries, while its daemon leads.

    So only one of several daemons does. Each new leader also publishes entries that were invalid
    before: the reason may be its own, such as the subjects that it allows.
    """

    def __init__(
        self,
        events: EventSink,
        leads: Callable[[], bool],
    ) -> None:
        self.enabled = events.enabled
        """Whether any event is published: checked before each call."""
        self._events = events
        self._leads = leads
        self._earlier: dict[str, None] = {}
        """Keys of entries that were invalid before this daemon led."""

    def accepted(self, entry: Entry, *, replaced: bool, was_paused: bool) -> None:
        """Others stored a schedule."""
        if self._leads():
            self._events.accepted(entry, replaced=replaced)
            is_paused = entry.state is State.PAUSED
            if is_paused != was_paused:
                self._events.acted(Kind.PAUSED if is_paused else Kind.RESUMED, entry)

    def cancelled(self, key: str) -> None:
        """Others deleted a schedule."""
        if self._leads():
            self._events.cancelled(key)

    def invalid(self, key: str, reason: str) -> None:
        """An entry cannot be served."""
        if self._leads():
            self._events.invalid(key, reason)
        else:
            self._earlier[key] = None

    def tell_earlier(self, invalid: Mapping[str, tuple[int, str]]) -> None:
        """Publish some of the earlier invalid entries that are still invalid, each once.

        `invalid` has their revisions and reasons, by key.
        """
        for _ in range(min(AT_ONCE, len(self._earlier))):
            key, _ = self._earlier.popitem()
            if key in invalid:
                self._events.invalid(key, invalid[key][1])


def id_of(key: str) -> str | None:
    """Return the id of the schedule under a key of the bucket; None if it has no id."""
    if key.startswith(RESERVED):
        return None
    try:
        return unescape_key(key)
    except ValueError:
        return key  # the original gozo used ids unescaped


def _key(id_: str) -> str:
    return escape_id(id_.encode("utf-8", "replace").decode())
