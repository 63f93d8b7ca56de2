"""The headers that say how a delivery is confirmed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.errors import RequestError
from gozo.protocol.confirmation import MOST_ATTEMPTS, confirmation_lines, read_confirmation
from gozo.protocol.headers import block, fields
from gozo.schedule.model import Confirm, Confirmation
from tests.support.confirmations import CONFIRMATIONS


@given(CONFIRMATIONS, st.integers(0, MOST_ATTEMPTS))
def test_there_and_back(confirmation: Confirmation, attempts: int) -> None:
    """Reading the headers of a confirmation returns the same confirmation."""
    by_stream = confirmation.by is Confirm.STREAM
    lines = confirmation_lines(by_stream, attempts, confirmation)
    read = read_confirmation(dict(fields(block(lines))), recurs=True)
    assert read == (by_stream, attempts, confirmation)


def test_a_plain_confirmation_by_a_stream() -> None:
    """It is written as it always was: older daemons read it."""
    assert confirmation_lines(True, 3, None) == b"Gozo-Confirm: stream\r\nGozo-Attempts: 3\r\n"
    assert read_confirmation({b"gozo-confirm": b"Stream"}) == (True, 0, None)
    assert read_confirmation({}) == (False, 0, None)
    assert confirmation_lines(False, 0, None) == b""


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({b"gozo-attempts": b"3"}, "Gozo-Attempts needs Gozo-Confirm"),
        ({b"gozo-dead-letter": b"a"}, "Gozo-Dead-Letter needs Gozo-Confirm"),
        (
            {b"gozo-confirm": b"maybe"},
            "'maybe': expected stream, reply or claim",
        ),
        ({b"gozo-confirm": b"stream", b"gozo-ack-wait": b"3s"}, "needs 'Gozo-Confirm: reply'"),
        ({b"gozo-confirm": b"stream", b"gozo-backoff": b"3s"}, "needs 'Gozo-Confirm: reply'"),
        ({b"gozo-confirm": b"reply", b"gozo-ttl": b"3s"}, "for 'Gozo-Confirm: stream' only"),
        ({b"gozo-confirm": b"reply", b"gozo-ack-wait": b"0.9s"}, "'0.9s': expected 1s or more"),
        (
            {b"gozo-confirm": b"reply", b"gozo-ack-wait": b"soon"},
            "'soon': expected seconds",
        ),
        ({b"gozo-confirm": b"reply", b"gozo-backoff": b"1s,,3s"}, "Gozo-Backoff"),
        ({b"gozo-confirm": b"reply", b"gozo-backoff": b",".join([b"1s"] * 21)}, "more than 20"),
        ({b"gozo-confirm": b"reply", b"gozo-overlap": b"skip"}, "recurring schedules only"),
        ({b"gozo-confirm": b"stream", b"gozo-ttl": b"1.5s"}, "'1.5s': expected whole seconds"),
        ({b"gozo-confirm": b"stream", b"gozo-ttl": b"0"}, "invalid Gozo-TTL '0'"),
        ({b"gozo-confirm": b"reply", b"gozo-ack-wait": b"0"}, "'0': expected 1s or more"),
        ({b"gozo-confirm": b"reply", b"gozo-max-age": b"0"}, "Gozo-Max-Age '0': expected more"),
        ({b"gozo-confirm": b"stream", b"gozo-max-age": b"0m"}, "'0m': expected more than 0s"),
        ({b"gozo-expect": b"1h"}, "Gozo-Expect needs 'Gozo-Confirm: reply'"),
        ({b"gozo-confirm": b"stream", b"gozo-expect": b"1h"}, "needs 'Gozo-Confirm: reply'"),
        ({b"gozo-confirm": b"reply", b"gozo-expect": b"0.5s"}, "'0.5s': expected 1s or more"),
        ({b"gozo-confirm": b"claim", b"gozo-expect": b"soon"}, "'soon': expected seconds"),
        ({b"gozo-keep-output": b"yes"}, "Gozo-Keep-Output needs 'Gozo-Confirm: reply'"),
        (
            {b"gozo-confirm": b"reply", b"gozo-keep-output": b"always"},
            "'always': expected yes or no",
        ),
        ({b"gozo-confirm": b"reply", b"gozo-dead-letter": b""}, "Gozo-Dead-Letter is empty"),
    ],
)
def test_what_is_refused(given_: dict[bytes, bytes], words: str) -> None:
    """The message names the header and its value, and what is expected."""
    with pytest.raises(RequestError) as refused:
        read_confirmation(given_)
    assert words in str(refused.value)


def test_a_dead_letter_that_could_never_be_published() -> None:
    """Without a limit, a delivery that a stream confirms is never given up."""
    given_ = {b"gozo-confirm": b"stream", b"gozo-dead-letter": b"dead"}
    with pytest.raises(RequestError, match="Gozo-Dead-Letter needs Gozo-Attempts or Gozo-Max-Age"):
        read_confirmation(given_)
    for limit in ({b"gozo-attempts": b"3"}, {b"gozo-max-age": b"1m"}, {b"gozo-confirm": b"reply"}):
        assert read_confirmation(given_ | limit)[2] is not None
    read_confirmation(given_, recurs=True)


def test_an_overlap_that_is_unknown() -> None:
    """The message lists the valid ones."""
    given_ = {b"gozo-confirm": b"claim", b"gozo-overlap": b"never"}
    with pytest.raises(RequestError, match="'never': expected allow, skip or queue"):
        read_confirmation(given_, recurs=True)
