"""What is measured: each scenario as data, with the figures that it shows and what is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto


class Kind(Enum):
    """How a scenario is measured; see `measuring`."""

    SPREAD = auto()
    """Sent at full speed, due later, at a rate or all at one instant."""
    SINGLE = auto()
    """Due at once, one after the other: the next is sent when the last has arrived."""
    RESTART = auto()
    """Due while the scheduler does not run; counted from its start on."""
    IDLE = auto()
    """Nothing due."""
    CONFIRMED = auto()
    """Confirmed by a receiver that answers at once."""
    RUNNING = auto()
    """In progress at receivers that say every ten seconds that they are at work."""
    AGED = auto()
    """Due at a steady rate, each asked for shortly before, with a look before and after."""


COUNT = ""
"""The unit of what is counted."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the report: a key of `Outcome.figures`, and what is asked of gozo."""

    key: str
    label: str
    unit: str
    """"/s", of which more is better, or one of which less is; `COUNT` for what has none."""
    at_most: float | None = None
    at_least: float | None = None
    share: float | None = None
    """At most this share of what the server's own schedules reach."""

    def is_reached(self, value: float, rival: float | None) -> bool | None:
        """Tell whether a value is what is asked; None where nothing is, or it cannot be told."""
        if self.at_most is not None:
            return value <= self.at_most
        if self.at_least is not None:
            return value >= self.at_least
        if self.share is not None and rival is not None:
            return value <= self.share * rival
        return None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario. Sizes in bytes of payload, times in seconds."""

    name: str
    title: str
    """With the names of numbers in braces, such as {count}."""
    figures: tuple[Figure, ...]
    kind: Kind = Kind.SPREAD
    count: int = 20_000
    rate: float = 2_000
    """Schedules due per second; 0: all at one instant."""
    size: int = 100
    pending: int = 0
    """Far-off schedules of the same size that are there besides."""
    requests: float = 0
    """Requests for far-off schedules that come in per second meanwhile."""
    ids: bool = True
    entries: bool = False
    """Written to the bucket by the sender itself; for the server's own it is always so."""
    lead: float | None = None
    """From the first request to the first due time; None: enough to store all before."""
    duration: float = 30
    """How long an idle scheduler is watched."""
    confirmed_beside: float = 0
    """Of `CONFIRMED`: schedules due per second that are confirmed, beside those that are not."""
    rivalled: bool = True
    """Whether the server's own schedules can do the same."""
    shortened: bool = False
    """Whether a scale leaves as it is what is pending besides."""

    @property
    def heading(self) -> str:
        """The title, with its numbers."""
        numbers = ("count", "rate", "size", "pending", "requests", "duration")
        return self.title.format(**{name: f"{getattr(self, name):,.0f}" for name in numbers})

    @property
    def lead_time(self) -> float:
        """From the first request to the first due time, in seconds."""
        return 1 + self.count / 8_000 if self.lead is None else self.lead

    def scaled(self, scale: float) -> Scenario:
        """Return the same scenario with fewer schedules, at the same rates."""
        return replace(
            self,
            count=max(1, round(self.count * scale)),
            pending=self.pending if self.shortened else round(self.pending * scale),
            duration=self.duration * scale,
        )


def lateness(p50: float | None = None, p99: float | None = None) -> tuple[Figure, ...]:
    """Return the figures of lateness, with what is asked of them in milliseconds."""
    return (
        Figure("p50_ms", "lateness p50", "ms", at_most=p50),
        Figure("p99_ms", "lateness p99", "ms", at_most=p99),
        Figure("max_ms", "lateness at most", "ms"),
    )


def growth(label: str, pending: int) -> Scenario:
    """Return the scenario of `GROWTH` with so many pending."""
    title = "{rate} due per second while {pending} others are pending"
    return Scenario(f"growth-{label}", title, (*GROWING, DELIVERED), pending=pending)


GROWING = (
    Figure("p99_ms", "lateness p99", "ms"),
    Figure("cpu_us", "CPU per delivery", "us"),
)
"""What is compared over all of `GROWTH`."""

DELIVERED = Figure("delivered_before", "delivered before", COUNT)
"""How much the scheduler had delivered on this storage when it was measured."""

GROWTH = (
    growth("1k", 1_000),
    growth("10k", 10_000),
    growth("100k", 100_000),
    growth("1m", 1_000_000),
)
"""The same load with ever more pending: what it costs is to stay the same."""

FLATNESS = 2.0
"""How much larger a figure of `GROWTH` may be at its most than at its least."""

MILLION = 1_000_000


def compared(key: str, label: str, times: float) -> tuple[Figure, ...]:
    """Return the figures of something that takes seconds, before a long run and after it."""
    return (
        Figure(f"{key}_s_before", f"{label} before", "s"),
        Figure(f"{key}_s", f"{label} after", "s"),
        Figure(f"{key}_times", "  times as long", "x", at_most=times),
    )


def started(key: str, label: str) -> tuple[Figure, ...]:
    """Return the figures of a start, before a long run and after it."""
    before, after, _ = compared(key, label, 0)
    return (before, after, Figure(f"{key}_more", "  longer by", "s", at_most=0.5))


def kept(key: str, unit: str, label: str, *, at_most: float | None = None) -> tuple[Figure, ...]:
    """Return the figures of what may not grow over a long run: before, half-way, at its end."""
    figures = (
        Figure(f"{key}_before", f"{label} before", unit),
        Figure(f"{key}_half", "  half-way", unit),
        Figure(key, "  at the end", unit),
    )
    if at_most is None:
        return figures
    return (*figures, Figure(key.replace("_mb", "_more"), "  more", unit, at_most=at_most))


def steady(key: str, unit: str, label: str) -> tuple[Figure, ...]:
    """Return the figures of what a delivery costs at the beginning and the end of a long run."""
    return (
        Figure(f"{key}_{unit}_first", f"{label} at the beginning", unit),
        Figure(f"{key}_{unit}", "  at the end", unit),
        Figure(f"{key}_times", "  times as much", "x", at_most=1.1),
    )


SCENARIOS = (
    Scenario("steady", "{count} with ids, {rate} due per second", lateness(0.2, 1.0)),
    Scenario(
        "fast",
        "{count} with ids, {rate} due per second",
        lateness(p99=3.0),
        count=100_000,
        rate=10_000,
    ),
    Scenario(
        "burst",
        "{count} with ids due at one instant",
        (
            Figure("max_ms", "last delivered after", "ms", at_most=500),
            Figure("p99_ms", "lateness p99", "ms", share=1 / 3),
        ),
        count=100_000,
        rate=0,
    ),
    Scenario(
        "stored",
        "{count} requests with ids at full speed",
        (Figure("stored_per_s", "stored", "/s", at_least=40_000),),
        count=200_000,
        rate=0,
    ),
    Scenario(
        "accepted",
        "{count} requests without ids at full speed",
        (
            Figure("stored_per_s", "accepted", "/s", at_least=100_000),
            Figure("delivered_per_s", "delivered", "/s"),
        ),
        count=200_000,
        rate=0,
        ids=False,
        rivalled=False,
    ),
    Scenario(
        "single",
        "{count} requests with ids for now, one after the other",
        (Figure("p50_ms", "request to delivery p50", "ms", at_most=1.0),),
        kind=Kind.SINGLE,
        count=1_000,
    ),
    Scenario(
        "single-no-id",
        "{count} requests without ids for now, one after the other",
        (Figure("p50_ms", "request to delivery p50", "ms", at_most=1.0),),
        kind=Kind.SINGLE,
        count=1_000,
        ids=False,
        rivalled=False,
    ),
    Scenario(
        "confirmed",
        "{count} with ids that their receiver confirms at once, {rate} due per second",
        (
            *lateness(p99=2.0),
            Figure("settled_p99_ms", "answer to settled p99", "ms", at_most=25),
            Figure("cpu_us", "CPU per delivery", "us"),
        ),
        kind=Kind.CONFIRMED,
        rivalled=False,
    ),
    Scenario(
        "confirmed-beside",
        "{count} with ids, {rate} due per second, beside 500 per second that are confirmed",
        lateness(),
        kind=Kind.CONFIRMED,
        confirmed_beside=500,
        rivalled=False,
    ),
    Scenario(
        "running",
        "{count} in progress at receivers that say so every ten seconds",
        (
            Figure("cpu_percent", "CPU, of one core", "%", at_most=10),
            Figure("memory_more", "memory more than before", "MB", at_most=60),
        ),
        kind=Kind.RUNNING,
        count=10_000,
        rate=1_000,
        duration=60,
        rivalled=False,
    ),
    *GROWTH[:3],
    Scenario(
        "payloads",
        "{pending} of {size} bytes pending, {count} more due at {rate} per second",
        (*lateness(0.2, 1.0), Figure("peak_mb", "memory at most", "MB", at_most=250)),
        count=10_000,
        size=20_000,
        pending=90_000,
        entries=True,
    ),
    Scenario(
        "restart",
        "a start with {pending} pending, until what was missed is delivered",
        (
            Figure("restart_s", "delivered after", "s", at_most=12),
            Figure("memory_mb", "memory", "MB"),
            Figure("peak_mb", "memory at most", "MB", at_most=350),
        ),
        kind=Kind.RESTART,
        count=1_000,
        rate=0,
        pending=MILLION,
        entries=True,
        lead=2,
    ),
    Scenario(
        "idle",
        "{pending} pending, none due for {duration} seconds",
        (Figure("cpu_percent", "CPU, of one core", "%", at_most=1.0),),
        kind=Kind.IDLE,
        count=0,
        pending=MILLION,
    ),
    Scenario(
        "busy",
        "{rate} due per second while {pending} others are pending and {requests} requests "
        "come in per second",
        lateness(p99=5.0),
        pending=MILLION,
        requests=5_000,
    ),
    GROWTH[3],
    Scenario(
        "aged",
        "{count} with ids, {rate} due per second, while {pending} others are pending; "
        "what it leaves behind",
        (
            *compared("list", "gozoctl list", 1.5),
            *compared("status", "gozoctl status", 1.5),
            *compared("client", "Client.list", 1.5),
            *compared("completion", "completion of an id", 1.5),
            Figure("offered", "  ids offered after", COUNT, at_least=11),
            *started("restart", "restart"),
            *started("load", "start of a standby"),
            Figure("takeover_s_before", "takeover after a crash, before", "s", at_most=2),
            Figure("takeover_s", "takeover after a crash, after", "s", at_most=2),
            *kept("memory_mb", "MB", "memory", at_most=40),
            *kept("standby_mb", "MB", "memory of the standby", at_most=40),
            *steady("p99", "ms", "lateness p99"),
            *steady("cpu", "us", "CPU per delivery"),
            *kept("messages", COUNT, "messages in the store"),
            *kept("stored_mb", "MB", "bytes in the store"),
        ),
        kind=Kind.AGED,
        count=1_800_000,
        pending=1_000,
        lead=1,
        shortened=True,
    ),
)
"""In the order in which they run. Those with the same pending share a server, so the start
comes before what leaves delete markers behind."""


def custom(count: int, rate: float, size: int, lead: float | None) -> Scenario:
    """Return a scenario of the user's own."""
    title = "{count} with ids and {size} bytes, " + ("{rate} due per second" if rate else "at once")
    figures = (
        *lateness(),
        Figure("delivered_per_s", "delivered", "/s"),
        Figure("stored_per_s", "stored", "/s"),
    )
    return Scenario("custom", title, figures, count=count, rate=rate, size=size, lead=lead)
