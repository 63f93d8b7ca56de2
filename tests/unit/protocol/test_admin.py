"""What is wrong with a call of a verb."""

from __future__ import annotations

import pytest

from gozo.errors import RequestError
from gozo.protocol.admin import parse_ids, parse_reschedule


@pytest.mark.parametrize("payload", [b"{}", b'{"ids": "a"}', b'{"ids": []}'])
def test_what_is_no_list_of_ids_is_refused_with_its_bounds(payload: bytes) -> None:
    """No list, an empty one, or none at all: the sentence says how many ids there may be."""
    with pytest.raises(RequestError, match="ids is not a list of 1 to 1000 ids"):
        parse_ids(payload, 1024 * 1024)


@pytest.mark.parametrize("payload", [b'{"id": "a"}', b'{"id": "a", "when": 10}'])
def test_a_reschedule_needs_an_expression(payload: bytes) -> None:
    """One that is missing, or a number: the sentence says what is expected."""
    with pytest.raises(RequestError, match="when is not a string: give an expression"):
        parse_reschedule(payload)
