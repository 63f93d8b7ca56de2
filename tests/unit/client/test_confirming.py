"""How a delivery is confirmed, from the arguments of a call to the keys of a file."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gozo.client import ScheduleOptions
from gozo.client.confirming import (
    KEYS,
    NAMES,
    Confirmed,
    ConfirmedBy,
    ConfirmOptions,
    confirmation_table,
    read_options,
)
from gozo.errors import RequestError
from gozo.protocol.confirmation import NAMES as HEADERS
from gozo.schedule.model import Confirm, Confirmation, Overlap


def test_each_option_has_its_header() -> None:
    """Every header of a confirmation has an option of the same name."""
    assert set(NAMES) == ConfirmOptions.__annotations__.keys()
    assert {f"gozo-{key}".encode() for key in KEYS} == HEADERS
    assert ConfirmOptions.__annotations__.items() <= ScheduleOptions.__annotations__.items()


def test_options_are_read_as_a_request_is() -> None:
    """Durations may be given in every form that a request may have."""
    options: ConfirmOptions = {
        "confirm": "claim",
        "attempts": 3,
        "ack_wait": timedelta(seconds=1.5),
        "backoff": ["1s", timedelta(minutes=1)],
        "max_age": "10m",
        "overlap": Overlap.QUEUE,
        "dead_letter": "failed",
        "keep_output": True,
        "expect": "1h",
    }
    found = read_options(options, recurs=True)
    seconds = 1_000_000
    assert found == Confirmed(
        by_stream=False,
        attempts=3,
        details=Confirmation(
            Confirm.CLAIM,
            ack_wait_us=1_500_000,
            backoff_us=(seconds, 60 * seconds),
            max_age_us=600 * seconds,
            overlap=Overlap.QUEUE,
            dead_letter="failed",
            keep_output=True,
            expect_us=3_600 * seconds,
        ),
    )
    assert confirmation_table(found) == {
        "confirm": "claim",
        "attempts": 3,
        "ack-wait": "1.5s",
        "backoff": "1s,60s",
        "max-age": "600s",
        "overlap": "queue",
        "dead-letter": "failed",
        "keep-output": True,
        "expect": "3600s",
    }
    assert read_options(options | {"backoff": "1s,1m"}, recurs=True) == found


@pytest.mark.parametrize(
    ("by", "table"),
    [
        (False, {}),
        (True, {"confirm": True}),
        ("stream", {"confirm": True}),
        ("reply", {"confirm": "reply"}),
        (Confirm.CLAIM, {"confirm": "claim"}),
    ],
)
def test_what_confirms(by: ConfirmedBy, table: dict[str, object]) -> None:
    """True means a stream; options that are not given are not written."""
    options: ConfirmOptions = {"confirm": by, "attempts": 0, "ack_wait": None, "dead_letter": None}
    assert confirmation_table(read_options(options, recurs=False)) == table


def test_a_stream_may_have_more() -> None:
    """A dead letter and its time to live can be given with a stream."""
    options: ConfirmOptions = {
        "confirm": True,
        "max_age": "1h",
        "ttl": "5m",
        "dead_letter": "failed",
    }
    found = read_options(options, recurs=False)
    assert found.by_stream
    assert found.details == Confirmation(
        Confirm.STREAM, max_age_us=3_600_000_000, dead_letter="failed", ttl_us=300_000_000
    )
    assert confirmation_table(found) == {
        "confirm": True,
        "max-age": "3600s",
        "dead-letter": "failed",
        "ttl": "300s",
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"confirm": "me"}, "invalid Gozo-Confirm 'me': expected stream, reply or claim"),
        ({"attempts": 3}, "Gozo-Attempts needs Gozo-Confirm: add it"),
        ({"confirm": True, "attempts": -1}, "invalid Gozo-Attempts '-1': expected a whole number"),
        ({"confirm": True, "ack_wait": "1m"}, "Gozo-Ack-Wait needs 'Gozo-Confirm: reply'"),
        (
            {"confirm": "reply", "ack_wait": timedelta(seconds=-2)},
            "Gozo-Ack-Wait '-2s': exp",
        ),
        ({"confirm": "reply", "max_age": "0"}, "invalid Gozo-Max-Age '0': expected more than 0s"),
        ({"confirm": True, "max_age": timedelta()}, "invalid Gozo-Max-Age '0s': expected more"),
        ({"confirm": "reply", "ack_wait": timedelta()}, "invalid Gozo-Ack-Wait '0s': expected 1s"),
        ({"confirm": True, "ttl": timedelta()}, "invalid Gozo-TTL '0s': expected whole seconds"),
        ({"confirm": "reply", "backoff": []}, "invalid Gozo-Backoff '': expected seconds"),
        ({"confirm": "reply", "overlap": "no"}, "invalid Gozo-Overlap 'no': expected allow, skip"),
        ({"confirm": "reply", "ttl": "1m"}, "Gozo-TTL is for 'Gozo-Confirm: stream' only: omit it"),
    ],
)
def test_what_is_wrong(options: ConfirmOptions, said: str) -> None:
    """The message names the header, its value, and what is expected."""
    with pytest.raises(RequestError) as caught:
        read_options(options, recurs=True)
    assert said in str(caught.value)
