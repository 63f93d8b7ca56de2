"""Durations as callers give them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from gozo.schedule.model import MICROSECONDS

MICROSECOND = timedelta(microseconds=1)

Span = str | timedelta
"""A duration; a string is seconds, or a duration such as `1h30m`."""

Spans = Span | Sequence[Span]
"""Several durations; a string has them separated by commas, such as `1s,10s`."""


def span_text(span: Span) -> str:
    """Write a duration as in a header of a request."""
    if isinstance(span, str):
        return span
    sign = "-" * (span < timedelta())  # refused when it is read
    return f"{sign}{seconds_text(abs(span))}s"


def spans_text(spans: Spans) -> str:
    """Write several durations as in a header of a request."""
    return span_text(spans) if isinstance(spans, Span) else ",".join(map(span_text, spans))


def seconds_text(span: timedelta) -> str:
    """Write a duration as a number of seconds; a negative one is 0."""
    whole, us = divmod(max(span // MICROSECOND, 0), MICROSECONDS)
    return f"{whole}.{us:06d}".rstrip("0").rstrip(".")
