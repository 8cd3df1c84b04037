"""The command ``resolute``, also as ``python -m resolute``; where the lab is not installed it says what to install."""

from __future__ import annotations

import os
import sys

from resolute import check_lab
from resolute.errors import MissingPackageError


def start() -> None:
    """Run the command line; without the lab, end with one sentence and exit code 2.

    Raises:
        SystemExit: If it ends with anything else than 0.
    """
    for stream in range(3):  # one that is closed would give its number to the first file that is opened
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    try:
        check_lab(" ".join(["resolute", *(word for word in sys.argv[1:2] if word.isalpha())]))
        from resolute.cli import run

        run()
    except MissingPackageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    start()
