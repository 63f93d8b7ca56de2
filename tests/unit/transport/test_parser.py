"""Splitting what a server sends into messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.transport.parser import MAX_CONTROL_LINE, MOST_PAYLOAD, Handler, WireParser

BLOCK = b"NATS/1.0\r\nA: b\r\n\r\n"
SENT = b"".join(
    (
        b"PING\r\n",
        b"MSG a.b 1 5\r\nhello\r\n",
        b"MSG a.b 1 reply.to 2\r\n\r\n\r\n",
        b"MSG vertical\x0btab 1 0\r\n\r\n",
        b"MSG not.\xff.utf8 2 1\r\nx\r\n",
        b"HMSG a 1 %d %d\r\n%bbody\r\n" % (len(BLOCK), len(BLOCK) + 4, BLOCK),
        b"HMSG a 1 reply.to %d %d\r\n%b\r\n" % (len(BLOCK), len(BLOCK), BLOCK),
        b"MSG nobody 9 3\r\nabc\r\n",
        b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n",
        b'INFO {"max_payload": 7}\r\n',
        b"+OK\r\nPONG\r\n\r\n",
        b"MSG last 1 1\r\n!\r\n",
    )
)
RECEIVED = [
    (b"a.b", b"", None, b"hello"),
    (b"a.b", b"reply.to", None, b"\r\n"),
    (b"vertical\x0btab", b"", None, b""),
    (b"a", b"", BLOCK, b"body"),
    (b"a", b"reply.to", BLOCK, b""),
    (b"last", b"", None, b"!"),
]


class Receiver:
    """A client that keeps what the parser hands to it."""

    max_payload = 1_000

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes, bytes | None, bytes]] = []
        self.handlers: dict[bytes, Handler] = {b"1": self._take, b"2": self._fail}
        self.written: list[bytes] = []
        self.infos: list[object] = []
        self.errors: list[str] = []

    def _take(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        self.messages.append((subject, reply, headers, payload))

    def _fail(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        raise RuntimeError

    def write(self, data: bytes) -> None:
        """Keep what is sent."""
        self.written.append(data)

    def note_info(self, news: object) -> None:
        """Keep an INFO."""
        self.infos.append(news)

    def server_error(self, text: str) -> None:
        """Keep an error line."""
        self.errors.append(text)


@given(
    cuts=st.lists(st.integers(0, len(SENT)), max_size=12).map(sorted),
    portion=st.integers(1, 20),
)
async def test_any_pieces(cuts: list[int], portion: int) -> None:
    """However the stream is cut and portioned, each message arrives once, whole and in order."""
    receiver = Receiver()
    parser = WireParser(receiver, portion)
    for begin, end in zip([0, *cuts], [*cuts, len(SENT)], strict=True):
        await parser.parse(SENT[begin:end])
    assert receiver.messages == RECEIVED
    assert receiver.written == [b"PONG\r\n"]
    assert receiver.errors == ['Permissions Violation for Publish to "x"']
    assert receiver.infos == [{"max_payload": 7}]


async def test_carried() -> None:
    """Messages show that the link carries any; what the protocol says besides does not."""
    parser = WireParser(Receiver(), 10)
    await parser.parse(b"PING\r\nPONG\r\n")
    assert not parser.carried
    await parser.parse(b"MSG a 9 0\r\n\r\n")
    assert parser.carried
    parser.reset_carried()
    assert not parser.carried


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\n",
        b"MSG a 1 x\r\n",
        b"MSG a 1 -16\r\n",
        b"HMSG a 1 9 5\r\n",
        b"MSG a 1 %d\r\n" % (MOST_PAYLOAD + 1),
        b"INFO {\r\n",
        b"INFO " + b"[" * 100_000 + b"\r\n",
        b"x" * (MAX_CONTROL_LINE + 1),
    ],
)
async def test_not_the_protocol(sent: bytes) -> None:
    """What no server sends is an error at once."""
    with pytest.raises(ValueError, match=r"."):
        await WireParser(Receiver(), 10).parse(sent)


async def test_a_large_message_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of the largest accepted size is not an error, and is dispatched when complete."""
    most = 10_000
    monkeypatch.setattr("gozo.transport.parser.MOST_PAYLOAD", most)
    receiver = Receiver()
    parser = WireParser(receiver, 10)
    await parser.parse(b"MSG a 1 %d\r\n" % most)
    await parser.parse(b"x" * most)
    assert receiver.messages == []
    await parser.parse(b"\r\n")
    assert receiver.messages == [(b"a", b"", None, b"x" * most)]
    with pytest.raises(ValueError, match=r"10001 bytes"):
        await parser.parse(b"MSG a 1 %d\r\n" % (most + 1))
