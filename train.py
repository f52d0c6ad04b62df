"""Trains, validates, tests or predicts with any model on any data: `python train.py fit --help`."""

import sys

from genlab.cli.train import Result, check, command, differing_options, logged, main

__all__ = ["Result", "check", "command", "differing_options", "logged", "main"]

if __name__ == "__main__":
    sys.exit(command())
