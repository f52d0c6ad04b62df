"""Parsing of the command line: errors of one line, no noise on the screen, and a checkpoint that brings its config."""

import contextlib
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from typing import NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from genlab.runs.config import config_files, option
from genlab.runs.folder import run_of_checkpoint

NOISE = (
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
    ".*in eval mode at the start of training.*",
    ".*exists and is not empty.*",
    ".*Total length of `list` across ranks is zero.*",
    ".*args parameter is intended to run from within Python.*",
    ".*treespec, LeafSpec.*",
    r"\s*``instantiate_classes`` was deprecated",
)


class Parser(LightningArgumentParser):
    """Says what is wrong in one line, without pages of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        command = re.sub(r" \[.*?\]", "", self.prog)
        print(f"error: {one_line(message)} (see {command} --help)", file=sys.stderr)
        raise SystemExit(2)


def one_line(message: str) -> str:
    """jsonargparse's tree of attempts as one line: what was wrong with the option, without the types it tried."""
    lines = [line.strip().removeprefix("- ").rstrip(":") for line in str(message).splitlines()]
    dull = ("Does not validate against any", "Subtypes", "Errors", "Given value", "Expected a <class 'NoneType'>")
    kept = [line for line in lines if line and not line.startswith(dull)]
    kept = [re.sub(r'^Parser key "(.+?)"', r"\1", line) for line in kept]
    return ": ".join(kept) or "unknown error"


def with_run_config(args: list[str]) -> list[str]:
    """Puts `--config <run>/config.yaml` first when a checkpoint of that run is named and no config is."""
    checkpoint = option(args, "ckpt_path")
    run = run_of_checkpoint(checkpoint) if checkpoint else None
    if run is None or not args or config_files(args):
        return args
    return [args[0], "--config", str(run / "config.yaml"), *args[1:]]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's greetings and the warnings that do not apply here off the screen."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for pattern in NOISE:
                warnings.filterwarnings("ignore", pattern)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
