"""Which changes of stored entries are not permitted."""

from __future__ import annotations

from gozo.store.changes import Put, Result, Write
from gozo.store.index import BucketIndex


class Protection:
    """Knows entries that administrators protected, and those that a later version of gozo wrote."""

    def __init__(self, index: BucketIndex) -> None:
        self.newer = index.traits.newer
        """Keys whose entries a later version wrote. If this and `protected` are empty, nothing is
        barred: callers test that first, which saves nearly every request a call."""
        self.protected = index.traits.protected
        """Keys of schedules that requests can neither replace nor cancel."""
        self._odd_keys = index.odd_keys

    def barred(self, change: Write) -> Result | None:
        """Return the result of a change that is not permitted; None if it is."""
        if change.key in self.newer:
            return Result.NEWER_FORMAT
        if self.protected and change.by_request and self._covers(change):
            return Result.PROTECTED
        return None

    def _covers(self, change: Write) -> bool:
        if change.key in self.protected:
            return True
        # The entry that the original gozo kept under the unescaped id would be removed.
        id_ = change.entry.id if isinstance(change, Put) else None
        return id_ in self._odd_keys and id_ in self.protected
