"""Samples from a checkpoint, or translates images by one: `python sample.py --help`."""

import sys

if __name__ == "__main__":  # before the imports, which take seconds
    from genlab.interrupts import end_quietly_on_interrupt

    end_quietly_on_interrupt()

from genlab.sampling.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
