"""The index: the contents of the bucket as far as read.

Every message of the bucket passes through `BucketIndex.take`, whether the follower read it or
it was read to resolve a conflict. The index interprets it, and the timetable stores the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gozo.errors import Refusal, RequestError
from gozo.protocol.header_names import explain, names
from gozo.protocol.ids import escape_id, is_addressable
from gozo.protocol.subject_policy import UNLIMITED, Policy, check_size
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS, NEVER, Entry, Marker, Reason
from gozo.schedule.timetable import Item, Timetable
from gozo.store.delivery_hooks import DeliveryHooks
from gozo.store.entry_codec import (
    BARRIER_KEY,
    GROWTH,
    BareEntryError,
    EntryError,
    check_room,
    glance,
    parse_entry,
    says_protected,
)
from gozo.store.entry_tokens import is_of_daemon, spares_runs
from gozo.store.lateness import Lateness
from gozo.store.legacy_codec import parse_original
from gozo.store.marker_codec import plain_marker
from gozo.store.marker_life import USUAL_LIFE, MarkerLife
from gozo.store.successes import Successes
from gozo.store.traits import NO_SUCCESSES, Traits

OnEntry = Callable[[str, int, bytes], None]
"""Takes the key, the revision and the token of an entry."""


class Limits(Protocol):
    """The server's limits, which may change."""

    @property
    def max_payload(self) -> int:
        """Bytes that one message may have."""


class Observer(Protocol):
    """Publishes the changes that others make to the bucket."""

    @property
    def enabled(self) -> bool:
        """Whether events are published; to be asked before each call."""

    def accepted(self, entry: Entry, *, replaced: bool, was_paused: bool) -> None:
        """Somebody stored a schedule."""

    def cancelled(self, key: str) -> None:
        """Somebody deleted a schedule."""

    def invalid(self, key: str, reason: str) -> None:
        """An entry cannot be served."""


log = get_logger("gozo.store")


class BucketIndex:
    """Takes in messages of the bucket, readable or not."""

    def __init__(
        self,
        timetable: Timetable,
        policy: Policy,
        limits: Limits,
        hooks: DeliveryHooks,
        observer: Observer,
        server_us: Callable[[], int],
        *,
        marker_ttl: bool,
        max_message: int = UNLIMITED,
        life: MarkerLife = USUAL_LIFE,
        successes: Successes = NO_SUCCESSES,
    ) -> None:
        """Create an empty index.

        `server_us` returns the server's clock, as estimated, by which markers end. `marker_ttl`:
        whether the server removes delete markers by their time to live. `max_message`: bytes that
        the bucket accepts in one message. `life`: the rule for the life of markers.
        """
        self.timetable = timetable
        self.life, self.marker_seconds = life, life.chosen(0, 0)
        """The rule for the life of delete markers, and the life of one that is written now."""
        self.lateness = Lateness(life.shortest)
        self.traits = Traits(server_us, successes)
        self.bare: dict[str, tuple[int, int]] = {}
        """Revision and time of storing of entries without headers, whose values must be read."""
        self.odd_keys: set[str] = set()
        """Ids that the original gozo used as keys unescaped, although they need escaping."""
        self.expiring: dict[str, int] = {}
        """Revisions of entries with a time to live, which the server would remove, by key."""
        self.on_entry: list[OnEntry] = []
        """Called with each readable entry, after the timetable."""
        self.on_outdated: list[Callable[[str, int], None]] = []
        """Called with a key and a revision: that version and older ones must not be sent."""
        self.on_cleared: list[Callable[[], None]] = []
        """Called when the index was cleared."""
        self.server_us = server_us
        self._policy, self._limits, self._hooks, self._observer = policy, limits, hooks, observer
        self._observes = observer.enabled
        self._marker_ttl, self._max_message = marker_ttl, max_message
        self._allowed = b""
        """The last subject that the policy allowed: most entries have the same subject."""

    def count_failing(self) -> int:
        """Count the schedules that fail, and those that are gone and whose last run failed."""
        traits = self.traits
        failing: set[str] = set()
        for key in traits.failing | traits.failed:
            entry = traits.runs.get(key)
            if entry is not None and entry.run is not None:
                schedule = entry.run.key
            else:
                schedule = traits.dead_letters.get(key, key)
            if schedule == key or schedule not in self.timetable:
                failing.add(schedule)
        return len(failing)

    def choose_marker_life(self, key_us: float) -> None:
        """Choose the life of markers that are written from now on; see `MarkerLife.chosen`."""
        entries, markers = len(self.timetable), len(self.timetable.tombstones)
        self.marker_seconds = self.life.chosen(entries, markers, key_us, before=self.marker_seconds)

    @property
    def keys(self) -> int:
        """How many keys the bucket holds, delete markers included, as far as read."""
        return len(self.timetable) + len(self.timetable.tombstones)

    def take(
        self,
        key: str,
        revision: int,
        stored_us: int,
        headers: bytes | None,
        size: int | None = None,
    ) -> None:
        """Take in one message of the bucket; see `parse_entry` for `size`."""
        known = self.timetable.seen(key)
        if revision <= known:
            return
        if known:
            self._outdate(key, known)
        self.bare.pop(key, None)
        if size is None and self._take_plain(key, revision, stored_us, headers):
            return
        try:
            entry = parse_entry(key, headers, stored_us, size)
            if isinstance(entry, Entry):
                self.check(entry)
                check_room(entry, headers, self._limits.max_payload, self._max_message)
        except BareEntryError:
            self.bare[key] = (revision, stored_us)
            self.traits.note(key, None)
            self.timetable.put(key, NEVER, revision)
            return
        except (EntryError, RequestError) as error:
            self._set_aside(key, revision, error, headers)
            if isinstance(error, RequestError) and error.code is Refusal.TOO_LARGE:
                self.traits.too_large[key] = (revision, stored_us, headers, size)
            return
        if isinstance(entry, Marker):
            self._removed(key, revision, stored_us, entry)
            return
        if self.lateness.is_late(key, stored_us, headers, entry.token):
            self._take_late(key, revision, stored_us)
            return
        self._known(key, revision, entry)

    def _outdate(self, key: str, revision: int) -> None:
        for forget in self.on_outdated:
            forget(key, revision)

    def _removed(self, key: str, revision: int, stored_us: int, marker: Marker) -> None:
        ttl_us = marker.ttl_us if self._marker_ttl else 0
        until_us = stored_us + (ttl_us or self.marker_seconds * MICROSECONDS)
        lasting = not ttl_us
        if lasting and not is_addressable(key):
            until_us = NEVER  # its key cannot be purged alone
        by_others = marker.reason is Reason.UNKNOWN or marker.by_client
        if self._observes and by_others and key in self.timetable:
            self._observer.cancelled(key)
        if by_others and self.traits.runs:
            self._hooks.abandon(key)
        self.traits.note_size(key, 0)
        self.traits.note(key, None)
        self.timetable.remove(key, revision, until_us, marker.reason, lasting=lasting)

    def _take_plain(self, key: str, revision: int, stored_us: int, headers: bytes | None) -> bool:
        """Take in an ordinary message the fast way; False if it is not ordinary."""
        glanced = glance(key, headers, stored_us)
        if glanced is None:
            marker = plain_marker(headers)
            if marker is not None:
                self._removed(key, revision, stored_us, marker)
            return marker is not None
        due_us, subject, token, size = glanced
        if (self._observes or self.traits.runs.any) and not is_of_daemon(token):
            return False  # entries that others write are read in full: see `_known`
        if self.lateness.is_late(key, stored_us, headers, token):
            self._take_late(key, revision, stored_us)
            return True
        try:
            if subject != self._allowed:
                self._policy.check_target(subject.decode())
                self._allowed = subject
            headers_size = len(headers or b"") + GROWTH
            check_size(size, headers_size, self._limits.max_payload, self._max_message)
        except RequestError:
            return False
        self.traits.note_size(key, size)
        self.traits.note(key, None)
        self._take_in(key, revision, due_us, token)
        return True

    def _take_late(self, key: str, revision: int, stored_us: int) -> None:
        """Have an entry purged that was stored too late."""
        log.limited("warning", "entry.late", key=key, revision=revision)
        self.traits.note_size(key, 0)
        self.traits.note(key, None)
        self.timetable.remove(key, revision, stored_us, lasting=True)

    def is_over(self, key: str, headers: bytes | None, *, unseen: bool) -> bool:
        """Tell whether an entry's key was removed and its marker may be gone.

        `unseen`: whether a key also counts as removed if a full load just did not find it.
        """
        if key in self.timetable:
            return False
        stone, reason = self.timetable.tombstone(key), self.timetable.departure(key)
        if reason is None:
            return False
        if reason is Reason.UNKNOWN and not unseen:
            return False
        if stone is not None and stone.until_us > self.server_us() + MICROSECONDS:
            return False
        return plain_marker(headers) is None

    def take_revived(self, key: str, revision: int, stored_us: int) -> None:
        """Have an entry purged that the server brought back after its removal."""
        log.limited("warning", "entry.revived", key=key, revision=revision)
        reason = self.timetable.departure(key) or Reason.UNKNOWN
        self.drop(key)
        until_us = stored_us if is_addressable(key) else NEVER
        self.timetable.remove(key, revision, until_us, reason, lasting=True)

    def reconsider(self) -> None:
        """Check again the entries that were too large: the server takes larger messages now."""
        for key, message in list(self.traits.too_large.items()):
            self.timetable.forget(key)  # else it would be skipped as seen
            self.take(key, *message)

    def take_value(self, key: str, revision: int, stored_us: int, value: bytes) -> None:
        """Take in the value of a bare entry: a schedule of the original gozo, or invalid."""
        if self.bare.get(key) != (revision, stored_us):
            return
        del self.bare[key]
        self.timetable.forget(key)
        try:
            entry, _ = parse_original(key, value, stored_us)
            self.check(entry)
        except (EntryError, RequestError) as error:
            self._set_aside(key, revision, error)
            return
        self._known(key, revision, entry)

    def check(self, entry: Entry) -> None:
        """Make sure that an entry may be delivered.

        Raises:
            RequestError: `forbidden_subject`.
        """
        self._policy.check_entry(entry)

    def _known(self, key: str, revision: int, entry: Entry) -> None:
        if entry.unknown and not is_of_daemon(entry.token):
            first, *others = names(entry.unknown)
            log.limited(
                *("warning", "entry.unknown_header"),
                key=key,
                revision=revision,
                reason=explain(first),
                others=len(others),
            )
        if entry.expires:
            self.expiring[key] = revision
        if entry.id == key and "=" in key and escape_id(key) != key:
            self.odd_keys.add(key)
        by_others = not is_of_daemon(entry.token)
        if by_others and self.traits.runs and not spares_runs(entry.token):
            self._hooks.abandon(key)
        if by_others and self._observes:
            replaced, was_paused = key in self.timetable, key in self.traits.paused
            self._observer.accepted(entry, replaced=replaced, was_paused=was_paused)
        self.traits.note_size(key, entry.size)
        self.traits.note(key, entry)
        self._take_in(key, revision, entry.wake_us, entry.token)

    def _take_in(self, key: str, revision: int, wake_us: int, token: bytes) -> None:
        self.timetable.put(key, wake_us, revision)
        for hear in self.on_entry:
            hear(key, revision, token)
        self._hooks.wake()

    def drop(self, key: str) -> None:
        """Forget a key of which the bucket holds neither an entry nor a marker."""
        self._outdate(key, self.timetable.revision(key))
        self.traits.large.pop(key, None)
        self.traits.note(key, None)
        self.bare.pop(key, None)
        was_there = key in self.timetable
        self.timetable.forget(key)
        if was_there:
            self.timetable.departures.note(key, Reason.UNKNOWN)

    def clear(self) -> None:
        """Forget everything: the bucket was replaced."""
        for key in (*self.timetable.keys(), *self.timetable.tombstones):
            self.drop(key)
        for forget_all in self.on_cleared:
            forget_all()

    def refused(self, key: str, revision: int, words: str) -> None:
        """Stop serving a schedule whose new state the bucket refuses to store."""
        error = RequestError(
            Refusal.TOO_LARGE, f"the bucket refuses to store its new state: {words}"
        )
        item = Item(NEVER, revision, key)
        self.timetable.take(item)
        self.timetable.give_back(item)
        self._set_aside(key, revision, error)

    def _set_aside(
        self,
        key: str,
        revision: int,
        error: EntryError | RequestError,
        headers: bytes | None = None,
    ) -> None:
        """Stop serving an entry; without `headers`, its version is already known."""
        if key == BARRIER_KEY:
            return
        protected = key in self.traits.protected if headers is None else says_protected(headers)
        self.traits.note(key, None)
        if protected:
            self.traits.protected.add(key)
        self.traits.invalid[key] = (revision, str(error))
        if isinstance(error, EntryError) and error.newer:
            self.traits.newer.add(key)
        log.limited("warning", "entry.invalid", key=key, revision=revision, reason=str(error))
        self.timetable.put(key, NEVER, revision)
        if self._observes:
            self._observer.invalid(key, str(error))
