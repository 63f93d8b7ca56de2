"""Answers that arrive while a replica does not act on them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import cast

import pytest

from gozo.delivery import answer_inbox, kept_answers
from gozo.delivery.answer_inbox import AnswerInbox
from gozo.delivery.run_outcomes import Heard
from gozo.protocol.subject_policy import LONGEST_SUBJECT
from gozo.transport.connection import Connection

MIB = 1024 * 1024


class Listening:
    """A connection on which answers come."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def listen(self, subject: str, call: Callable[..., None]) -> None:
        """Record what is called."""
        self.come = call


class Standby:
    """A replica that stands by, and a clock that it reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(answer_inbox, "steady", lambda: self.now)
        self._connection = Listening()
        self.inbox = AnswerInbox(cast("Connection", self._connection), "gozo")

    def answer(self, number: int, reply: bytes = b"", payload: bytes = b"-NAK") -> None:
        """Let an answer arrive."""
        self._connection.come(b"gozo.ack.%d" % number, reply, None, payload)

    def lead(self) -> list[Heard]:
        """Act on answers from now on; return those that were kept."""
        found: list[Heard] = []
        self.inbox.open(found.append, lambda: True)
        return found


def test_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of the last minute are kept in order, but no claims."""
    standby = Standby(monkeypatch)
    standby.answer(1, b"old")
    standby.now += 30
    standby.answer(2, b"two")
    standby.answer(3, b"claim", b"+CLAIM nonce")
    standby.answer(4, b"four", b"+TERM broken")
    standby.now += 31
    kept = standby.lead()
    assert [heard.reply for heard in kept] == [b"two", b"four"]
    standby.inbox.close()
    assert standby.lead() == []


@pytest.mark.parametrize(
    ("length", "payload"),
    [(40, b"-NAK"), (3_000, b"+ACK"), (40, b"+TERM " + "\N{GRINNING FACE}".encode() * 200)],
)
def test_memory(monkeypatch: pytest.MonkeyPatch, length: int, payload: bytes) -> None:
    """Their memory is limited, however many and however long they are."""
    monkeypatch.setattr(kept_answers, "MOST_BYTES", 2 * MIB)
    standby = Standby(monkeypatch)
    tracemalloc.start()
    try:
        for number in range(6_000):
            standby.answer(number, b"%0*d" % (length, number), payload)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert MIB // 2 < used < 2 * MIB
    assert standby.lead()[-1].reply.endswith(b"5999"), "the latest ones are kept"


def test_a_reply_subject_on_which_nothing_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply subject is dropped; the answer counts."""
    standby = Standby(monkeypatch)
    standby.answer(1, b"r" * LONGEST_SUBJECT)
    standby.answer(2, b"r" * (LONGEST_SUBJECT + 1))
    assert [len(heard.reply) for heard in standby.lead()] == [LONGEST_SUBJECT, 0]
