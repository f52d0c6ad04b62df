"""Shell completion, by jsonargparse and shtab: `genlab --print_completion shtab-bash`."""

import argparse
from collections.abc import Iterator
from typing import Any

from genlab.cli.parser import Parser


def shorten(parser: Parser) -> None:
    """Completes only the names of the trainer's options: the options of all classes that they accept take 70 MB."""
    for action in parser._actions:
        if action.dest.startswith("trainer.") and hasattr(action, "_typehint"):
            action._typehint = str


def add_other_commands(parser: Any) -> None:
    """Adds the commands of `genlab` that are not Lightning's, with their options, so that they are completed too."""
    from genlab.sampling.cli import parser as sample
    from genlab.sweep.cli import parser as sweep

    [commands] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for name, options in (("sweep", _options(sweep())), ("sample", _options(sample())), ("models", ()), ("data", ())):
        made = Parser()
        for flags, choices in dict(options).items():
            made.add_argument(*flags, **({"choices": choices} if choices else {}))
        commands.add_subcommand(name, made)  # type: ignore[attr-defined]


def _options(parser: argparse.ArgumentParser) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The flags of a parser and of its commands, each with its choices if it has any."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield ("command",), list(action.choices)
            for inner in action.choices.values():
                yield from _options(inner)
        elif action.option_strings and not isinstance(action, argparse._HelpAction):
            yield tuple(flag for flag in action.option_strings if "." not in flag), action.choices
    for inner in getattr(parser, "commands", {}).values():
        yield from _options(inner)
