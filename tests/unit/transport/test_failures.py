"""Why no server could be connected to."""

from __future__ import annotations

import pytest

from gozo.errors import GozoError, NoServerError, NotAllowedError, UnsuitableServerError
from gozo.transport.failures import PassingError, TurnedAwayError, verdict

SILENT = NoServerError("a does not answer")
REFUSED = NotAllowedError("b refused the credentials")
PASSING = PassingError("c closed the connection")
FULL = TurnedAwayError("d refused the connection")
UNSUITABLE = UnsuitableServerError("e does not support headers")


@pytest.mark.parametrize(
    ("failures", "kind", "words"),
    [
        ([REFUSED, UNSUITABLE], NotAllowedError, "b refused the credentials"),
        ([UNSUITABLE, REFUSED], UnsuitableServerError, "e does not support headers"),
        ([REFUSED, SILENT], PassingError, "b refused the credentials; a does not answer"),
        ([PASSING], PassingError, "c closed the connection"),
        (
            [UNSUITABLE, FULL],
            TurnedAwayError,
            "e does not support headers; d refused the connection",
        ),
        ([SILENT, FULL, SILENT], TurnedAwayError, "a does not answer; d refused the connection"),
        ([SILENT, SILENT], NoServerError, "a does not answer"),
    ],
)
def test_verdict(failures: list[GozoError], kind: type[GozoError], words: str) -> None:
    """It is final only if all servers refused for good; else it names all of them, each once."""
    error = verdict(failures)
    assert type(error) is kind
    assert str(error) == words
