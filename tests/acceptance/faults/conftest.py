"""What the fault suite shares: the number of rounds, and the accounts, shown at the end."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.support.account import Account

ROUNDS = int(os.environ.get("GOZO_TEST_ROUNDS", "1"))

LONG_FORM = pytest.mark.skipif(ROUNDS == 1, reason="in the long form: python -m tests.faults")
"""On cases that resemble another one and would make the usual run too long."""

Note = Callable[[Account], None]
"""Takes an account for the summary, and fails where something was lost or early, came back after
a cancel, or came twice though none of the faults that the test noted explains it."""

_ACCOUNT = "account"


@pytest.fixture
def rounds() -> int:
    """How often a fault is caused in one test: once, or more in the long form."""
    return ROUNDS


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """Keep an account for the end of the run."""

    def take(account: Account) -> None:
        # A property of the test reaches the summary from whichever process the test runs in.
        request.node.user_properties.append((_ACCOUNT, f"{request.node.name}: {account}"))
        assert account.is_sound, str(account)

    return take


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show all accounts."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    accounts = [
        account
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, account in report.user_properties
        if name == _ACCOUNT
    ]
    if accounts:
        terminalreporter.section("accounts of the fault suite")
        for account in accounts:
            terminalreporter.line(str(account))
