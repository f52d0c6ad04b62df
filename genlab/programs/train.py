"""The program `train.py` of sweeps, where the current folder has no train.py: `genlab fit` and its like."""

import sys

if __name__ == "__main__":  # before the imports, which take seconds
    from genlab.interrupts import end_quietly_on_interrupt

    end_quietly_on_interrupt()

from genlab.cli.train import Result, check, command, differing_options, logged, main

__all__ = ["Result", "check", "command", "differing_options", "logged", "main"]

if __name__ == "__main__":
    sys.exit(command())
