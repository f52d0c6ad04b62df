"""The program `train.py` of sweeps, where the current folder has no train.py: `genlab fit` and its like."""

import sys

from genlab.cli.train import Result, check, command, differing_options, logged, main

__all__ = ["Result", "check", "command", "differing_options", "logged", "main"]

if __name__ == "__main__":
    sys.exit(command())
