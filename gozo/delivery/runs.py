"""Deliveries that their receivers have to confirm: `Gozo-Confirm: reply` and `claim`.

`run_sender` begins runs and makes their attempts, `run_outcomes` acts on answers and on silence,
`run_ends` ends runs, and `answer_inbox` receives answers. `Runs` is the `Source` of runs whose next
attempt is due.
"""

from __future__ import annotations

from collections.abc import Callable

from gozo.delivery.answer_inbox import AnswerInbox
from gozo.delivery.failures import Failures
from gozo.delivery.outcome_recorder import OutcomeRecorder
from gozo.delivery.overdue import OverdueWatch
from gozo.delivery.run_changes import RunChanges
from gozo.delivery.run_ends import RunEnds
from gozo.delivery.run_offers import RunOffers
from gozo.delivery.run_outcomes import RunOutcomes
from gozo.delivery.run_pace import RunPace
from gozo.delivery.run_queue import RunQueue
from gozo.delivery.run_sender import RunSender
from gozo.delivery.run_waits import RunWaits
from gozo.delivery.screening import Screening
from gozo.delivery.settling import Settling
from gozo.delivery.source import Due
from gozo.delivery.wakeup import Wakeup
from gozo.protocol.subject_policy import Policy
from gozo.runtime.clock import steady
from gozo.runtime.clock_watch import ClockWatch
from gozo.schedule.model import Entry, Outgoing
from gozo.schedule.timetable import Item, Timetable
from gozo.store.changes import OnResult, Result
from gozo.store.message_cache import MessageCache
from gozo.store.run_store import RunStore
from gozo.store.traits import Traits
from gozo.telemetry.events import EventSink
from gozo.telemetry.stats import Stats
from gozo.transport.connection import Connection


class Runs:
    """The runs of one bucket, while this replica leads; see `Source`."""

    def __init__(
        self,
        connection: Connection,
        timetable: Timetable,
        cache: MessageCache,
        inbox: AnswerInbox,
        sender: RunSender,
        outcomes: RunOutcomes,
        changes: RunChanges,
        waits: RunWaits,
        overdue: OverdueWatch,
        failures: Failures,
        pace: RunPace,
        renewed_at: Callable[[], float],
        may_act: Callable[[], bool],
    ) -> None:
        """`renewed_at` returns when the lease was last renewed, on the steady clock.

        Answers wait until this replica `may_act`.
        """
        self._timetable = timetable
        self._inbox = inbox
        self._sender = sender
        self._outcomes = outcomes
        self._changes = changes
        self._waits = waits
        self._overdue = overdue
        self._failures = failures
        self._renewed_at = renewed_at
        self._may_act = may_act
        self._pace = pace
        self._is_active = False
        self.pop_due = timetable.pop_due
        self.next_due = timetable.next_due
        self.is_current = timetable.is_current
        self.message = cache.get
        self.deny = sender.deny
        """Notes that the server refused a message to a subject; returns whether it was a run's."""
        self.is_beginning = sender.is_beginning
        connection.on_connected.append(self._begin_hearing)

    @property
    def is_idle(self) -> bool:
        """Whether all runs and outcomes are stored."""
        return not len(self._sender) and not len(self._changes)

    def start(self) -> None:
        """Act on answers, also to messages of earlier leaders."""
        self._is_active = True
        self._begin_hearing()
        self._outcomes.adopt()
        self._inbox.open(self._outcomes.hear, self._may_act)

    def stop(self) -> None:
        """Stop acting on answers."""
        self._is_active = False
        self._pace.clear()
        self._inbox.close()
        self._waits.clear()
        self._sender.clear()
        self._outcomes.clear()
        self._changes.clear()

    def look(self) -> None:
        """Fail attempts without an answer; to be called several times a second.

        No receiver counts as silent while answers cannot arrive.
        """
        self._inbox.pass_on()
        if self._is_active and self._may_act():
            self._overdue.look()
        if self._is_active and not self._inbox.denial:
            self._outcomes.look(steady(), self._renewed_at())

    def end_runs(self, schedule_key: str, then: Callable[[], None]) -> None:
        """Stop retrying the runs of a schedule that this replica has changed or cancelled.

        `then` is called once this, or the version of another leader, is stored.
        """
        self._outcomes.abandon(schedule_key, then)

    def abandon(self, schedule_key: str) -> None:
        """Stop retrying the runs of a schedule that another client has changed or cancelled."""
        if self._is_active:
            self._outcomes.abandon(schedule_key, lambda: None)
        else:
            self._outcomes.note_abandoned(schedule_key)

    def _begin_hearing(self) -> None:
        self._waits.begin_hearing(steady())

    # Sending

    def send(self, due: Due, message: Outgoing, now_us: int) -> None:
        """Begin a run of a due schedule, or make the next attempt of a run.

        Nothing is sent while answers cannot be received: it would be sent again.
        """
        entry = message.entry
        assert entry is not None
        if denial := self._inbox.denial:
            self._failures.postpone(due, denial)
        elif entry.run is None:
            self._sender.begin(due, message, now_us)
        elif entry.run.sent_us:
            self._pace.add(due)
        else:
            self._sender.attempt(due, message, now_us)

    def trigger(
        self, key: str, entry: Entry, payload: bytes, on_result: OnResult, *, force: bool
    ) -> None:
        """Begin a run of the schedule under a key now; see `RunSender.trigger`.

        Raises:
            RequestError: `running`, or `unavailable` if answers cannot be received.
        """
        self._inbox.check()
        if self._is_active:
            self._sender.trigger(key, entry, payload, on_result, force=force)
        else:
            on_result(Result.DROPPED, "")

    # A source

    def sending(self, item: Item, message: Outgoing, now_us: int) -> None:
        """Do nothing."""

    def give_back(self, item: Item, due_us: int | None = None) -> None:
        """Let a run wait again in the timetable."""
        self._timetable.give_back(item if due_us is None else item._replace(due_us=due_us))

    def let_go(self, item: Item) -> None:
        """Do nothing: the timetable knows a later version, or none."""

    def missed(self, item: Item) -> None:
        """Do nothing: the misfire policy does not apply to runs."""

    def delivered(self, item: Item) -> None:
        """Do nothing: a run is settled by its receiver's answer."""

    def failed(self, item: Item, reason: str) -> None:
        """Count a failed attempt."""
        self._outcomes.fail(item.key, reason)

    def expired(self, item: Item) -> None:
        """Do nothing: the age of a run is checked when an attempt is made."""

    def shown(self, item: Item) -> str:
        """Return the name of a run in logs: its key."""
        return item.key


def build_runs(
    connection: Connection,
    timetable: Timetable,
    cache: MessageCache,
    store: RunStore,
    traits: Traits,
    recorder: OutcomeRecorder,
    inbox: AnswerInbox,
    policy: Policy,
    screening: Screening,
    settling: Settling,
    failures: Failures,
    clock: ClockWatch,
    stats: Stats,
    events: EventSink,
    *,
    wakeup: Wakeup,
    may_send: Callable[[], bool],
    renewed_at: Callable[[], float],
    note_sent: Callable[[list[int]], None],
) -> Runs:
    """Build the delivery of runs; see `RunSender` and `Runs` for the last three."""
    changes, waits, index = RunChanges(store), RunWaits(), traits.runs
    overdue = OverdueWatch(traits, timetable, changes, recorder, clock, events)
    ends = RunEnds(index, changes, waits, recorder, clock, stats)
    outcomes = RunOutcomes(connection, policy, index, changes, waits, clock, stats, events, ends)
    offers = RunOffers(timetable)
    clock.on_set.append(lambda by_us: offers.look_again(clock.reading_us()))
    sender = RunSender(
        connection,
        RunQueue(timetable, index, wakeup),
        offers,
        index,
        store,
        waits,
        changes,
        outcomes,
        ends,
        recorder,
        screening,
        settling,
        failures,
        clock,
        stats,
        events,
        prefix=inbox.prefix,
        may_send=may_send,
        note_sent=note_sent,
    )
    pace = RunPace(lambda due, message: sender.attempt(due, message, clock.now_us()), may_send)
    return Runs(
        *(connection, timetable, cache, inbox, sender, outcomes, changes, waits, overdue),
        *(failures, pace),
        renewed_at,
        may_send,
    )
