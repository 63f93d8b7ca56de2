"""Logs are written without waiting for whoever reads them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from gozo.runtime import log_writer
from gozo.runtime.log_writer import LogWriter
from tests.support.patience import allow


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Make a pipe: the end to read from, and the one to write to."""
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            continue


def read_all(reader: int, count: int) -> bytes:
    """Read so many bytes."""
    data = b""
    while len(data) < count:
        data += os.read(reader, 65_536)
    return data


def test_in_order(pipe: tuple[int, int]) -> None:
    """Everything is written before it ends, whatever can be encoded."""
    reader, writer = pipe
    with LogWriter(writer) as log:
        for text in ("one\n", "zw\u00f6lf\n", "\udcff\n"):
            assert log.write(text) == len(text)
        assert log.fileno() == writer
    os.close(writer)
    assert os.read(reader, 100) == "one\nzw\u00f6lf\n\\udcff\n".encode()
    assert log.waiting == 0


@pytest.mark.parametrize("blocking", [True, False])
def test_nobody_reads(pipe: tuple[int, int], blocking: bool) -> None:
    """What the pipe does not hold waits, and is counted, until there is a reader again."""
    reader, writer = pipe
    os.set_blocking(writer, blocking)
    ready = threading.Event()
    with LogWriter(writer) as log:
        for number in range(300):
            log.write(f"{number:>9999}\n")
        assert log.waiting > 2_000_000
        log.when_below(0, ready.set)
        assert not ready.wait(0.05)
        data = read_all(reader, 3_000_000)
        assert ready.wait(allow(5))
        assert log.waiting == 0
    assert data.split() == [b"%d" % number for number in range(300)]


def test_at_once(pipe: tuple[int, int]) -> None:
    """Where nothing waits, that is said without a further text."""
    ready = threading.Event()
    with LogWriter(pipe[1]) as log:
        log.when_below(10, ready.set)
        assert ready.wait(allow(5))


def test_a_reader_that_is_gone(pipe: tuple[int, int]) -> None:
    """Writing goes on, to nobody."""
    reader, writer = pipe
    os.close(reader)
    with LogWriter(writer) as log:
        log.write("one\n")
        log.write("two\n")
    assert log.waiting == 0


def test_the_end(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for ever for somebody to read the rest."""
    monkeypatch.setattr(log_writer, "LAST", 0.05)
    with LogWriter(pipe[1]) as log:
        log.write("x" * 1_000_000)
    assert log.waiting == 1_000_000
    os.close(pipe[0])
