"""Which of the messages in flight the server refused."""

from __future__ import annotations

from gozo.delivery.denials import Denials
from gozo.schedule.timetable import Item


class Sent:
    """What is in flight, and how often it was looked at."""

    def __init__(self) -> None:
        self.subjects: list[str] = []
        self.looks = 0

    def item(self, place: int) -> Item:
        """Return the item at a place."""
        return Item(0, place + 1, str(place))

    def find(self, place: int) -> tuple[Item, bytes] | None:
        """Return it with its subject."""
        self.looks += 1
        if place >= len(self.subjects):
            return None
        return self.item(place), self.subjects[place].encode()


def test_each_refusal_is_that_of_the_first_message_to_its_subject() -> None:
    """The server names nothing but the subject, in the order of sending."""
    sent = Sent()
    denials = Denials(sent.find)
    sent.subjects = ["a", "b", "a", "c"]
    for subject in ("a", "c", "a"):
        denials.add(subject)

    taken = [denials.take(sent.item(place)) for place in range(4)]

    assert taken == ["a", None, "a", "c"]
    assert len(denials) == 0


def test_what_is_sent_later_is_found() -> None:
    """A refusal of something else does not end the search for good."""
    sent = Sent()
    denials = Denials(sent.find)
    sent.subjects = ["a"]
    denials.add("b")  # a receipt, say
    sent.subjects += ["b"]
    denials.add("b")

    assert sent.item(0) not in denials
    assert sent.item(1) in denials


def test_after_an_echo_the_rest_is_looked_at_again() -> None:
    """What was refused before stays refused."""
    sent = Sent()
    denials = Denials(sent.find)
    sent.subjects = ["a", "b", "b"]
    denials.add("b")
    sent.subjects = ["b"]  # another message
    denials.restart()
    denials.add("b")

    assert denials.take(sent.item(0)) == "b"
    assert denials.take(sent.item(1)) == "b"


def test_refusals_of_thousands_look_at_each_message_once() -> None:
    """Also where they do not come in order."""
    sent = Sent()
    denials = Denials(sent.find)
    sent.subjects = [f"s{place % 7}" for place in range(10_000)]

    for subject in reversed(sent.subjects):
        denials.add(subject)

    assert len(denials) == len(sent.subjects)
    assert sent.looks <= len(sent.subjects) + 1
