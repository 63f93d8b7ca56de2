"""Which subjects may be targets, and how large a request may be."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.errors import Refusal, RequestError
from gozo.protocol.subject_policy import (
    LARGEST_BLOCK,
    LEAST_MAX_PAYLOAD,
    LONGEST_SUBJECT,
    ROOM,
    Policy,
    check_size,
    expression,
    not_imported,
    too_small,
)
from gozo.schedule.model import Confirm, Confirmation, Entry
from gozo.settings.model import ConnectionSettings, ServeSettings

POLICY = Policy("gozo")


@pytest.mark.parametrize(
    "subject",
    [
        *("a", "a.b.c", "_INBOX.x.y", "gozos", "gozo2.admin", "my.gozo", "gozo.reply", "a$b"),
        *("a*b", "\u00fcber.uns", "x" * LONGEST_SUBJECT, "\u00fc" * 1750, "a-b_c:d/e"),
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
        *("gozo.ack.x", "x" * (LONGEST_SUBJECT + 1), "\u00fc" * 1751),
        *("a\udcff", "a\ud800", "a\udfff"),
    ],
)
def test_forbidden(subject: str) -> None:
    """What would lend gozo's rights, or cannot be published to, is refused."""
    with pytest.raises(RequestError) as refused:
        POLICY.check_target(subject)
    assert refused.value.code is Refusal.FORBIDDEN_SUBJECT


@pytest.mark.parametrize(
    ("subject", "problem"),
    [
        ("$KV.gozo.x", "begins with '$'"),
        ("a b", "contains ' '"),
        ("a\udc80", "is not UTF-8"),
        ("\udcff", "is not UTF-8"),
        ("a..b", "has an empty token"),
        ("a.*", "has the wildcard '*'"),
        ("\u00fc" * 1751, "has 3502 bytes; the maximum is 3500"),
        ("gozo", "belongs to gozo"),
        ("acme.js.x", "belongs to the daemon's JetStream API: give another"),
        ("_GOZO_INBOX.x", "is an inbox of daemons: give another"),
        ("denied", "matches --deny denied of the daemon: give another"),
    ],
)
def test_sentences(subject: str, problem: str) -> None:
    """They say what the subject was to be, its beginning at least, and what is wrong with it."""
    limited = Policy("gozo", allow=("jobs.>",), deny=("denied",), api_prefix="acme.js")
    with pytest.raises(RequestError, match=f"^the reply subject '.*' {re.escape(problem)}"):
        limited.check_target(subject)
    with pytest.raises(RequestError, match=f"^the receipt subject '.*' {re.escape(problem)}"):
        limited.check_answer(subject)


@pytest.mark.parametrize(
    ("subject", "shown"), [("y" * 80, "y" * 80), ("y" * 80 + "zzz", "y" * 80 + "...")]
)
def test_a_long_subject_is_cut_in_sentences(subject: str, shown: str) -> None:
    """They stay readable."""
    limited = Policy("gozo", allow=("jobs.>",))
    for check, what in ((limited.check_target, "reply"), (limited.check_answer, "receipt")):
        said = re.escape(f"the {what} subject '{shown}' matches no --allow")
        with pytest.raises(RequestError, match=f"^{said}"):
            check(subject)


def test_missing() -> None:
    """A request without a reply subject has a code of its own."""
    with pytest.raises(RequestError, match=r"^the request has no reply subject: ") as refused:
        POLICY.check_target("")
    assert refused.value.code is Refusal.NO_REPLY_SUBJECT


@pytest.mark.parametrize(
    ("subject", "dead_letter", "said"),
    [
        ("$SYS.a", "failed", "the reply subject '$SYS.a' begins with"),
        ("jobs", "$SYS.a", "the dead-letter subject '$SYS.a' begins with"),
        ("jobs", "orders", "the dead-letter subject 'orders' matches no --allow"),
        ("jobs", None, ""),
        ("jobs", "", ""),
        ("jobs", "failed", ""),
    ],
)
def test_entries(subject: str, dead_letter: str | None, said: str) -> None:
    """Both the message and its dead letter, if it has one, need a permitted subject."""
    policy = Policy("gozo", allow=("jobs", "failed"))
    entry = Entry("a", subject, "+1", 1, 1)
    if dead_letter is not None:
        entry = entry._replace(confirmation=Confirmation(Confirm.REPLY, dead_letter=dead_letter))
    if not said:
        policy.check_entry(entry)
        return
    with pytest.raises(RequestError, match=re.escape(said)) as refused:
        policy.check_entry(entry)
    assert refused.value.code is Refusal.FORBIDDEN_SUBJECT


def test_own_subjects_follow_the_request_subject() -> None:
    """What is gozo's own depends on where it listens."""
    other = Policy("timer")
    other.check_target("gozo")
    with pytest.raises(RequestError):
        other.check_target("timer")


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("jobs.>", ["jobs.a", "jobs.a.b"], ["jobs", "jobsx.a", "a.jobs.a"]),
        ("jobs.*", ["jobs.a"], ["jobs", "jobs.a.b"]),
        ("*.done", ["a.done"], ["done", "a.b.done", "a.done.x"]),
        ("a.*.c", ["a.b.c"], ["a.c", "a.b.b.c"]),
        ("tea", ["tea"], ["tea.x", "teas", "te"]),
        ("a+b.c", ["a+b.c"], ["aab.c"]),
        (">", ["a", "a.b"], []),
    ],
)
def test_rules(pattern: str, matching: list[str], others: list[str]) -> None:
    """What is allowed is what a pattern of NATS matches, and what is denied likewise."""
    for allows, subject in [(True, s) for s in matching] + [(False, s) for s in others]:
        assert (expression(("nothing.else", pattern)).match(subject) is not None) is allows
        assert Policy("gozo", allow=("nothing.else", pattern)).may_receive(subject) is allows
        assert Policy("gozo", deny=("nothing.else", pattern)).may_receive(subject) is not allows


def test_deny_wins() -> None:
    """What is denied is not allowed, however exactly it is; the sentence says by which rule."""
    policy = Policy("gozo", allow=("jobs.>", "jobs.secret"), deny=("x", "*.secret"))
    policy.check_target("jobs.open")
    for subject, words in (("jobs.secret", "--deny *.secret"), ("tea", "--allow")):
        with pytest.raises(RequestError, match=re.escape(words)) as refused:
            policy.check_target(subject)
        assert refused.value.code is Refusal.FORBIDDEN_SUBJECT
        assert subject in str(refused.value)


def test_rules_never_lend_what_is_gozos_own() -> None:
    """What is forbidden to all is not to be had by allowing it."""
    policy = Policy("gozo", allow=(">",))
    for subject in ("$JS.API.STREAM.DELETE.x", "gozo", "gozo.admin.cancel"):
        assert not policy.may_receive(subject)


def test_the_api_of_jetstream_is_not_lent_under_another_prefix() -> None:
    """A prefix of the API need not begin with `$`: nothing is sent or answered below it."""
    policy = Policy("gozo", allow=(">",), api_prefix="acme.js")
    policy.check_target("acme.jsx.STREAM.DELETE.x")
    with pytest.raises(RequestError, match="JetStream") as refused:
        policy.check_target("acme.js.STREAM.DELETE.x")
    assert refused.value.code is Refusal.FORBIDDEN_SUBJECT
    assert not policy.may_answer(b"acme.js.STREAM.DELETE.x")


def test_answers_are_under_rules_of_their_own() -> None:
    """They go where schedules may, and to more; what is denied is denied to both."""
    limited = Policy("gozo", allow=("jobs.>",), deny=("*.secret",), answers=("_INBOX.>",))
    for subject in ("_INBOX.a.b", "jobs.done"):
        assert limited.may_answer(subject.encode())
    for subject in ("", "orders", "jobs.secret", "_INBOX.secret", "$JS.API.INFO", "gozo"):
        assert not limited.may_answer(subject.encode())
    with pytest.raises(RequestError, match="no --allow of"):
        limited.check_target("_INBOX.a.b")
    with pytest.raises(RequestError, match="no --allow-answers"):
        limited.check_answer("orders")
    assert Policy("gozo").may_answer(b"orders")
    only_answers = Policy("gozo", answers=("_INBOX.>",))
    only_answers.check_target("orders")
    assert not only_answers.may_answer(b"orders")


def test_receipts_that_clients_cannot_get() -> None:
    """The sentence has their inboxes, and the option that helps."""
    assert POLICY.without_receipts("_INBOX.me") == ""
    assert Policy("gozo", allow=("_INBOX.>",)).without_receipts("_INBOX.me") == ""
    narrow = Policy("gozo", allow=("jobs.>",)).without_receipts("_INBOX.me")
    assert narrow.startswith("_INBOX.me.> is not allowed: ")
    assert narrow.endswith("give --allow-answers '_INBOX.me.>' as well")
    denied = Policy("gozo", deny=("x", "_INBOX.>")).without_receipts("_INBOX.me")
    assert denied.endswith("omit --deny _INBOX.>")
    denied = Policy("gozo", allow=("jobs.>",), deny=("x",)).without_receipts("_INBOX.me")
    assert denied == narrow


def test_inboxes_of_daemons() -> None:
    """Nothing goes there on behalf of others; daemons answer each other below one part of it."""
    for prefix in ("_GOZO_INBOX", "_INBOX._GOZO_INBOX", "mine._GOZO_INBOX"):
        subjects = (f"{prefix}.a.b", f"{prefix}.peers.a.b")
        for policy in (POLICY, Policy("gozo", allow=(">",), answers=(">",))):
            for subject in subjects:
                with pytest.raises(RequestError, match="an inbox of daemons"):
                    policy.check_target(subject)
                assert not policy.may_answer(subject.encode())
            assert not policy.may_answer_daemon(subjects[0].encode())
    limited = Policy("gozo", allow=("jobs.>",), deny=(">",))
    assert limited.may_answer_daemon(b"_GOZO_INBOX.peers.a.b")
    assert limited.may_answer_daemon(b"_GOZO_INBOX.peers.".ljust(LONGEST_SUBJECT, b"x"))
    assert not limited.may_answer_daemon(b"_GOZO_INBOX.peers.".ljust(LONGEST_SUBJECT + 1, b"x"))
    for unreadable in (b"\xff", b"_GOZO_INBOX.peers.\xff"):
        assert not POLICY.may_answer(unreadable)
        assert not POLICY.may_answer_daemon(unreadable)
    for subject in ("_GOZO_INBOX.peers.a b", "$KV.gozo._GOZO_INBOX.peers.a", "x", "jobs.x"):
        assert not limited.may_answer_daemon(subject.encode())
    mine = ServeSettings(ConnectionSettings(inbox_prefix="mine"), allow=("jobs.>",)).policy
    assert mine.may_answer_daemon(b"mine._GOZO_INBOX.peers.a.b")
    assert mine.may_answer(b"mine.a")
    assert mine.may_answer(b"_INBOX.a")
    assert not POLICY.may_answer_daemon(b"mine._GOZO_INBOX.peers.a.b")


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
    for payload, headers, said in (
        (1_000_000 - ROOM + 1, 0, "the payload has 995905 bytes; the maximum is 995904, "),
        (1_000_000 - ROOM, ROOM + 1, "headers have 1000001 bytes; the maximum is 1000000: "),
    ):
        with pytest.raises(RequestError, match=said) as refused:
            check_size(payload, headers, 1_000_000)
        assert refused.value.code is Refusal.TOO_LARGE


@pytest.mark.parametrize("max_payload", [0, 2_048, LEAST_MAX_PAYLOAD - 1])
def test_a_server_that_takes_too_little(max_payload: int) -> None:
    """Nothing is said to fit, and the sentence is about the server: no number is negative."""
    with pytest.raises(RequestError) as refused:
        check_size(0, 0, max_payload)
    assert refused.value.code is Refusal.TOO_LARGE
    assert str(refused.value) == too_small(max_payload)
    assert f"is {max_payload} bytes" in str(refused.value)
    assert too_small(LEAST_MAX_PAYLOAD) == ""
    check_size(0, LEAST_MAX_PAYLOAD, LEAST_MAX_PAYLOAD)


@pytest.mark.parametrize(
    ("payload", "headers", "most"), [(0, LARGEST_BLOCK, 1 << 20), (500, 500, 1_000)]
)
def test_sizes_of_what_is_stored(payload: int, headers: int, most: int) -> None:
    """JetStream stores header blocks of 64 KiB, a bucket as much as it is set to."""
    check_size(payload, headers, 1 << 20, most)
    said = f"{payload + headers + 1} bytes .* {min(most, 65535)}"
    with pytest.raises(RequestError, match=said) as refused:
        check_size(payload, headers + 1, 1 << 20, most)
    assert refused.value.code is Refusal.TOO_LARGE


def test_requests_through_a_service_import() -> None:
    """The message says what does not work, and what to import instead."""
    refused = not_imported("timer", "it accepts no second")
    assert refused.code is Refusal.FORBIDDEN_SUBJECT
    assert "it accepts no second; import timer as a stream instead" in str(refused)
