"""Permissions without which a daemon does not start."""

from __future__ import annotations

from gozo.leadership.feed_messages import feed_subject
from gozo.protocol.inboxes import SHARED
from gozo.protocol.subject_policy import Policy
from gozo.runtime.logs import get_logger
from gozo.settings.model import ConnectionSettings
from gozo.store.event_history import NAMES
from gozo.store.outcome_streams import outcomes_of, output_of
from gozo.transport.connection import Connection
from gozo.transport.jetstream import JetStream

log = get_logger("gozo.daemon")


class Permissions:
    """The permissions that one daemon needs."""

    def __init__(self, connection: Connection, js: JetStream, settings: ConnectionSettings) -> None:
        self._connection = connection
        asked = settings.request_subject
        self._api = f"{settings.js_prefix}."
        self._bucket = js.entrance(f"$KV.{settings.bucket}")
        self._dispensable = f"{self._api}{NAMES}"
        """Optional: without it, some error messages are less specific."""
        place = settings.bucket, asked
        self._streams = tuple(f".{one(*place).name}" for one in (outcomes_of, output_of))
        """The ends of subjects: without these streams, outcomes are not kept."""
        # Standbys ask the leader here; otherwise they wait out the lease of a crashed one.
        self._leader = f"{asked}.admin.leader"
        self._own = (asked, feed_subject(asked))

    def require(self, kind: str, subject: str) -> bool:
        """Tell whether a daemon must not start without this permission.

        `kind` is `publish` or `subscription`. Once the daemon runs, a denial is only logged.
        """
        if subject == self._dispensable or subject.endswith(self._streams):
            return False
        if subject == self._leader or subject.startswith((self._api, self._bucket)):
            return True
        is_own = subject in self._own or subject.startswith(f"{self._connection.inbox_prefix}.")
        return kind == "subscription" and is_own


def check_rules(policy: Policy, settings: ConnectionSettings) -> None:
    """Warn if the rules about targets prevent receipts to clients."""
    reason = policy.without_receipts(settings.inbox_prefix or SHARED)
    if reason:
        log.warning("policy.no_receipts", reason=reason)
