"""Exit codes, the same in every command, for scripts that switch on them."""

from __future__ import annotations

from gozo.errors import GozoError, NotFoundError, Refusal, RequestError

DONE = 0
FAILED = 1
USAGE = 2
"""An option, an argument or a settings file is invalid."""
NOT_FOUND = 3
"""No such schedule, or already delivered."""
NOT_ALLOWED = 4
"""Authentication or permissions."""
NO_ANSWER = 5
"""No server, no daemon where one is needed, or a timeout."""
INTERRUPTED = 130

_OF_THE_MOMENT = {
    *(Refusal.BUSY, Refusal.UNAVAILABLE, Refusal.SUPERSEDED, Refusal.TOO_LARGE),
    *(Refusal.PROTECTED, Refusal.RUNNING),
    *(Refusal.PAYLOAD_TOO_LARGE, Refusal.TOO_MANY_PENDING, Refusal.TOO_MANY_REQUESTS),
}
"""Refusals that do not mean that the command line is wrong."""


def code_of(error: GozoError) -> int:
    """Return the exit code of a command that ends with an error."""
    if isinstance(error, NotFoundError):
        return NOT_FOUND
    if isinstance(error, RequestError):
        return FAILED if error.code in _OF_THE_MOMENT else USAGE
    return error.exit_code
