"""An account of runs under faults: started twice, settled wrongly, or left in the bucket."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

Runs = frozenset[str]


@dataclass(frozen=True, slots=True)
class RunAccount:
    """The ids of single schedules, each of which has one run."""

    asked: Runs
    never_started: Runs
    twice: Runs
    """Started twice, in whichever attempt."""
    unconfirmed: Runs
    """Those whose outcome gozo has not confirmed to the receiver."""
    wrongly: Runs
    """Kept as failed though their receivers succeeded, or the other way round."""
    left: Collection[str]
    """Keys of the bucket that are not those of failed runs."""

    @classmethod
    def of(
        cls,
        *,
        asked: Collection[str],
        starts: Mapping[str, int],
        confirmed: Collection[str],
        failed: Collection[str],
        kept: Mapping[str, str],
    ) -> Self:
        """Compare what was asked for with what happened, by id.

        `starts` counts the starts of each, `failed` are those that failed by their receivers'
        answers, and `kept` is what the bucket holds: by key the id of each failed run, "" for
        anything else.
        """
        called, kept_failed = set(failed), {id_ for id_ in kept.values() if id_}
        return cls(
            asked=frozenset(asked),
            never_started=frozenset(asked) - frozenset(starts),
            twice=frozenset(id_ for id_, times in starts.items() if times > 1),
            unconfirmed=frozenset(asked) - frozenset(confirmed),
            wrongly=frozenset(called ^ kept_failed),
            left=[key for key, id_ in kept.items() if not id_],
        )

    @property
    def is_sound(self) -> bool:
        """Whether each was started once and settled as its receiver answered."""
        wrong = (self.never_started, self.twice, self.unconfirmed, self.wrongly, self.left)
        return bool(self.asked) and not any(wrong)

    def __str__(self) -> str:
        def some(ids: Collection[str]) -> str:
            shown = f" ({', '.join(sorted(ids)[:5])})" if ids else ""
            return f"{len(ids)}{shown}"

        return (
            f"asked {len(self.asked)}, never started {some(self.never_started)}, "
            f"started twice {some(self.twice)}, unconfirmed {some(self.unconfirmed)}, "
            f"settled wrongly {some(self.wrongly)}, left {some(self.left)}"
        )
