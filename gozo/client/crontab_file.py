"""Writes a crontab that was read as a file of schedules for `apply` and for workers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from gozo.client.crontab import Converted, Imported
from gozo.client.manifest_tables import (
    SCHEDULES,
    SET,
    dumped,
    printable,
    schedule_table,
    toml_key,
)
from gozo.client.worker_tables import WORKER, WorkerSettings, job_table, settings_table

ABOUT = (
    "Made from the crontab of {}. Unlike under cron:",
    '- no job runs beside itself, here or on another host, unless it has overlap = "allow";',
    "- output is kept with the outcome of a job, and mailed only if there is a mailto.",
)

_LITERAL = re.compile(r"[ -&(-~]*")
"""What TOML's literal strings can hold, of ASCII."""


def write(imported: Imported) -> str:
    """Write the file; each table stands below its line."""
    origin, settings = imported.origin, _common(imported.converted)
    whose = origin.user or f"all users in {origin.file}"
    head = [*_comments(line.format(f"{whose} on {origin.host}") for line in ABOUT), ""]
    lines = [*head, _line(SET, origin.set), ""]
    if table := settings_table(settings):
        lines += [f"[{WORKER}]", *_lines(table), ""]
    for part in imported.parts:
        lines += _comments(part.comments)
        if part.converted is not None:
            lines += _table(part.converted, settings)
        if not part.is_remark:
            lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _common(all_: list[Converted]) -> WorkerSettings:
    """Return the settings that all jobs share, to be written once."""
    if not all_:
        return WorkerSettings()
    first, *others = (one.job for one in all_)
    environment = first.environment or {}
    if any(one.environment != environment for one in others):
        environment = {}
    mailto = first.mailto or ""
    if any(one.mailto != mailto for one in others):
        mailto = ""
    return WorkerSettings(environment=environment, mailto=mailto)


def _table(one: Converted, settings: WorkerSettings) -> Iterable[str]:
    job = one.job
    if settings.environment:
        job = replace(job, environment=None)
    if settings.mailto:
        job = replace(job, mailto=None)
    table = schedule_table(one.wanted, one.wanted.when) | job_table(job)
    if one.overlap:
        table["overlap"] = one.overlap
    return [f"[{SCHEDULES}.{toml_key(job.id)}]", *_lines(table)]


def _lines(table: Mapping[str, Any]) -> Iterable[str]:
    return [_line(key, value) for key, value in table.items()]


def _line(key: str, value: object) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(_line(name, text) for name, text in value.items())
        return f"{toml_key(key)} = {{ {inner} }}"
    if isinstance(value, str) and re.search(r'["\\]', value) and _LITERAL.fullmatch(value):
        return f"{toml_key(key)} = '{value}'"  # reads as the crontab has it
    return dumped({key: value}).rstrip("\n")


def _comments(texts: Iterable[str]) -> list[str]:
    return [f"# {printable(text.expandtabs())}".rstrip() for text in texts]
