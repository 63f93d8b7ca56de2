"""The states of a run: an occurrence that its receiver has to confirm. Pure.

pending    recorded, or offered to receivers that claim before they start
running    sent, without a final answer yet
retrying   an attempt failed, or nobody took it: the next one is at `next_us`
failed     given up, and kept
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from gozo.schedule import expression as grammar
from gozo.schedule.model import (
    LONGEST_WAIT_US,
    MICROSECONDS,
    NEVER,
    Confirm,
    Entry,
    Overlap,
    Run,
    State,
)
from gozo.schedule.outcome import NO_WORK, Outcome, Result, Work
from gozo.schedule.recurrence import due_times, jitter_us
from gozo.schedule.retry import given_up, shortened, spread_us

MOST_RUNS = 100
"""Maximum number of runs of one schedule; further occurrences are skipped."""

KEPT_TOKENS = 4
"""How many reply subjects are remembered, to recognize late answers."""

FIRST_WAIT_US = MICROSECONDS
"""The wait before the next attempt doubles each time, unless `Gozo-Backoff` is given."""

UNANSWERED = "no answer came in time"
UNCLAIMED = "nobody claimed it in time"
TOO_LATE = "it was too late to try it"
"""Reasons why a run was given up."""

FIRST_PAUSE_US, LONGEST_PAUSE_US = MICROSECONDS // 10, 5 * MICROSECONDS
"""The same if nobody took the attempt, which then does not count."""


def give_up_us(entry: Entry, begins_us: int) -> int:
    """Return until when an occurrence that begins at a time may be tried.

    Without `Gozo-Max-Age` and `Gozo-Overlap`, an occurrence is given up when the next one is due.
    """
    confirmation = entry.confirmation
    assert confirmation is not None
    if confirmation.max_age_us:
        delay_us = jitter_us(entry, begins_us) if begins_us == entry.due_us else 0
        return min(begins_us + delay_us + confirmation.max_age_us, grammar.LAST_US)
    if not entry.recurs or confirmation.overlap is not None:
        return NEVER
    if entry.due_us > begins_us:
        return entry.due_us
    return next(due_times(entry, begins_us), NEVER)


def begun(
    entry: Entry,
    key: str,
    occurrence: str,
    headers: bytes,
    now_us: int,
    due_us: int | None = None,
) -> Entry:
    """Return the run of the occurrence that the schedule under a key is due for.

    `headers` are those that its messages pass on. With `due_us`, the run is an
    extra one, besides the schedule's occurrences, and due then.
    """
    if due_us is None:
        due_us = entry.due_us
    return entry._replace(
        when=grammar.print_when(grammar.At(due_us)),
        due_us=due_us,
        created_us=now_us,
        token=b"",
        headers=headers,
        extended=True,
        tried=0,
        state=State.PENDING,
        reason="",
        next_us=0,
        managed_by="",
        expires=False,
        spec=None,
        protected=False,
        record=None if entry.recurs else entry.record,
        run=Run(key, occurrence, give_up_us=give_up_us(entry, due_us)),
        origin="",
    )


def sent(entry: Entry, hashed: str, now_us: int) -> Entry:
    """Return the run with an attempt whose reply subject's token has this SHA-256.

    A receiver that claims does not start yet, so its run is pending.
    """
    run = _run(entry)
    tokens = ((entry.tried + 1, hashed), *run.tokens)[:KEPT_TOKENS]
    run = replace(run, sent_us=now_us, tokens=tokens, owner="")
    claims = entry.confirmation is not None and entry.confirmation.by is Confirm.CLAIM
    state = State.PENDING if claims else State.RUNNING
    return entry._replace(state=state, next_us=0, run=run)


def claimed(entry: Entry, owner: str, now_us: int) -> Entry:
    """Return the run that a receiver has claimed: `owner` is the SHA-256 of its nonce."""
    run = replace(_run(entry), owner=owner, sent_us=now_us)
    return entry._replace(state=State.RUNNING, next_us=0, run=run)


def refused(entry: Entry, reason: str, pauses: int, now_us: int) -> Entry:
    """Return the run after an attempt that nobody took, which does not count.

    `pauses` is how many times in a row that happened before.
    """
    wait_us = min(FIRST_PAUSE_US << min(pauses, 10), LONGEST_PAUSE_US)
    return _again(entry, reason, entry.tried, now_us, wait_us, _spread_us(entry, pauses, wait_us))


def failed(entry: Entry, reason: str, now_us: int, delay_us: int | None = None) -> Entry:
    """Return the run after a failed attempt: retrying or given up.

    `delay_us` is the delay that the receiver asked for instead of the back-off.
    """
    tried = entry.tried + 1
    if 0 < entry.attempts <= tried:
        return given_up(entry._replace(tried=tried), reason, now_us)
    if delay_us is not None:
        return _again(entry, reason, tried, now_us, delay_us, delay_us)
    wait_us = _backoff_us(entry, tried)
    return _again(entry, reason, tried, now_us, wait_us, _spread_us(entry, tried, wait_us))


def answered(entry: Entry, hashed: str) -> Entry:
    """Return the run without an attempt that has its final answer: later ones do not count."""
    run = _run(entry)
    tokens = tuple(token for token in run.tokens if token[1] != hashed)
    return entry._replace(run=replace(run, tokens=tokens))


def alive(entry: Entry) -> Entry:
    """Return the run whose receiver seemed silent, but is still working."""
    return entry._replace(state=State.RUNNING, tried=entry.tried - 1, next_us=0, reason="")


def ended(entry: Entry) -> Entry:
    """Return the run of a schedule that was changed or cancelled: it is not tried again."""
    return entry._replace(run=replace(_run(entry), is_last=True))


def progress(states: Collection[str]) -> str:
    """Return what the runs of a schedule do, by their states.

    `running` if one is, otherwise `retrying` or `waiting`; empty if all are settled.
    """
    for state in (State.RUNNING, State.RETRYING):
        if state in states:
            return state.value
    return "waiting" if State.PENDING in states else ""


def runs_out(entry: Entry) -> bool:
    """Tell whether a receiver may be working on a run that is not tried again in any case."""
    return entry.state is State.RUNNING and _run(entry).is_last


def is_over(entry: Entry, now_us: int) -> bool:
    """Tell whether a run must not be tried again."""
    run = _run(entry)
    return run.is_last or now_us > run.give_up_us


def attempt_of(entry: Entry, hashed: str) -> int:
    """Return the number of the attempt with this token; 0 if this run has none."""
    return next((number for number, known in _run(entry).tokens if known == hashed), 0)


def nobody(subject: str) -> str:
    """Return the reason why an attempt failed if nobody subscribes to its subject."""
    return shortened(f"nobody subscribes to {subject}")


def too_late(entry: Entry) -> str:
    """Return the reason why a run is given up that is over before its next attempt."""
    return entry.reason or (UNCLAIMED if _run(entry).sent_us else TOO_LATE)


def result_of(entry: Entry) -> Result:
    """Return how a run ended that was given up."""
    return result_for(entry.reason, entry.subject)


def result_for(reason: str, subject: str) -> Result:
    """Return how a run ended that was sent to a subject, and given up for a reason."""
    if reason in (UNANSWERED, UNCLAIMED):
        return Result.UNANSWERED
    return Result.NOBODY if reason == nobody(subject) else Result.FAILED


def outcome_of(
    entry: Entry,
    result: Result,
    now_us: int,
    *,
    attempt: int,
    work: Work = NO_WORK,
    is_late: bool = False,
) -> Outcome:
    """Return the outcome of a run that ends now, with what its receiver said about the `attempt`.

    A success `is_late` if another attempt had begun, or the run was given up.
    """
    run = _run(entry)
    return Outcome(
        id=entry.id,
        key=run.key,
        subject=entry.subject,
        occurrence=run.occurrence,
        result=result,
        due_us=entry.due_us,
        ended_us=now_us,
        started_us=work.started_us or run.sent_us,
        attempt=attempt,
        reason="" if result is Result.SUCCEEDED else entry.reason,
        host=work.host,
        exit_status=work.exit_status,
        duration_us=work.duration_us,
        late=is_late,
    )


def left_out(entry: Entry, key: str, result: Result, now_us: int, reason: str = "") -> Outcome:
    """Return the outcome of the occurrence that the schedule under a key is due for, not sent."""
    return Outcome(
        id=entry.id,
        key=key,
        subject=entry.subject,
        occurrence=f"s{entry.due_us:x}",
        result=result,
        due_us=entry.due_us,
        ended_us=now_us,
        reason=reason,
    )


def is_skipped(entry: Entry, others: list[Entry]) -> bool:
    """Tell whether the occurrence for which a schedule is due is skipped.

    `others` are the runs under its key that are not settled, of earlier schedules too.
    """
    assert entry.confirmation is not None
    if len(others) >= MOST_RUNS:
        return True
    match entry.confirmation.overlap:
        case Overlap.SKIP:
            return bool(others)
        case Overlap.QUEUE:
            return any(not _run(other).sent_us for other in others)
    return False


def waits_for(entry: Entry, others: list[Entry]) -> bool:
    """Tell whether a run waits until one of the other runs of its schedule is settled."""
    if entry.confirmation is None or entry.confirmation.overlap is not Overlap.QUEUE:
        return False
    return any(_order(other) < _order(entry) for other in others)


def _order(entry: Entry) -> tuple[bool, int, int, str]:
    run = _run(entry)
    # Sent runs come first: a triggered run may begin before one that was due earlier.
    return not run.sent_us, entry.due_us, run.number, run.occurrence


def _again(
    entry: Entry, reason: str, tried: int, now_us: int, wait_us: int, longest_us: int
) -> Entry:
    """Return the run to be tried again, or given up if that is too late or not allowed.

    It waits for `longest_us`, or for less, down to `wait_us`, if that would be too late. It keeps
    its owner, which may be silent only for a while: see `alive`.
    """
    run = _run(entry)
    next_us = min(now_us + wait_us, grammar.LAST_US)
    if run.is_last or next_us > run.give_up_us:
        return given_up(entry._replace(tried=tried), reason, now_us)
    next_us = min(now_us + longest_us, grammar.LAST_US, run.give_up_us)
    return entry._replace(
        state=State.RETRYING, tried=tried, next_us=next_us, reason=shortened(reason)
    )


def _spread_us(entry: Entry, number: int, wait_us: int) -> int:
    """Return a wait with a random part, which each run has of its own."""
    run = _run(entry)
    return spread_us(f"{run.key}.{run.occurrence} {number}", wait_us)


def _backoff_us(entry: Entry, tried: int) -> int:
    waits = () if entry.confirmation is None else entry.confirmation.backoff_us
    if waits:
        return waits[min(tried, len(waits)) - 1]
    return min(FIRST_WAIT_US << min(tried - 1, 10), LONGEST_WAIT_US)


def _run(entry: Entry) -> Run:
    assert entry.run is not None, "only runs have entries of their own"
    return entry.run
