"""Schedules as a file: what is written is read back, and what is wrong is named."""

from __future__ import annotations

import re
import string
import tomllib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.client import Schedule, Wanted
from gozo.client.comparison import changed, is_past
from gozo.client.confirming import KEYS as CONFIRM
from gozo.client.manifest import difference, parse, write
from gozo.errors import Refusal, RequestError, SettingsError
from gozo.schedule.model import (
    ACK_WAIT_US,
    NEVER,
    Confirm,
    Confirmation,
    Misfire,
    Overlap,
    ScheduleSpec,
)

DUE = datetime(2026, 12, 24, 17, 0, 0, 250_001, tzinfo=UTC)

ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), min_size=1)
lines = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"))
headers = st.tuples(
    st.text(string.ascii_letters + string.digits + "-_!#", min_size=1),
    lines.map(lambda text: text.strip(" \t")),
)
moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@st.composite
def spec(draw: st.DrawFn, when: str) -> ScheduleSpec | None:
    """Make any terms that go with an expression; some have been sent already."""
    recurs = when.startswith(("@every", "30"))
    if not recurs:
        return draw(st.sampled_from([None, ScheduleSpec(misfire=Misfire.SKIP, grace_us=1_500_000)]))
    return ScheduleSpec(
        recurs=True,
        zone=draw(st.sampled_from(["", "Europe/Berlin"])) if when[0] == "3" else "",
        start_us=draw(st.none() | st.integers(0, 2**50)),
        until_us=draw(st.integers(2**50, 2**52) | st.just(NEVER)),
        count=draw(st.integers(0, 999)),
        jitter_us=draw(st.integers(0, 10**9)),
        misfire=draw(st.sampled_from(Misfire)),
        grace_us=draw(st.none() | st.integers(0, 10**9)),
        occurred=draw(st.integers(0, 9)),
        last_us=draw(st.integers(0, 2**50)),
        reckoned_us=draw(st.integers(0, 2**50)),
    )


@st.composite
def confirmed(draw: st.DrawFn, one: Schedule) -> Schedule:
    """Make a schedule that is confirmed in any way."""
    by = draw(st.sampled_from([None, *Confirm]))
    if by is None:
        return one
    spans = st.integers(0, 10**9)
    answered = by is not Confirm.STREAM
    details = Confirmation(
        by,
        ack_wait_us=draw(st.integers(10**6, 10**9)) if answered else ACK_WAIT_US,
        backoff_us=tuple(draw(st.lists(spans, max_size=3))) if answered else (),
        max_age_us=draw(spans),
        overlap=draw(st.none() | st.sampled_from(Overlap)) if answered and one.recurs else None,
        dead_letter=draw(st.sampled_from(["", "failed"])),
        ttl_us=0 if answered else draw(st.integers(0, 999)) * 10**6,
    )
    # A file cannot ask for a dead letter that is never published; see `read_confirmation`.
    is_endless = not (answered or one.recurs or details.max_age_us) and details.dead_letter
    return one._replace(
        confirm=by.value if answered else True,
        attempts=draw(st.integers(1 if is_endless else 0, 999)),
        confirmation=None if details == Confirmation(Confirm.STREAM) else details,
    )


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Make any schedule, as the bucket may hold it."""
    due = draw(moments)
    payload = draw(st.binary() | st.text(st.characters(exclude_categories=["Cs"])).map(str.encode))
    pause = draw(st.none() | lines.map(lambda text: " ".join(text.split())[:200].strip()))
    when = draw(
        st.sampled_from(
            ["+10", "+1h30m", "0", "@at 2026-12-24T18:00:00+01:00", "@every 90s", "30 2 * * 1-5"]
        )
    )
    found = Schedule(
        id=draw(ids),
        key="key",
        subject=draw(st.text(string.ascii_lowercase, min_size=1)),
        when=when,
        spec=draw(spec(when)),
        due=due,
        created=due - timedelta(hours=1) if due.year > 1970 else due,
        size=len(payload),
        headers=tuple(draw(st.lists(headers, max_size=4))),
        payload=payload,
        managed_by=draw(st.sampled_from(["", "a", "b"])),
        state="paused" if pause is not None else "pending",
        reason=pause or "",
        protected=draw(st.booleans()),
    )
    return draw(confirmed(found))


def no_file(path: str) -> bytes:
    """Stand in for a folder without files."""
    raise FileNotFoundError(2, "No such file or directory")


def read(text: str) -> tuple[Wanted, ...]:
    """Read a file that wants nothing special."""
    return parse(text, "f.toml", "f", no_file).wanted


@given(st.lists(schedules(), max_size=5, unique_by=lambda one: one.id))
def test_what_is_written_is_read_back(found: list[Schedule]) -> None:
    """Any schedule, byte for byte: a file that was exported differs in nothing."""
    text = write(found)
    wanted = read(text)
    assert [one.id for one in wanted] == [one.id for one in found]
    for new, old in zip(wanted, found, strict=True):
        assert changed(new, old) == (() if old.managed_by else ("set",))
        shown = difference(new.id, old, new, ("a", "b"))
        assert [line for line in shown[3:] if line[0] != " "] == (
            [] if old.managed_by else ['+set = "f"']
        )
    # In another bucket it is a schedule of its own, and due at the same moment.
    again = [
        old._replace(when=new.when, managed_by=new.managed_by)
        for new, old in zip(wanted, found, strict=True)
    ]
    assert read(write(again)) == wanted
    assert all(char.isprintable() or char == "\n" for char in text)


@given(schedules(), schedules())
def test_what_differs_is_named(one: Schedule, other: Schedule) -> None:
    """Each key that differs, and no other, is one that is changed."""
    (wanted,) = read(write([other._replace(id=one.id)]))
    keys = changed(wanted, one)
    assert ("subject" in keys) == (one.subject != other.subject)
    assert ("payload" in keys) == (one.payload != other.payload)
    assert ("headers" in keys) == (one.headers != other.headers)
    assert ("attempts" in keys) == (one.attempts != other.attempts)
    assert ("confirm" in keys) == (one.confirm != other.confirm)
    if one.confirm == other.confirm:
        assert bool({*CONFIRM[2:]} & {*keys}) == (one.confirmation != other.confirmation)
    assert ("protect" in keys) == (other.protected and not one.protected)
    assert ("set" in keys) == (one.managed_by != (other.managed_by or "f"))
    assert bool(difference(wanted.id, one, wanted, ("a", "b"))) == bool(keys)


def test_a_file() -> None:
    """As people write it."""
    text = """
        set = "nightly jobs"
        [schedules.backup]   # a comment
        subject = "jobs.backup"
        when = "+10m"
        payload-base64 = "AP8="
        headers = ["Content-Type: text/plain", "a:b: c"]
        confirm = true
        attempts = 3
        [schedules."a.b"]
        subject = "x"
        when = "0"
        payload-file = "file"
        [schedules.call]
        subject = "service"
        when = "@daily"
        confirm = "reply"
        ack-wait = "1m"
        backoff = ["1s", "10s"]
        max-age = "10m"
        overlap = "skip"
        dead-letter = "failed"
        [schedules.keep]
        subject = "stored"
        when = "0"
        confirm = "stream"
        ttl = "5m"
    """
    found = parse(text, "f.toml", "f", lambda path: path.encode())
    assert found.managed_by == "nightly jobs"
    assert found.wanted == (
        Wanted(
            *("backup", "jobs.backup", "+10m", b"\0\xff"),
            headers=(("Content-Type", "text/plain"), ("a", "b: c")),
            confirm=True,
            attempts=3,
            managed_by="nightly jobs",
        ),
        Wanted("a.b", "x", "0", b"file", managed_by="nightly jobs"),
        Wanted(
            *("call", "service", "@daily"),
            confirm="reply",
            spec=ScheduleSpec(recurs=True),
            managed_by="nightly jobs",
            ack_wait="1m",
            backoff=["1s", "10s"],
            max_age="10m",
            overlap="skip",
            dead_letter="failed",
        ),
        Wanted("keep", "stored", "0", confirm="stream", managed_by="nightly jobs", ttl="5m"),
    )
    assert read("") == ()
    assert parse("", "f.toml", "f", no_file).managed_by == "f"
    assert parse('set = "a"', "f.toml", "f", no_file, managed_by="b").managed_by == "b"


GOOD = 'subject = "s"\nwhen = "+1"\n'
REPLY = GOOD + 'confirm = "reply"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schedules = 1", "f.toml: schedules is not a table"),
        (
            "[schedule.a]",
            "f.toml: unknown key 'schedule': did you mean 'schedules",
        ),
        ("set = 1", "f.toml: invalid set 1: expected 1 to 128 printable"),
        ("set = ''", "f.toml: invalid set '': expected 1 to 128 printable"),
        ('set = " a"', "f.toml: invalid set ' a': expected 1 to 128 printable"),
        ("[schedules]\na = 1", "f.toml: [schedules.a]: it is not a table"),
        (f"[schedules.a]\n{GOOD}wen = 1", "[schedules.a]: unknown key 'wen': .*'when'"),
        (f"[schedules.a]\n{GOOD}zzz = 1", "unknown key 'zzz': known keys are subject, when"),
        (f"[schedules.a.b]\n{GOOD}", '[schedules.a]: b: .* an id with a dot: [schedules."a.b"]'),
        ('[schedules.a]\nwhen = "+1"', "f.toml: [schedules.a]: subject: it is missing"),
        ('[schedules."a b"]\nsubject = "s"', 'f.toml: [schedules."a b"]: when: it is missing'),
        (
            "[schedules.a]\nsubject = 1",
            "[schedules.a]: invalid subject 1: expected a string in quotation marks",
        ),
        (f"[schedules.a]\n{GOOD}confirm = 1", "invalid confirm 1: expected true or false"),
        (f"[schedules.a]\n{GOOD}attempts = true", "invalid attempts True: expected a whole number"),
        (
            f"[schedules.a]\n{GOOD}headers = [1]",
            "invalid headers '[1]': expected a list of strings",
        ),
        (f"[schedules.a]\n{GOOD}headers = ['x']", "invalid headers 'x': expected 'Name: value'"),
        (f"[schedules.a]\n{GOOD}confirm = 'me'", "invalid confirm 'me': expected stream, reply or"),
        (f"[schedules.a]\n{GOOD}attempts = 2", "attempts needs confirm: add it"),
        (f"[schedules.a]\n{GOOD}backoff = 1", 'invalid backoff 1: expected a string such as "1s,'),
        (f"[schedules.a]\n{REPLY}backoff = ['x']", "invalid backoff 'x': expected seconds"),
        (f"[schedules.a]\n{REPLY}ack-wait = '0.5'", "invalid ack-wait '0.5': expected 1s or more"),
        (f"[schedules.a]\n{REPLY}max-age = 'x'", "invalid max-age 'x': expected seconds"),
        (f"[schedules.a]\n{REPLY}max-age = '0'", "invalid max-age '0': expected more than 0s"),
        (f"[schedules.a]\n{REPLY}overlap = 'skip'", "overlap is for recurring"),
        (f"[schedules.a]\n{REPLY}dead-letter = ''", "dead-letter is empty"),
        (
            f"[schedules.a]\n{GOOD}confirm = true\ndead-letter = 'a'",
            "[schedules.a]: dead-letter needs attempts or max-age, since",
        ),
        (f"[schedules.a]\n{REPLY}ttl = '5m'", 'ttl is for confirm = "stream" only'),
        (f"[schedules.a]\n{GOOD}payload = ''\npayload-file = ''", "payload-file: .* already in"),
        (
            f"[schedules.a]\n{GOOD}payload-base64 = 'é'",
            "invalid payload-base64 'é': it cannot be read",
        ),
        (
            f"[schedules.a]\n{GOOD}payload-base64 = 'AP8'",
            "invalid payload-base64 'AP8': expected base64",
        ),
        (
            f"[schedules.a]\n{GOOD}payload-file = 'x'",
            "invalid payload-file 'x': it cannot be read (No such",
        ),
        (
            f"[schedules.a]\n{GOOD}time-zone = 'Europe/Berlin'",
            "[schedules.a]: time-zone is for cron expressions only",
        ),
        (
            f"[schedules.a]\n{GOOD}misfire = 'x'",
            "[schedules.a]: invalid misfire 'x': expected once, all or skip",
        ),
        (
            f"[schedules.a]\n{GOOD}misfire-grace = '1'",
            "[schedules.a]: misfire-grace needs 'misfire: skip'",
        ),
        (
            f"[schedules.a]\n{GOOD}until = '+1d'",
            "invalid until '+1d': it would mean another time on each day",
        ),
        (f"[schedules.a]\n{GOOD}note = 'x'", "[schedules.a]: note: .* add paused = true"),
        (
            f"[schedules.a]\n{GOOD}paused = 'x'",
            "[schedules.a]: invalid paused 'x': expected true or false",
        ),
        (
            f"[schedules.a]\n{GOOD}paused = true\nnote = '{'x' * 201}'",
            "[schedules.a]: note: the note has 201",
        ),
        (f"[schedules.a]\n{GOOD}count = '1'", "invalid count '1': expected a whole number"),
        (
            "[schedules.a]\nsubject = 's'\nwhen = '61 * * * *'",
            "[schedules.a]: invalid when '61 * * * *': minute",
        ),
        ("[schedules.a\n", "f.toml is not TOML: .*line 1"),
        (f"a = {'9' * 5000}", "f.toml is not TOML: "),
        (f"a = {'[' * 5000}", "f.toml is not TOML: "),
    ],
)
def test_what_is_wrong(text: str, said: str) -> None:
    """The file, the table and the key are named, and how to mend it."""
    pattern = ".*".join(re.escape(part) for part in said.split(".*"))
    with pytest.raises(SettingsError, match=pattern):
        read(text)


def test_all_that_is_wrong_is_told() -> None:
    """Each mistake on a line; what gozo itself would refuse among them."""

    def check(wanted: Wanted) -> None:
        if wanted.when == "+7":
            raise RequestError(Refusal.INVALID_WHEN, "cannot be read")

    text = f"[schedules.a]\n[schedules.b]\n{GOOD}[schedules.c]\nsubject='s'\nwhen='+7'\n[x]"
    with pytest.raises(SettingsError) as caught:
        parse(text, "f.toml", "f", no_file, check)
    first, second, third = str(caught.value).splitlines()
    assert "'x'" in first
    assert "[schedules.a]: subject" in second
    assert third == "f.toml: [schedules.c]: when: cannot be read"


def test_a_delay_stays_the_same() -> None:
    """It is compared as it is written; a moment as what it is, however it is written."""
    old = Schedule("a", "a", "s", "+10m", DUE, DUE, 0)
    moment = "2026-12-24T18:00:00.250001+01:00"
    assert changed(Wanted("a", "s", "+10m"), old) == ()
    assert changed(Wanted("a", "s", moment), old) == ()
    assert changed(Wanted("a", "s", "+600"), old) == ("when",)
    assert changed(Wanted("a", "s", "2026-12-24T18:00:00+01:00"), old) == ("when",)
    assert tomllib.loads(write([old]))["schedules"]["a"]["when"] == "2026-12-24T17:00:00.250001Z"
    kept = old._replace(when=moment)
    assert tomllib.loads(write([kept]))["schedules"]["a"]["when"] == moment
    unreadable = old._replace(when="soon")
    assert tomllib.loads(write([unreadable])) == tomllib.loads(write([old]))


def test_what_has_passed() -> None:
    """A moment may have; a delay never has."""
    assert is_past("1", 1_000_001)
    assert not is_past("1", 1_000_000)
    assert not is_past("+0", 1_000_001)


def test_differences_read_as_those_of_diff() -> None:
    """What is new, what is gone and what is changed."""
    old = Schedule(
        "a.b", "k", "s", "1", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), DUE, 1, payload=b"x"
    )
    new = Wanted("a.b", "s", "1", b"y")
    names = ("gozo", "f.toml")
    assert difference("a.b", old, new, names) == [
        *("--- gozo", "+++ f.toml", "@@ -1,4 +1,4 @@", ' [schedules."a.b"]'),
        *(' subject = "s"', ' when = "1"', '-payload = "x"', '+payload = "y"'),
    ]
    assert difference("a.b", None, new, names)[3] == '+[schedules."a.b"]'
    assert difference("a.b", old, None, names)[3] == '-[schedules."a.b"]'
