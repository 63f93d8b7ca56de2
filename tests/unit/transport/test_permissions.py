"""What is done with a permission that the server denies."""

from __future__ import annotations

import asyncio

import pytest

from gozo.errors import NotAllowedError
from gozo.runtime.logs import get_logger
from gozo.transport.commands import Reply
from gozo.transport.permissions import MOST_DENIED, Denials, read_denial


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test use up the rate at which another may log."""
    monkeypatch.setattr("gozo.transport.permissions.log", get_logger("gozo.connection"))


@pytest.mark.parametrize(
    ("text", "denial"),
    [
        ('Permissions Violation for Publish to "a.b"', ("publish", "a.b")),
        ('Permissions Violation for Subscription to "a.>"', ("subscription", "a.>")),
        ('permissions violation for publish to "q\\"u\\\\o"', ("publish", 'q"u\\o')),
        ('Permissions Violation for Publish to "a\\x00b"', ("publish", "a\\x00b")),
        ('Permissions Violation for Subscription to "a" using queue "q"', ("subscription", "a")),
        ("Authorization Violation", None),
        ('Permissions Violation for Publish to "a', None),
    ],
)
def test_read(text: str, denial: tuple[str, str] | None) -> None:
    """The server quotes subjects as Go does."""
    assert read_denial(text) == denial


def logged(caplog: pytest.LogCaptureFixture) -> int:
    """Return how many denials were logged, and forget them."""
    count = sum("permission.denied" in record.getMessage() for record in caplog.records)
    caplog.clear()
    return count


def test_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each group is logged once for each link and each grant; listeners get every denial."""
    denials = Denials()
    heard: list[tuple[str, str]] = []
    denials.listeners.append(lambda kind, subject: heard.append((kind, subject)))
    for subject in ("inbox.1", "inbox.2"):
        denials.report("publish", subject, "inbox.")
    assert heard == [("publish", "inbox.1"), ("publish", "inbox.2")]
    assert logged(caplog) == 1
    for _ in range(2):
        denials.report("subscription", "a", "a")
    assert logged(caplog) == 1
    denials.granted("a")
    denials.report("subscription", "a", "a")
    assert logged(caplog) == 1
    denials.clear()
    denials.report("publish", "inbox.3", "inbox.")
    assert logged(caplog) == 1


def test_few_are_remembered() -> None:
    """Any number of subjects may be denied: the memory for them is bounded."""
    denials = Denials()
    for number in range(2 * MOST_DENIED + 1):
        denials.report("publish", f"a.{number}", f"a.{number}")
    assert len(denials._logged) <= MOST_DENIED


def test_claimed(caplog: pytest.LogCaptureFixture) -> None:
    """What is claimed goes to no listener and not to the log, whoever else claims something."""
    denials = Denials()
    heard: list[str] = []
    denials.listeners.append(lambda _, subject: heard.append(subject))
    denials.claims.append(lambda _, subject: subject == "one")
    denials.claims.append(lambda _, subject: subject == "two")
    for subject in ("one", "two", "three"):
        denials.report("publish", subject, subject)
    assert heard == ["three"]
    assert logged(caplog) == 1


async def test_failing() -> None:
    """An answer fails if its own subject is denied, and only for as long as it is awaited."""
    denials = Denials()
    answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    with denials.failing("a", answer, "a.>"):
        denials.report("subscription", "a", "a")
        denials.report("publish", "b", "b")
        assert not answer.done()
        denials.report("publish", "a", "a")
        denials.report("publish", "a", "a")
    with pytest.raises(NotAllowedError, match=r"publish to a\.>: grant"):
        await answer
    assert denials.listeners == []
