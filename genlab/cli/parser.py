"""Parsing of the command line: errors of one line with suggestions, help in sections, no noise on the screen."""

import argparse
import contextlib
import inspect
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn, get_args

from jsonargparse import DefaultHelpFormatter
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from genlab.arguments import WHERE_PACKAGES_ARE
from genlab.cli.docstrings import summary
from genlab.suggestions import did_you_mean

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
KEY = r'(?:Parser key "(?:\w+\.)*|--(?:\w+\.)*?)(\w+)(?:"|\.help:)[^$]*'
"""The option that an error is about."""
SHORT_NAME = re.compile(r"\b(?:\w+\.)+(?=\w)")
NOUNS = {"data": "data module"}
"""What the class of an option is called, where its name does not say it."""


class HelpFormatter(DefaultHelpFormatter):
    """jsonargparse's, with types and classes by their short names, and without the default null."""

    def _get_help_string(self, action: argparse.Action) -> str:
        if getattr(action, "complete_help", False):
            return action.help or ""
        text = super()._get_help_string(action)
        text = re.sub(r"known subclasses: .*(?=\)$)", lambda found: SHORT_NAME.sub("", found[0]), text)
        return text if action.default is not None else text.replace(", default: %(default)s", "")

    def _get_type_str(self, action: argparse.Action) -> str | None:
        text = super()._get_type_str(action)
        return None if text is None else re.sub(r" \| null|, null(?=\])|^Optional\[(.*)\]$", r"\1", text)


class HelpAll(argparse._HelpAction):
    """Prints all sections of the help."""

    def __call__(self, parser: Any, *_: Any, **__: Any) -> None:
        parser.help_all = True
        parser.print_help()
        parser.exit()


class Parser(LightningArgumentParser):
    """jsonargparse's, with sections that are named after the class that they belong to, and errors of one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", HelpFormatter)
        kwargs.setdefault("allow_abbrev", False)  # an abbreviated option would not be found in the run's name
        super().__init__(*args, **kwargs)
        self.sections: list[Any] = []
        self.help_all = False
        self._class: type | None = None

    def add_class_arguments(self, class_type: type, nested_key: str | None = None, *args: Any, **kwargs: Any) -> Any:
        added = super().add_class_arguments(class_type, nested_key, *args, **kwargs)
        self._class = class_type
        for name, group in (self.groups or {}).items():
            owner = class_type if name == nested_key else getattr(group, "group_class", None)
            if owner is not None:
                group.title, group.description = name, summary(owner)
        return added

    def format_help(self, *args: Any) -> str:
        """As argparse's, of the sections instead of the groups where there are any."""
        groups, usage, description = self._action_groups, self.usage, self.description
        if self.sections:
            self._action_groups = [section for section in self.sections if self.help_all or not section.hidden]
            command = self.help_command().removesuffix(" --help")
            self.usage = f"{command} --config FILE [options]\n       {command} --model CLASS --data CLASS [options]"
        elif self._class is not None:
            self.usage, self.description = argparse.SUPPRESS, f"Options of {self._class.__name__}."
        try:
            return super().format_help(*args)
        finally:
            self._action_groups, self.usage, self.description = groups, usage, description

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        parser = getattr(ex, "subcommand_parser", None) or self
        print(f"error: {parser.explain(str(message))} (see {parser.help_command()})", file=sys.stderr)
        raise SystemExit(2)

    def help_command(self) -> str:
        """The command that shows the help of this parser."""
        command = re.sub(r" \[.*?\]", "", self.prog)
        if self.sections or self._class is None:
            return f"{command} --help"
        for name, base in (("model", LightningModule), ("data", LightningDataModule)):
            if issubclass(self._class, base):
                return f"{command} fit --{name}.help {self._class.__name__}"
        return f"{command} fit --help"

    def explain(self, message: str) -> str:
        """An error of jsonargparse in one line, with the name that was probably meant."""
        explanations = {
            r"unrecognized arguments: (\S+?)(?:=|\s|$)": self._unknown_argument,
            r"Option '([^']+)' is not accepted|does not accept option '([^']+)'": self._unknown_option,
            r"invalid choice: '([^']+)' \(choose from (.*)\)": self._unknown_command,
            r"arguments are required: (.*)": self._missing,
            f"{KEY}Expected a dot import path string: (.+)": self._unknown_class,
            f"{KEY}Expected an instantiatable class, but.*is abstract": self._abstract_class,
            r'expected "subcommand" to be one of \{(.*)\}': self._no_command,
            f"{KEY}Problem with given class_path '([^']+)':\\s*(.+)": self._unusable_class,
        }
        for pattern, explanation in explanations.items():
            if found := re.search(pattern, message):
                return explanation(found)
        return one_line(message)

    def _unknown_argument(self, found: re.Match[str]) -> str:
        return f"there is no option {found[1]}{did_you_mean(found[1], self._option_string_actions)}"

    def _unknown_option(self, found: re.Match[str]) -> str:
        name = found[1] or found[2]
        owner = f" of {self._class.__name__}" if self._class and not self.sections else ""
        known = {action.dest for action in self._actions if action.option_strings}
        return f"there is no option {name}{owner}{did_you_mean(name, known)}"

    def _unknown_command(self, found: re.Match[str]) -> str:
        choices = re.findall(r"\w+", found[2])
        return (
            f"there is no command {found[1]}{did_you_mean(found[1], choices) or '; choose from ' + ', '.join(choices)}"
        )

    def _missing(self, found: re.Match[str]) -> str:
        names = sorted((f"--{name.rpartition('.')[2]}" for name in found[1].split(", ")), reverse=True)
        return (
            f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'} missing; name a class, or a --config that does"
        )

    def _unknown_class(self, found: re.Match[str]) -> str:
        key, given = found[1], found[2].strip()
        action = next((action for action in self._actions if action.dest.rpartition(".")[2] == key), None)
        known = sorted(class_names(getattr(action, "_typehint", None)))
        near = did_you_mean(given, known)
        if key in ("model", "data"):
            near = near or f"; `genlab {'models' if key == 'model' else 'data'}` lists them"
            near += f"{' Or' if near.endswith('?') else ', or'} give your own class as my_package.{given}"
        elif not near and known:
            near = f"; choose from {', '.join(known)}"
        return f"there is no {NOUNS.get(key, key)} {given}{near}"

    def _abstract_class(self, found: re.Match[str]) -> str:
        lists = {"model": "; `genlab models` lists them", "data": "; `genlab data` lists them"}
        return f"--{found[1]} needs a class that is not abstract{lists.get(found[1], '')}"

    def _no_command(self, found: re.Match[str]) -> str:
        return f"there is no command; choose from {', '.join(found[1].split(','))}"

    def _unusable_class(self, found: re.Match[str]) -> str:
        hint = f"; {WHERE_PACKAGES_ARE}" if found[3].startswith("No module named") else ""
        return f"the {NOUNS.get(found[1], found[1])} {found[2]} cannot be used: {found[3]}{hint}"


def class_names(hint: Any) -> set[str]:
    """The names of the classes that a type hint accepts, which are not abstract and are imported."""
    if not isinstance(hint, type):
        found: set[str] = set()
        return found.union(*(class_names(kind) for kind in get_args(hint) if not isinstance(kind, list)))
    if hint in (int, float, str, bool, type(None)) or hint.__module__ in ("typing", "collections.abc", "builtins"):
        return set()
    chosen = not inspect.isabstract(hint) and not hint.__name__.startswith("_")
    below: list[type] = type.__subclasses__(hint)
    return ({hint.__name__} if chosen else set[str]()).union(*map(class_names, below))


def one_line(message: str) -> str:
    """jsonargparse's tree of attempts as one line: what was wrong with the option, without the types it tried."""
    lines = [line.strip().removeprefix("- ").rstrip(":") for line in str(message).splitlines()]
    dull = ("Does not validate against any", "Subtypes", "Errors", "Given value", "Expected a <class 'NoneType'>")
    kept = [line for line in lines if line and not line.startswith(dull)]
    kept = [re.sub(r'^Parser key "(.+?)"', r"\1", line) for line in kept]
    text = ": ".join(kept) or "unknown error"
    return re.sub(r"Expected a <class '(?:\w+\.)*(\w+)'>\. Got value: ", r"expected \1, not ", text)


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
