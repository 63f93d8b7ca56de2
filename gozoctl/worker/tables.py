"""The tables that a worker works on. Knows nothing of NATS."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gozo.client.worker_tables import Job
from gozo.errors import SettingsError
from gozoctl.worker.launch import person_of

if TYPE_CHECKING:
    from gozo.client.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Table:
    """A job, and the file that has it."""

    job: Job
    file: str
    max_parallel: int
    """How many commands of the file run at a time."""


class Tables:
    """The tables of files with a command for this host."""

    def __init__(self, manifests: Sequence[Manifest], host: str) -> None:
        """Take the tables of these files that are for a host.

        Raises:
            SettingsError: this process cannot run one of them.
        """
        self.files = tuple(manifest.name for manifest in manifests)
        self._tables: dict[tuple[str, str], Table] = {}
        problems = []
        for manifest in manifests:
            for job in manifest.jobs:
                if job.host not in ("", host):
                    continue
                try:
                    person_of(job)
                except SettingsError as error:
                    problems.append(f"{manifest.place(job.id)}: {error}")
                table = Table(job, manifest.name, manifest.worker.max_parallel)
                self._tables[job.subject, job.id] = table
        if problems:
            raise SettingsError("\n".join(problems))

    def __len__(self) -> int:
        return len(self._tables)

    def find(self, subject: str, id_: str | None) -> Table | None:
        """Return the table for a message with an id."""
        return None if id_ is None else self._tables.get((subject, id_))

    def subjects(self, full: Collection[str] = ()) -> set[str]:
        """Return the subjects of all tables, but for files that have no room."""
        return {table.job.subject for table in self._tables.values() if table.file not in full}

    @property
    def mailed(self) -> bool:
        """Whether the output of any command is mailed."""
        return any(table.job.mailto for table in self._tables.values())
