"""Ids that are odd, and allowed."""

from __future__ import annotations

ODD_IDS = [
    "tea",
    "TEA",
    "with spaces  inside",
    "dots.in.it",
    ".leading",
    "trailing.",
    "double..dot",
    "..",
    "=",
    "=2Eleading",
    "=_barrier",
    "a:b/c\\d",
    ">",
    "*",
    "wild.>",
    "Grüße aus 日本 🫖",
    "x" * 1024,
]
