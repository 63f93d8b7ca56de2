"""Every error that gozo raises on purpose.

    GozoError                   1   something failed; the message says what and what to do
    ├── SettingsError           2   an option, a variable or a file of settings is wrong
    ├── RequestError            -   a request that gozo refuses; `code` is for programs
    ├── ExistsError             1   there is a schedule with this id already
    ├── NotFoundError           1   there is no schedule with this id; `status` says more
    ├── NotAllowedError         4   authentication or permissions
    ├── NoServerError           5   no server answered in time
    │   ├── DisconnectedError   5   the connection was lost, or is not made yet
    │   └── UnansweredError     5   sent, and no answer: it may or may not have been done
    ├── UnsuitableServerError   1   a server is set up so that gozo cannot work with it
    ├── JetStreamError          1   JetStream is missing, or refused what gozo asked of it
    ├── ForeignDaemonError      1   another bucket's daemon uses our request subject
    ├── ContradictionError      1   daemons of different buckets answered differently
    └── EmbeddedServerError     1   the embedded nats-server cannot start, or has ended

The number is the exit code of a process that ends with the error. Each message is a sentence or
two that name the value and the cure: it is shown to the user as it stands.
Errors of nats-py are translated in `gozo.transport`, and nowhere else.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class GozoError(Exception):
    """The root: whatever gozo raises on purpose is one of these."""

    exit_code: ClassVar[int] = 1


class SettingsError(GozoError):
    """An option, an environment variable or a file of settings has an unusable value."""

    exit_code: ClassVar[int] = 2


class Refusal(StrEnum):
    """Why a request was refused: a word that programs can switch on."""

    INVALID_REQUEST = "invalid_request"
    INVALID_WHEN = "invalid_when"
    INVALID_HEADER = "invalid_header"
    UNKNOWN_HEADER = "unknown_header"
    """A header that begins with `Gozo-` and that this version does not know."""
    INVALID_ID = "invalid_id"
    NO_REPLY_SUBJECT = "no_reply_subject"
    FORBIDDEN_SUBJECT = "forbidden_subject"
    TOO_LARGE = "too_large"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    """More than the daemon's `--max-payload`; the next four are of its other quotas."""
    TOO_FAR_AHEAD = "too_far_ahead"
    TOO_OFTEN = "too_often"
    """More often than the daemon's `--min-interval`."""
    TOO_MANY_PENDING = "too_many_pending"
    TOO_MANY_REQUESTS = "too_many_requests"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"
    """The bucket could not be written; nothing was stored."""
    NEWER_FORMAT = "newer_format"
    """The entry under the id was written by a later version, and is left alone."""
    SUPERSEDED = "superseded"
    """While the request waited, another one for the same id was stored."""
    PROTECTED = "protected"
    """Only administrators may change or cancel the schedule with the id."""
    RUNNING = "running"
    """An occurrence is not settled yet, and the trigger was not forced."""


class RequestError(GozoError):
    """A request that gozo refuses."""

    def __init__(self, code: Refusal, message: str) -> None:
        super().__init__(message)
        self.code = code


class ExistsError(GozoError):
    """There is a schedule with this id, and replacing it was not allowed."""


class NotFoundError(GozoError):
    """There is no schedule with this id.

    `status` is `not_found`, or `already_delivered` where it is known that it was. If an occurrence
    of it is still running, retried or waiting, `reason` says so; otherwise it is empty.
    """

    def __init__(self, message: str, status: str = "not_found", reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NotAllowedError(GozoError):
    """The server refused the credentials, or a permission is missing."""

    exit_code: ClassVar[int] = 4


class NoServerError(GozoError):
    """No server answered within the time allowed."""

    exit_code: ClassVar[int] = 5


class DisconnectedError(NoServerError):
    """There is no connection at this moment, or it was lost while an answer was awaited."""


class UnansweredError(NoServerError):
    """The request was sent and not answered: its outcome is unknown."""


class UnsuitableServerError(GozoError):
    """A server is set up so that gozo cannot work with it; the message names the setting."""


class JetStreamError(GozoError):
    """JetStream is missing, or refused a call.

    `code` is the server's own error code (`err_code`), 0 where there is none.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class ForeignDaemonError(GozoError):
    """A daemon with another bucket already uses the request subject."""


class ContradictionError(GozoError):
    """Daemons of different buckets lead on one request subject, and answered differently.

    Each has done what it answered.
    """


class EmbeddedServerError(GozoError):
    """The embedded nats-server cannot start, or has ended by itself."""


class UnusableError(ValueError):
    """A text is not a valid value; code that knows its source turns this into `SettingsError`.

    The message is the `problem` of `invalid_value`, and never repeats the text.
    """


def invalid_value(source: str, value: object, problem: object) -> str:
    """Return the message about an invalid value: all have this form.

    `source` is what has the value: an option, a variable, a key, an argument or a header. The
    `value` is None if it is secret. `problem` says what is expected, after the reason if that is
    not obvious.
    """
    shown = "(not shown)" if value is None else repr(value)
    return f"invalid {source} {shown}: {problem}"
