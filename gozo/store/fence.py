"""Protects the writes of a later leader from a replica that lost the lease."""

from __future__ import annotations


class Fence:
    """Keeps changes away from keys that a later leader may have written."""

    def __init__(self) -> None:
        self.revision: int | None = None
        """Keys with a later revision that was not written here are not changed; None: no fence.

        Requests to the new leader are newer than the changes that still wait here.
        """
        self.own: dict[str, int] = {}
        """The last revision of each key that was written here, until `forget_own`."""
        self.retracted: set[str] = set()
        """Keys that only this replica knows, and whose entries must be removed."""

    def put_up(self, revision: int) -> None:
        """Protect the keys that others wrote after a revision."""
        self.revision = revision

    def take_down(self) -> None:
        """Allow changes of all keys again."""
        self.revision = None

    @property
    def is_up(self) -> bool:
        """Whether there is a fence."""
        return self.revision is not None

    def protects(self, key: str, revision: int) -> bool:
        """Tell whether another leader may have written this revision; the fence must be up."""
        assert self.revision is not None
        if key in self.retracted:
            return False
        return revision > self.revision and self.own.get(key) != revision

    def forget_own(self) -> int:
        """Forget which revisions were written here, and return the last one; 0 if nothing was."""
        last = max(self.own.values(), default=0)
        self.own.clear()
        return last
