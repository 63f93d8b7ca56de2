"""Where answers come, and the tokens they come under."""

from __future__ import annotations

import re
from itertools import islice, pairwise

from gozo.protocol.inboxes import LENGTH, PORTION, prefix_for, tokens


def test_prefixes() -> None:
    """Those of daemons have a token of their own, whatever they are below."""
    assert prefix_for(None, private=False) == "_INBOX"
    assert prefix_for("_INBOX.ada", private=False) == "_INBOX.ada"
    assert prefix_for(None, private=True) == "_GOZO_INBOX"
    assert prefix_for("_INBOX.ada", private=True) == "_INBOX.ada._GOZO_INBOX"


def test_tokens() -> None:
    """Each is another, fit for a subject, and none follows from those before."""
    made = [*islice(tokens(), 2 * PORTION + 1), *islice(tokens(), PORTION)]
    assert len(set(made)) == len(made) == 3 * PORTION + 1
    assert not any(one[1:] == two[:-1] for one, two in pairwise(made))
    assert all(re.fullmatch(rb"[A-Za-z0-9_-]{%d}" % LENGTH, token) for token in made)
