"""Whether a replica serves, from what it knows of itself."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from gozo.leadership.serving import UNFIT_TIME, Course, Facts, Verdict, judge, needed

LEADER = Facts(leads=True, is_started=True)
STANDBY = replace(LEADER, leads=False)

PROBLEMS: dict[str, tuple[dict[str, Any], str, bool]] = {
    "lost": ({"lost": ("requests",)}, "the requests connection is lost", True),
    "unheard": (
        {"unheard": ("gozo", "gozo.admin.told")},
        "subscribe to gozo, gozo.admin.told",
        True,
    ),
    "follows": ({"follows": False}, "has not read the whole bucket", True),
    "mapped": ({"mapped": "the account maps it"}, "the account maps it", False),
    "unwritable": ({"unwritable": "it is sealed"}, "cannot write the bucket: it is sealed", True),
    "mute": ({"mute": "no permission"}, "confirm deliveries: no permission", True),
    "silent": ({"silent": True}, "answers reads but no writes", False),
}
"""Facts of either role, what is said of them, and whether another replica may do better."""


@pytest.mark.parametrize("facts", [LEADER, STANDBY], ids=["leader", "standby"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_either_role(facts: Facts, problem: str) -> None:
    """Each reason alone is enough, for a leader and for a standby alike."""
    changed, words, is_own = PROBLEMS[problem]
    verdict = judge(replace(facts, **changed))
    assert not verdict.serves
    assert words in verdict.problem
    assert verdict.is_own == is_own


def test_each_role() -> None:
    """A leader has to deliver; a standby only has to be fit to lead."""
    assert judge(LEADER) == judge(STANDBY) == Verdict()
    assert judge(LEADER).serves
    assert not judge(replace(LEADER, delivers=False)).serves
    assert judge(replace(STANDBY, delivers=False)).serves
    assert judge(replace(LEADER, unfit="its clock")).serves
    assert judge(replace(STANDBY, unfit="its clock")) == Verdict("its clock", is_own=True)


def test_every_fact_counts() -> None:
    """No fact is gathered for nothing."""
    neutral = {"leads", "is_started", "waits", "delivers", "unfit"}
    assert {one.name for one in fields(Facts)} == neutral | set(PROBLEMS)


def test_at_the_start() -> None:
    """What it waits for is said, and it is not another's turn because it loads for long."""
    starting = replace(STANDBY, is_started=False)
    assert judge(starting) == Verdict("it is starting")
    assert "refused" in judge(replace(starting, waits="refused")).problem
    assert "sealed" in judge(replace(starting, unwritable="sealed")).problem


def test_how_long() -> None:
    """It ails once one reason of its own has lasted; another reason begins anew."""
    course = Course()
    course.note(Verdict("lost", is_own=True), 10.0)
    course.note(Verdict("lost", is_own=True), 10.0 + UNFIT_TIME)
    assert not course.is_ailing(9.9 + UNFIT_TIME)
    assert course.is_ailing(10.0 + UNFIT_TIME)
    course.note(Verdict("reading", is_own=True), 20.0)
    assert not course.is_ailing(20.0)
    course.note(Verdict("silent"), 30.0)
    assert course.lasts(40.0)
    assert not course.is_ailing(40.0)
    course.note(Verdict(), 40.0)
    assert not course.lasts(50.0)


def test_which_subjects_are_needed() -> None:
    """Requests, verbs, what leaders tell, and answers; not that anybody can find the daemon."""
    refused = ["gozo", "gozo.admin.cancel", "_GOZO_INBOX.x.*", "$SRV.PING", "gozo2", "gozo.event.x"]
    refused.append("gozo.admin.keys")  # without an answer there, readers read the bucket
    refused.append("_GOZO_INBOX.peers.y.*")  # another one each time
    assert needed(refused, "gozo") == ("_GOZO_INBOX.>", "gozo", "gozo.admin.cancel")
