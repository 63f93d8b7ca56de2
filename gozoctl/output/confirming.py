"""Prints how a delivery is confirmed, and the details of a run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gozo.schedule.expression import print_duration
from gozo.schedule.model import ACK_WAIT_US, MICROSECONDS, Confirm, Confirmation, State

if TYPE_CHECKING:
    from gozo.client import Schedule

_WORDS = {
    Confirm.STREAM: "by a stream",
    Confirm.REPLY: "by its receiver",
    Confirm.CLAIM: "by its receiver, which claims it first",
}


def confirming_lines(schedule: Schedule) -> list[tuple[str, str]]:
    """Return how a schedule is confirmed, by name."""
    if not schedule.confirm:
        return []
    by = Confirm.STREAM if schedule.confirm is True else Confirm(schedule.confirm)
    many = f"{schedule.attempts} attempts" if schedule.attempts else "any number of attempts"
    tries = "1 attempt" if schedule.attempts == 1 else many
    lines = [("confirm", f"{_WORDS[by]}, {tries}")]
    how = schedule.confirmation
    if how is None:
        return lines
    return lines + _settings(how)


def _settings(how: Confirmation) -> list[tuple[str, str]]:
    lines = []
    if how.ack_wait_us != ACK_WAIT_US:
        lines.append(("ack wait", print_duration(how.ack_wait_us)))
    if how.backoff_us:
        lines.append(("backoff", ", ".join(map(print_duration, how.backoff_us))))
    if how.max_age_us:
        lines.append(("max age", print_duration(how.max_age_us)))
    if how.overlap is not None:
        lines.append(("overlap", how.overlap))
    if how.dead_letter:
        lines.append(("dead letter", how.dead_letter))
    if how.ttl_us:
        lines.append(("ttl", print_duration(how.ttl_us)))
    if how.keep_output:
        lines.append(("output", "kept"))
    if how.expect_us:
        lines.append(("expect", f"within {print_duration(how.expect_us)}"))
    return lines


def confirming_record(schedule: Schedule) -> dict[str, Any]:
    """Return how a schedule is confirmed for JSON; durations are seconds."""
    found: dict[str, Any] = {"confirm": schedule.confirm, "attempts": schedule.attempts}
    return found | ({} if schedule.confirmation is None else _details(schedule.confirmation))


def _details(how: Confirmation) -> dict[str, Any]:
    answered = how.by is not Confirm.STREAM
    return {
        "ack_wait": how.ack_wait_us / MICROSECONDS if answered else None,
        "backoff": [us / MICROSECONDS for us in how.backoff_us],
        "max_age": how.max_age_us / MICROSECONDS or None,
        "overlap": how.overlap,
        "dead_letter": how.dead_letter or None,
        "ttl": how.ttl_us / MICROSECONDS or None,
        "keep_output": how.keep_output,
        "expect": how.expect_us / MICROSECONDS or None,
    }


def run_lines(run: Schedule, write: Callable[[datetime], str]) -> list[tuple[str, str]]:
    """Return the details of a run, by name; `write` prints a moment."""
    lines = [("occurrence", run.occurrence)]
    if run.attempt:
        of = f" of {run.attempts}" if run.attempts else ""
        lines.append(("attempt", f"{run.attempt}{of}"))
    if run.sent is not None:
        lines.append(("since" if run.state == State.RUNNING else "sent", write(run.sent)))
    if run.confirm == Confirm.CLAIM and run.state in (State.PENDING, State.RUNNING):
        lines.append(("claimed", "yes" if run.claimed else "no"))
    if run.give_up is not None:
        lines.append(("give up", write(run.give_up)))
    if run.last_attempt:
        lines.append(("last try", "yes: its schedule was changed or cancelled"))
    return lines
