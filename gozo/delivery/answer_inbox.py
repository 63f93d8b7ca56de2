"""Receives the answers of receivers, on all replicas.

A standby keeps them for as long as a change of lead takes, so that a new leader acts on what was
answered while nobody led. So does a leader without a valid lease, such as one that was frozen: it
knows nothing of what the next leader has sent, and would refuse claims of that. Claims are not
kept: a receiver that still waits asks again, and another would be granted a run that it never
starts.
"""

from __future__ import annotations

from collections.abc import Callable

from gozo.delivery.kept_answers import KeptAnswers
from gozo.delivery.run_outcomes import Heard, hash_of
from gozo.errors import Refusal, RequestError
from gozo.protocol.answers import ACK_TOKEN, Verdict, read_answer
from gozo.protocol.subject_policy import LONGEST_SUBJECT
from gozo.runtime.clock import steady
from gozo.transport.connection import Connection


class AnswerInbox:
    """Passes answers on while this replica acts on them; otherwise keeps them."""

    def __init__(self, connection: Connection, request_subject: str) -> None:
        self.prefix = f"{request_subject}.{ACK_TOKEN}"
        """The prefix of the reply subjects of deliveries; a token follows."""
        self.subject = f"{self.prefix}.*"
        self._connection = connection
        self._start = len(self.prefix) + 1
        self._hear: Callable[[Heard], None] | None = None
        self._may_act: Callable[[], bool] = bool
        self._kept = KeptAnswers()
        connection.listen(self.subject, self._on_message)

    @property
    def denial(self) -> str:
        """Why this replica cannot receive answers; empty if it can."""
        if self.subject not in self._connection.refused:
            return ""
        return f"the daemon may not subscribe to {self.subject}, so it could not receive answers"

    def check(self) -> None:
        """Refuse schedules that no receiver could confirm.

        Raises:
            RequestError: `unavailable`.
        """
        if denial := self.denial:
            raise RequestError(
                Refusal.UNAVAILABLE,
                f"{denial}: grant that permission (see gozo-protocol(7)), or omit Gozo-Confirm",
            )

    def open(self, hear: Callable[[Heard], None], may_act: Callable[[], bool]) -> None:
        """Pass answers on while `may_act`, starting with those that were kept."""
        self._hear, self._may_act = hear, may_act
        self.pass_on()

    def pass_on(self) -> None:
        """Pass on the kept answers, if this replica acts on answers now."""
        hear = self._hear
        if hear is None or not (self._kept and self._may_act()):
            return
        for heard in self._kept.take(steady()):
            hear(heard)

    def close(self) -> None:
        """Keep answers from now on: another replica acts on them."""
        self._hear = None

    def _on_message(
        self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes
    ) -> None:
        if len(reply) > LONGEST_SUBJECT:
            reply = b""  # gozo publishes nothing there
        heard = Heard(hash_of(subject[self._start :]), read_answer(headers, payload), reply)
        if self._hear is not None and self._may_act():
            self.pass_on()
            self._hear(heard)
            return
        if heard.answer.verdict is not Verdict.CLAIM:
            self._kept.add(heard, steady())
