"""Schedule, cancel, reschedule, get, list and watch from Python: see `Client`."""

import logging

from gozo.client.chronicle import Following
from gozo.client.client import Client
from gozo.client.coming import next_times, times_of
from gozo.client.listening import Listening
from gozo.client.nouns import (
    Answer,
    Applied,
    BucketInfo,
    Cancelled,
    Change,
    Counts,
    Event,
    HistoryInfo,
    Message,
    Outcome,
    Replica,
    Rival,
    Schedule,
    Server,
    Stored,
    Wanted,
)
from gozo.client.pulling import Pulled, Pulling
from gozo.errors import ContradictionError, ExistsError, NotFoundError, UnansweredError

# What a library logs is for whoever wants it (the logging module's own advice).
logging.getLogger("gozo").addHandler(logging.NullHandler())

__all__ = [
    "Answer",
    "Applied",
    "BucketInfo",
    "Cancelled",
    "Change",
    "Client",
    "ContradictionError",
    "Counts",
    "Event",
    "ExistsError",
    "Following",
    "HistoryInfo",
    "Listening",
    "Message",
    "NotFoundError",
    "Outcome",
    "Pulled",
    "Pulling",
    "Replica",
    "Rival",
    "Schedule",
    "Server",
    "Stored",
    "UnansweredError",
    "Wanted",
    "next_times",
    "times_of",
]
