"""`gozoctl worker`: runs the commands of files on this host."""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import Annotated, Any

import typer

from gozo.cli.options import takes
from gozo.runtime import logs
from gozo.runtime.notify_socket import NotifySocket
from gozoctl.options.manifests import read_manifests
from gozoctl.session import OPTIONS, Session, connected

log = logs.get_logger("gozo.worker")


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

    Takes the files of `gozoctl apply`, which stores their schedules, and runs the commands of
    tables without `host`, or with the name of this one. Several workers share the work: each
    command is claimed, and runs once. What runs is only what the files of this host say.

    SIGHUP reads the files again. On SIGTERM or SIGINT it waits for running commands, and exits 0; a
    second one ends those.
    """

    async def work(session: Session) -> int:
        from gozoctl.worker.children import Children  # noqa: PLC0415  # not needed for --help
        from gozoctl.worker.job_worker import JobWorker  # noqa: PLC0415
        from gozoctl.worker.locks import Locks, lock_folder  # noqa: PLC0415
        from gozoctl.worker.mail import Mailer, find_sendmail  # noqa: PLC0415
        from gozoctl.worker.places import Places  # noqa: PLC0415
        from gozoctl.worker.run import Runner  # noqa: PLC0415
        from gozoctl.worker.tables import Tables  # noqa: PLC0415

        logs.configure("error" if session.out.quiet else "info")
        name = host or socket.gethostname()
        client = session.client

        def load() -> Tables:
            return Tables(read_manifests(session, files, None), name)

        tables = load()
        if not tables:
            log.warning("worker.idle", host=name, reason="no table is for this host")
        sendmail = find_sendmail()
        if tables.mailed and sendmail is None:
            log.warning("mail.unavailable", reason="there is no sendmail: nothing is mailed")
        locks = Locks(lock_folder(), client.settings.request_subject, client.settings.bucket)
        children = Children()
        try:
            worker = JobWorker(
                client,
                load,
                tables,
                partial(Places, locks),
                Runner(children, os.environ),
                Mailer(children, sendmail, name),
                NotifySocket(os.environ),
                name,
            )
            return await worker.run()
        finally:
            children.close()

    connected(ctx, given, work)
