"""Samples from a checkpoint, or translates images by one: `python sample.py --help`."""

import sys

from genlab.sampling.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
