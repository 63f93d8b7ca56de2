"""The long form of the fault suite: `python -m tests.faults`, after the tests' installation.

It runs every fault twenty times (`--rounds`), and shows an account of each at the end: what was
lost, early, or twice for no fault that explains it is a failure. So is a run that is started twice,
settled wrongly or left: 200 at a time go through two minutes of faults of each kind. In parts, by
the names of tests: `python -m tests.faults --rounds 10 -k leader_ends`. Other options are pytest's
too.
"""

from __future__ import annotations

import argparse
import os
import sys

import pytest

FOLDER = "tests/acceptance/faults"
ROUND = 120  # seconds that one round of one test may take


def main() -> int:
    """Run the suite; the exit code is pytest's."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--rounds", type=int, default=20, help="how often each fault is caused")
    parser.add_argument("-k", dest="names", default="", help="run tests whose names match this")
    options, rest = parser.parse_known_args()
    os.environ["GOZO_TEST_ROUNDS"] = str(options.rounds)
    return int(
        pytest.main(
            [
                FOLDER,
                *("--numprocesses=0", "-k", options.names),
                f"--timeout={ROUND * options.rounds}",
                *rest,
            ]
        )
    )


if __name__ == "__main__":
    sys.exit(main())
