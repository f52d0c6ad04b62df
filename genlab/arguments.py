"""A parser of command lines that reports an error in one line, and types of their arguments."""

import argparse
import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from genlab.runs.errors import UsageError
from genlab.suggestions import did_you_mean

WHERE_PACKAGES_ARE = "start in the folder that holds it, or install it"
"""What to do where a user's package cannot be imported."""


class Parser(argparse.ArgumentParser):
    """Reports what is wrong in one line, and suggests the option that was probably meant.

    Attributes:
        dashed: An option whose value may begin with a dash.
    """

    dashed: str | None = None

    def error(self, message: str) -> NoReturn:
        print(f"error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        args = self._join_dashed(sys.argv[1:] if args is None else args)
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser = self.chosen(args)
            word = next((arg for arg in unknown if arg.startswith("-")), unknown[0]).partition("=")[0]
            what = "option" if word.startswith("-") else "argument"
            parser.error(f"there is no {what} {word}{did_you_mean(word, parser._option_string_actions)}")
        return options

    def _join_dashed(self, args: Sequence[str]) -> list[str]:
        """Writes OPTION=VALUE for `dashed`, as argparse takes a separate word with a dash for another option."""
        at = args.index(self.dashed) if self.dashed in args[:-1] else len(args)
        return [*args[:at], *filter(None, ["=".join(args[at : at + 2])]), *args[at + 2 :]]

    def chosen(self, args: Sequence[str]) -> "Parser":
        """The parser of the subcommand that the arguments name, or this one."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                named = next((arg for arg in args if arg in action.choices), None)
                return self if named is None else action.choices[named]
        return self

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse's, with the choice that was probably meant."""
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            near = did_you_mean(value, choices) if len(choices) > 3 else ""
            near = near or f"; choose from {', '.join(choices)}"
            raise argparse.ArgumentError(action, f"there is no {value}{near}")


def positive(text: str) -> int:
    """A whole number above 0.

    Raises:
        ArgumentTypeError: it is none.
    """
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


def share(text: str) -> float:
    """A number from 0: a whole number, or below 1 a part of one.

    Raises:
        ArgumentTypeError: it is none.
    """
    number = float(text) if re.fullmatch(r"\d+(\.\d*)?|\.\d+", text) else -1.0
    if number < 0 or (number > 1 and not number.is_integer()):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor a part of one, such as 0.25")
    return number


def import_packages(names: str | None) -> None:
    """Imports the packages of a user, comma-separated, from the current folder too, so that their classes are known.

    Raises:
        UsageError: one of them cannot be imported.
    """
    find_in_current_folder()
    for name in filter(None, (names or "").split(",")):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UsageError(f"cannot import {name} ({error}); {WHERE_PACKAGES_ARE}") from error


def find_in_current_folder() -> None:
    """Lets packages in the current folder be imported, as `python -m` does, after all that is installed."""
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)


def discard_output() -> None:
    """Sends the rest of the output nowhere, once its reader is gone; else Python flushes once more as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
