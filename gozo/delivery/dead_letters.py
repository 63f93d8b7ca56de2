"""Dead letters of recurring schedules: occurrences that were given up, in entries of their own.

The schedule goes on once such an entry is stored, and it outlives the schedule. A schedule that
does not recur is its own dead letter.
"""

from __future__ import annotations

from gozo.protocol.deliveries import once
from gozo.schedule import runs
from gozo.schedule.model import Entry, Run
from gozo.store.run_codec import given_up_occurrence, run_key


def of_occurrence(key: str, entry: Entry) -> tuple[str, Entry]:
    """Return the dead letter of an occurrence that was given up, and its key.

    `key` is that of its schedule.
    """
    occurrence = given_up_occurrence(entry)
    headers = once(entry.headers, entry.due_us)
    run = runs.begun(entry, key, occurrence, headers, entry.next_us)
    kept = run._replace(
        tried=entry.tried,
        state=entry.state,
        reason=entry.reason,
        next_us=entry.next_us,
        run=Run(key, occurrence),
    )
    return run_key(key, occurrence), kept
