"""Runs, reports and sends sweeps, with or without a W&B server: `python sweep.py --help`."""

import sys

from genlab.sweep.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
