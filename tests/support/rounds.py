"""How often the fault suite causes each fault, and who takes its accounts."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

import pytest

ROUNDS = int(os.environ.get("GOZO_TEST_ROUNDS", "1"))

LONG_FORM = pytest.mark.skipif(ROUNDS == 1, reason="in the long form: python -m tests.faults")
"""On cases that resemble another one and would make the usual run too long."""


class Sound(Protocol):
    """An account that can be printed."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""


Note = Callable[[Sound], None]
"""Takes an account for the summary, and fails where something was lost or early, came back after
a cancel, or came twice though none of the faults that the test noted explains it."""
