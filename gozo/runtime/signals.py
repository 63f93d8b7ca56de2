"""The signals that ask a process to end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnSignal = Callable[[signal.Signals, bool], None]
"""Takes a signal, and whether it is a further one: the sender does not want to wait."""


@contextmanager
def taken(on_signal: OnSignal) -> Iterator[None]:
    """Report the first of SIGTERM, SIGINT and SIGHUP, and each further SIGTERM or SIGINT.

    SIGHUP shows no impatience: a closing terminal sends it more than once, and service managers
    send it along with SIGTERM. So a SIGHUP is never reported as a further signal, and the signal
    after it is not one either. Where it is ignored, as by nohup(1), it stays ignored.
    """
    loop = asyncio.get_running_loop()
    wanted = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        wanted.append(signal.SIGHUP)
    heard: list[signal.Signals] = []

    def hear(number: signal.Signals) -> None:
        again = number is not signal.SIGHUP and any(one is not signal.SIGHUP for one in heard)
        is_first = not heard
        heard.append(number)
        if is_first or again:
            on_signal(number, again)

    for number in wanted:
        loop.add_signal_handler(number, hear, number)
    try:
        yield
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)
