"""`python -m tests.pictures` makes the README's pictures anew, after a change of what they show.

It starts a server, stores some schedules with `gozoctl`, and takes what `gozoctl list` writes to
a terminal, escape sequences and all; Rich turns that into an image.
"""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.support.gozoctl import Gozoctl
from tests.support.processes import Servers
from tests.support.readme import ROOT

PICTURE = ROOT / ".images" / "gozoctl-list.svg"
WIDTH = 90

SCHEDULES = (
    ("invoice-4711", "billing.remind", "second reminder", "--in", "3d"),
    ("tea", "kitchen", "tea is ready", "--in", "3m30s"),
    ("backup:nightly", "jobs.backup", "full", "--cron", "0 2 * * mon-fri"),
    ("trial-ends-8123", "accounts.expire", '{"account": 8123}', "--in", "14d"),
)


def main() -> None:
    """Write the picture of `gozoctl list`."""
    with Servers() as servers, tempfile.TemporaryDirectory() as home:
        ctl = Gozoctl(Path(home), servers.start().url)
        for id_, *rest in SCHEDULES:
            ctl.ok("create", id_, *rest)
        with ctl.terminal("list") as terminal:
            terminal.ends()
            written = terminal.raw
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    console.print(Text("$ gozoctl list", style="bold"))
    console.print(Text.from_ansi(written.replace("\r\n", "\n")))
    PICTURE.parent.mkdir(exist_ok=True)
    picture = console.export_svg(title="gozoctl", unique_id="gozoctl")
    # Fonts of this machine only: a picture fetches nothing.
    local = re.sub(
        r"(local\([^)]*\)),\s*(?:url\([^)]*\) format\([^)]*\)[,;]\s*)+", r"\1;\n", picture
    )
    PICTURE.write_text(local, encoding="utf-8")


if __name__ == "__main__":
    main()
