"""Fixtures of the fault suite: the number of rounds, and the accounts, shown at the end."""

from __future__ import annotations

import pytest

from tests.support.rounds import ROUNDS, Note, Sound

_ACCOUNT = "account"


@pytest.fixture
def rounds() -> int:
    """How often a fault is caused in one test: once, or more in the long form."""
    return ROUNDS


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """Keep an account for the end of the run."""

    def take(account: Sound) -> None:
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
