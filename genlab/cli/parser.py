"""Parsing of the command line: errors of one line with suggestions, help in sections, no noise on the screen."""

import argparse
import contextlib
import inspect
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from enum import Enum
from typing import Any, NoReturn, get_args

import yaml
from jsonargparse import DefaultHelpFormatter, get_loader, set_loader
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from genlab.arguments import WHERE_PACKAGES_ARE
from genlab.cli.docstrings import summary
from genlab.cli.subcommands import SUBCOMMANDS
from genlab.cli.trust import ADVICE
from genlab.suggestions import did_you_mean
from genlab.yaml_files import load_yaml

NOISE = (
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
    ".*in eval mode at the start of training.*",
    ".*exists and is not empty.*",
    ".*Total length of `list` across ranks is zero.*",
    ".*args parameter is intended to run from within Python.*",
    ".*treespec, LeafSpec.*",
    ".*callbacks used to create the checkpoint need to be provided.*",
    ".*`srun` command is available.*",  # on the login node of a SLURM cluster
    r"\s*``instantiate_classes`` was deprecated",
)
KEY = r'(?:Parser key "|--)((?:\w+\.)*?\w+)(?:"|\.help:)[^$]*'
"""The option that an error is about."""
NESTED = r"(?:[^$]*NestedArg\(key='([^']+)')?"
"""The option of its class that was given, if one was."""
NOUNS = {"data": "data module"}
"""What the class of an option is called, where its name does not say it."""
LISTS = {"model": "; `genlab models` lists them", "data": "; `genlab data` lists them"}
LIST = "CLASS"
"""Stands for the class in `--model.generator.help CLASS` where none is given: the classes are listed."""
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list": "a list",
    "tuple": "a list",
    "Iterable": "a list",
    "dict": "a mapping",
}
"""What values are called, by their types in Python."""
DULL = (
    "Does not validate against any",
    "Subtypes",
    "Errors",
    "Given value",
    "Expected a path but",
    "Expected a <class 'NoneType'>",
    "Not a valid subclass of",
    "Subclass types expect one of",
    "a class path (str)",
    "a dict with",
)
"""How those lines of jsonargparse's messages begin that tell a user nothing."""
BASES = (Optimizer, LRScheduler)
"""Abstract classes that do not declare that they are."""


_read_value = get_loader("yaml")
set_loader("yaml", lambda text: load_yaml(text, _read_value), (yaml.YAMLError,))  # values and files of options
# Some classes of Lightning have members of an Enum as their defaults, which are written as their values.
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


class HelpFormatter(DefaultHelpFormatter):
    """jsonargparse's, with types and classes by their short names, and without the default null."""

    def _get_help_string(self, action: argparse.Action) -> str:
        if getattr(action, "complete_help", False):
            return action.help or ""
        text = super()._get_help_string(action)
        known = ", ".join(sorted(class_names(getattr(action, "_typehint", None))))
        text = re.sub(r"known subclasses: .*(?=\)$)", f"known subclasses: {known}", text)
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
        takes_number = re.search(r"- Expected a <class '(int|float)'>", message)
        explanations = {
            f"{KEY}Importing '([^']+)' is not allowed": self._untrusted,
            r"unrecognized arguments: (\S+?)(?:=|\s|$)": self._unknown_argument,
            r"Option '([^']+)' is not accepted|does not accept option '([^']+)'": self._unknown_option,
            r"(--print_completion)?: invalid choice: '([^']+)' \(choose from (.*)\)": self._unknown_command,
            r"arguments are required: (.*)": self._missing,
            f"{KEY}Expected a dot import path string: (.+)": None if takes_number else self._unknown_class,
            f"{KEY}Multiple subclasses with name (\\w+)\\..* ambiguity: (.+)\\.": self._several_classes,
            f"{KEY}expects a function or a callable class: ([^$]+?)\\.+ Got value: (\\S+)": self._unusable_object,
            r"Unable to load config \"(.*)\"'?$": self._no_mapping,
            f"{KEY}Expected an instantiatable class, but.*is abstract{NESTED}": self._abstract_class,
            r'expected "subcommand" to be one of \{(.*)\}': self._no_command,
            f"{KEY}Problem with given class_path '([^']+)':\\s*(.+)": self._unusable_class,
        }
        for pattern, explanation in explanations.items():
            if explanation is not None and (found := re.search(pattern, message)):
                return explanation(found)
        name = re.match(r'Parser key "(.+?)"', message)
        return one_line(message if name is None else message.replace(name[1], self._flag(name[1]), 1))

    def _root(self) -> str:
        """What stands before the options of this parser's class on the command line: `model.`, `data.` or nothing."""
        if self._class is None or self.sections:
            return ""
        roots = {"model.": LightningModule, "data.": LightningDataModule}
        return next((root for root, base in roots.items() if issubclass(self._class, base)), "")

    def _full_name(self, key: str) -> str:
        """The name of an option as it is typed, without its dashes."""
        first, _, rest = key.partition(".")
        return self._root() + (rest if rest and first in SUBCOMMANDS else key)

    def _flag(self, name: str) -> str:
        """An option that a message names, as it is typed; an option of an inner class stays as it is."""
        inner = self._class is not None and not self.sections and not self._root()
        return name if inner else f"--{self._full_name(name.removeprefix('--'))}"

    def _unknown_argument(self, found: re.Match[str]) -> str:
        given = self._flag(found[1])
        if given.endswith(".help") and self._root():
            return f"there is no option {given}"
        known = [self._flag(name) for name in self._option_string_actions if name.startswith("--")]
        return f"there is no option {given}{did_you_mean(given, [k for k in known if not given.startswith(f'{k}.')])}"

    def _unknown_option(self, found: re.Match[str]) -> str:
        name = found[1] or found[2]
        owner = f" of {self._class.__name__}" if self._class and not self.sections else ""
        known = {action.dest: self._flag(action.dest) for action in self._actions if action.option_strings}
        near = did_you_mean(name, known)
        near = re.sub(r"(?<=; did you mean ).*(?=\?)", lambda meant: known[meant[0]], near)
        return f"there is no option {self._flag(name)}{owner}{near}"

    def _unknown_command(self, found: re.Match[str]) -> str:
        choices = re.findall(r"[\w-]+", found[3])
        near = did_you_mean(found[2], choices) or f"; choose from {', '.join(choices)}"
        return f"there is no {'completion' if found[1] else 'command'} {found[2]}{near}"

    def _missing(self, found: re.Match[str]) -> str:
        names = sorted((self._flag(name) for name in found[1].split(", ")), reverse=True)
        advice = "name a class, or a --config that does" if set(names) <= {"--model", "--data"} else "give a value"
        return f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'} missing; {advice}"

    def _classes(self, key: str) -> dict[str, type]:
        """The classes that an option accepts, by their names in alphabetical order."""
        last = key.rpartition(".")[2]
        action = next((action for action in self._actions if action.dest.rpartition(".")[2] == last), None)
        found = sorted(usable_classes(getattr(action, "_typehint", None)), key=lambda kind: kind.__name__)
        return {kind.__name__: kind for kind in found}

    def _unknown_class(self, found: re.Match[str]) -> str:
        key, given, name = found[1].rpartition(".")[2], found[2].strip(), self._full_name(found[1])
        known = list(self._classes(key))
        if given == LIST and ".help:" in found[0]:
            print(f"--{name} takes one of {', '.join(known)}. `--{name}.help CLASS` shows the options of one.")
            raise SystemExit(0)
        near = did_you_mean(given, known)
        if key in LISTS:
            near = near or LISTS[key]
            near += f"{' Or' if near.endswith('?') else ', or'} give your own class as my_package.{given}"
        elif not near and known:
            near = f"; choose from {', '.join(known)}"
        return f"there is no {NOUNS.get(key, key)} {given}{near}"

    def _abstract_class(self, found: re.Match[str]) -> str:
        name, option = self._full_name(found[1]), found[2]
        known = self._classes(found[1])
        if option is None:
            choices = LISTS.get(name) or f"; choose from {', '.join(known)}"
            return f"--{name} needs a class that is not abstract{choices}"
        if name in LISTS:
            return f"{name}.{option} needs the class too: give --{name} CLASS{LISTS[name]}"
        first = option.partition(".")[0]
        able = [kind for kind, of in known.items() if first in inspect.signature(of).parameters] or list(known)
        choices = f"; choose from {', '.join(able)}" if len(able) > 1 else ""
        return f"{name}.{option} needs the class too: give --{name} {able[0]}{choices}"

    def _untrusted(self, found: re.Match[str]) -> str:
        return f"--{self._full_name(found[1])} is {found[2]}: {ADVICE}"

    def _several_classes(self, found: re.Match[str]) -> str:
        return f"there are several {found[2]}; give --{self._full_name(found[1])} {' or '.join(found[3].split(', '))}"

    def _unusable_object(self, found: re.Match[str]) -> str:
        reason = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", found[2])
        hint = f"; {WHERE_PACKAGES_ARE}" if reason.startswith("No module named") else ""
        return f"--{self._full_name(found[1])} {found[3]} cannot be used: {reason}{hint}"

    def _no_mapping(self, found: re.Match[str]) -> str:
        key = re.search(r'Parser key "(.+?)"', found.string)
        return f"{'' if key is None else self._flag(key[1])} takes its options, or a YAML file of them, not {found[1]}"

    def _no_command(self, found: re.Match[str]) -> str:
        return f"there is no command; choose from {', '.join(found[1].split(','))}"

    def _unusable_class(self, found: re.Match[str]) -> str:
        hint = f"; {WHERE_PACKAGES_ARE}" if found[3].startswith("No module named") else ""
        key = found[1].rpartition(".")[2]
        return f"the {NOUNS.get(key, key)} {found[2]} cannot be used: {found[3]}{hint}"


def class_names(hint: Any) -> set[str]:
    """The names of the classes that a type hint accepts, which are not abstract and are imported."""
    return {kind.__name__ for kind in usable_classes(hint)}


def usable_classes(hint: Any) -> set[type]:
    """The classes that a type hint accepts, which are not abstract and are imported."""
    if not isinstance(hint, type):
        found: set[type] = set()
        return found.union(*(usable_classes(kind) for kind in get_args(hint) if not isinstance(kind, list)))
    if hint in (int, float, str, bool, type(None)) or hint.__module__ in ("typing", "collections.abc", "builtins"):
        return set()
    chosen = not inspect.isabstract(hint) and not hint.__name__.startswith("_") and hint not in BASES
    below: list[type] = type.__subclasses__(hint)
    return ({hint} if chosen else set[type]()).union(*map(usable_classes, below))


def one_line(message: str) -> str:
    """jsonargparse's tree of attempts as one line: the option, what it accepts and what was given."""
    if found := re.search(r"class_path '[\w.]*\b(TensorBoard|MLFlow)Logger':\s*(Neither|Requirement)", message):
        package = found[1].lower()
        return f"{found[1]}Logger needs the package {package}: pip install 'genlab[{package}]'"
    message = message[max(0, message.rfind("Parser key")) :]  # of a mapping, the option in it
    lines = [line.strip().removeprefix("- ").rstrip(":") for line in message.splitlines()]
    kept = [line for line in lines if line and not line.startswith(DULL)]
    kept = [line for line in kept if "does not correspond to a subclass of" not in line] or kept
    kept = [re.sub(r'^Parser key "(.+?)":?', r"\1:", line).removesuffix(":") for line in kept]
    accepted = [_accepted(line) for line in kept]
    rest = [line for line, words in zip(kept, accepted, strict=True) if not words]
    given = re.search(r"(?:Given|Got) value: (.*)$", message)
    kinds = list(dict.fromkeys(word for words in accepted for word in words))
    if kinds:
        kinds = [kind for kind in kinds if kind != "a whole number" or "a number" not in kinds]
        listed = " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))
        rest = [line for line in rest if not line.startswith("Expected a dot import path")]
        rest.append(f"expected {listed}, not {given[1] if given else 'this'}")
    return ": ".join(rest) or "unknown error"


def _accepted(line: str) -> list[str]:
    """What an attempt would have accepted, in words; nothing if the line does not say so."""
    if found := re.match(r"Expected a <class '(?:\w+\.)*(\w+)'>", line):
        return [KINDS.get(found[1], found[1])]
    if found := re.match(r"Expected a tuple with (\d+) elements", line):
        return [f"a list of {found[1]}"]
    if found := re.match(r"Expected a typing\.Literal\[(.*?)\]", line):
        return [choice.strip("'") for choice in found[1].split(", ")]
    return []


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
