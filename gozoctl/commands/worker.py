"""`gozoctl worker`: runs the commands of files on this host."""

from __future__ import annotations

import socket
from typing import Annotated, Any

import typer

from gozo.cli.options import takes
from gozo.errors import SettingsError
from gozo.runtime import logs
from gozoctl.options.files import STDIN
from gozoctl.options.manifests import read_manifests
from gozoctl.session import OPTIONS, Session, connected


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Files of schedules with commands, in TOML."),
    ],
    *,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="NAME",
            help="Name of this host in the files; default: its host name.",
            show_default=False,
        ),
    ] = None,
    **given: Any,
) -> None:
    """Run the commands of files when their schedules are due.

    The files are those of `gozoctl apply`, which stores the schedules. A worker runs the commands
    of tables without `host`, or with the name of its own, and nothing else, whoever may publish.
    Workers share the work: one of them claims each run, and starts it once.

    On SIGHUP it reads the files again. On SIGTERM or SIGINT it waits for running commands, and
    exits 0; a second one ends them.
    """

    async def work(session: Session) -> int:
        from gozoctl.worker.job_worker import work_on  # noqa: PLC0415  # not needed for --help
        from gozoctl.worker.tables import Tables  # noqa: PLC0415

        if STDIN in files:
            raise SettingsError("a worker reads its files again on SIGHUP: give files, not -")
        logs.configure("error" if session.out.quiet else "info")
        name = host or socket.gethostname()
        return await work_on(
            session.client, lambda: Tables(read_manifests(session, files, None), name), name
        )

    connected(ctx, given, work)
