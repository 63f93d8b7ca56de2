"""Reads the answers of daemons: receipts, results of verbs, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gozo.client.arguments import moment_of_epoch
from gozo.client.models import Answer, Stored
from gozo.errors import NotFoundError, Refusal, RequestError, UnansweredError


@contextmanager
def readable() -> Iterator[None]:
    """Turn an answer that is not gozo's into an error."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise UnansweredError(
            f"something other than gozo answered on its subjects ({error!r}): the outcome "
            "is unknown"
        ) from error


def absent(id_: str, status: str, reason: str = "") -> NotFoundError:
    """Return the error for a schedule that does not exist; `reason` as for `NotFoundError`."""
    if reason:
        return NotFoundError(f"{id_!r} cannot be changed: {reason}", status, reason)
    if status == "already_delivered":
        return NotFoundError(f"the schedule {id_!r} was already delivered", status)
    return NotFoundError(f"there is no schedule {id_!r}")


def answers_of(results: list[dict[str, Any]] | None) -> list[Answer] | None:
    """Read the results of a verb for many ids; None: no daemon answered."""
    if results is None:
        return None
    with readable():
        return [
            Answer(
                one["id"],
                one["status"],
                str(one.get("reason", "")),
                running=one.get("running") is True,
            )
            for one in results
        ]


def check(answer: dict[str, Any]) -> None:
    """Raise the error that an answer reports, if any."""
    if answer.get("unknown") is True:
        raise UnansweredError(str(answer.get("message", answer)))
    if answer.get("status") == "refused":
        code = answer.get("error", "")
        known = Refusal(code) if code in set(Refusal) else Refusal.INVALID_REQUEST
        raise RequestError(known, str(answer.get("message", answer)))


def stored(answer: dict[str, Any]) -> Stored:
    """Read the receipt of a request that was stored, or raise its refusal."""
    check(answer)
    due = moment_of_epoch(answer["due_epoch"])
    running = answer.get("running") is True
    return Stored(answer["id"], due, bool(answer["replaced"]), running)
