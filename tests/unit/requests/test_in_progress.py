"""The memory that requests take until they are done."""

from __future__ import annotations

import pytest

from gozo.errors import Refusal, RequestError
from gozo.leadership.feed_messages import read_feed_message
from gozo.leadership.handled_feed import FeedWriter
from gozo.protocol.heard import HeardCount
from gozo.requests.in_progress import InProgress
from tests.support.heard import heard


async def test_room() -> None:
    """What waits and what is begun may take so much together; what is done takes nothing."""
    sent: list[bytes] = []
    feed_writer = FeedWriter(sent.append, HeardCount(), b"mine")
    one, other = heard(b"1", 1), heard(b"2", 2)
    in_progress = InProgress(feed_writer, 3 * one.size)
    in_progress.size += one.size + other.size
    in_progress.check_room(one, 0)
    with pytest.raises(RequestError) as caught:
        in_progress.check_room(one, one.size)
    assert caught.value.code is Refusal.BUSY
    in_progress.done(one)
    in_progress.check_room(one, one.size)
    in_progress.drop(other)
    in_progress.check_room(one, 2 * one.size)
    feed_writer.flush()
    message = read_feed_message(sent[-1])
    assert message is not None
    assert (message.digests, message.positions) == (
        [one.digest],
        [1],
    )  # another has what is dropped
