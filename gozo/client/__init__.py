"""Schedule, cancel, reschedule, get, list and watch from Python: see `Client`."""

import logging

from gozo.client.arguments import ScheduleOptions
from gozo.client.client import Client
from gozo.client.confirming import ConfirmOptions
from gozo.client.events import Following
from gozo.client.failures import Failing
from gozo.client.models import (
    Answer,
    Applied,
    BucketInfo,
    Cancelled,
    Change,
    Counts,
    Event,
    HistoryInfo,
    Message,
    Replica,
    Rival,
    Schedule,
    Server,
    Stored,
    Wanted,
)
from gozo.client.next_times import next_times, times_of
from gozo.client.outcome_model import Outcome
from gozo.client.pull_consumer import Pulled, Pulling
from gozo.client.run_attempt import Report, RunAttempt
from gozo.client.services import WorkerInfo
from gozo.client.subscription import Listening
from gozo.errors import ContradictionError, ExistsError, NotFoundError, UnansweredError

# A library logs nothing by default, as the documentation of logging advises.
logging.getLogger("gozo").addHandler(logging.NullHandler())

__all__ = [
    "Answer",
    "Applied",
    "BucketInfo",
    "Cancelled",
    "Change",
    "Client",
    "ConfirmOptions",
    "ContradictionError",
    "Counts",
    "Event",
    "ExistsError",
    "Failing",
    "Following",
    "HistoryInfo",
    "Listening",
    "Message",
    "NotFoundError",
    "Outcome",
    "Pulled",
    "Pulling",
    "Replica",
    "Report",
    "Rival",
    "RunAttempt",
    "Schedule",
    "ScheduleOptions",
    "Server",
    "Stored",
    "UnansweredError",
    "Wanted",
    "WorkerInfo",
    "next_times",
    "times_of",
]
