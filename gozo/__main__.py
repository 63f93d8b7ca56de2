"""The entry point of `gozo` and of `python -m gozo`."""

from __future__ import annotations

import sys

from gozo import __version__


def main() -> int:
    """Answer `--version` before anything is imported; leave all else to the command line."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"gozo {__version__}\n")
        return 0
    try:
        from gozo.cli.app import main as run  # noqa: PLC0415  # it takes 50 ms

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
