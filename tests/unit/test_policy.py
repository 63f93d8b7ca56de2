"""Which subjects may be targets, and how large a request may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.errors import Refusal, RequestError
from gozo.policy import LONGEST_SUBJECT, ROOM, Policy, check_size

POLICY = Policy("gozo")


@pytest.mark.parametrize(
    "subject",
    [
        *("a", "a.b.c", "_INBOX.x.y", "gozos", "gozo2.admin", "my.gozo", "gozo.reply", "a$b"),
        *("a*b", "\u00fcber.uns", "x" * LONGEST_SUBJECT, "a-b_c:d/e"),
    ],
)
def test_allowed(subject: str) -> None:
    """Ordinary subjects may be targets."""
    POLICY.check_target(subject)


@pytest.mark.parametrize(
    "subject",
    [
        *("$JS.API.STREAM.DELETE.x", "$KV.gozo.x", "$SYS.x", "$", "gozo", "gozo.admin.cancel"),
        *("gozo.event.x", "*", ">", "a.*", "a.*.b", "a.>", ".a", "a.", "a..b", ".", "a b", "a\tb"),
        *("a\rb", "a\nb", "a\x00", "a\x0bb", "a\x7fb", "a\u00a0b", "a\u2028b", "a\x85"),
        *("x" * (LONGEST_SUBJECT + 1), "\u00fc" * 1751, "a\udcff"),
    ],
)
def test_forbidden(subject: str) -> None:
    """What would lend gozo's rights, or cannot be published to, is refused."""
    with pytest.raises(RequestError) as refused:
        POLICY.check_target(subject)
    assert refused.value.code is Refusal.FORBIDDEN_SUBJECT


def test_missing() -> None:
    """A request without a reply subject has a code of its own."""
    with pytest.raises(RequestError) as refused:
        POLICY.check_target("")
    assert refused.value.code is Refusal.NO_REPLY_SUBJECT


def test_own_subjects_follow_the_request_subject() -> None:
    """What is gozo's own depends on where it listens."""
    other = Policy("timer")
    other.check_target("gozo")
    with pytest.raises(RequestError):
        other.check_target("timer")


@given(subject=st.text())
def test_any_subject_is_allowed_or_refused(subject: str) -> None:
    """What is allowed can be written into a protocol line as it is."""
    try:
        POLICY.check_target(subject)
    except RequestError:
        return
    assert len(subject.split()) == 1
    assert not subject.startswith("$")
    assert all(token not in ("", "*", ">") for token in subject.split("."))


def test_sizes() -> None:
    """A payload leaves 4 KiB free, and all together fits into a message."""
    check_size(1_000_000 - ROOM, ROOM, 1_000_000)
    for payload, headers in ((1_000_000 - ROOM + 1, 0), (1_000_000 - ROOM, ROOM + 1)):
        with pytest.raises(RequestError) as refused:
            check_size(payload, headers, 1_000_000)
        assert refused.value.code is Refusal.TOO_LARGE
