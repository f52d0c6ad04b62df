"""The help of fit, validate, test and predict in sections: our own options first, those of Lightning's trainer last."""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from datamodules import ImageDataModule
from genlab.cli.options import MEASURES, PICTURES
from genlab.cli.parser import HelpAll, Parser, class_names
from genlab.cli.subcommands import SUBCOMMANDS
from lit_models.common.module import GenerativeModule

IMPORT_HELP = (
    "Your own package to import first, so that short names of its classes are known; several are separated by commas."
)
TRUSTED_HELP = (
    "A config is a program: it may name any class or function that Python can import. false: it may name classes of"
    " genlab, torch and lightning only, and import no package; for a config of a stranger. It may still say which files"
    " are read and written."
)
INIT_FROM_HELP = (
    "Checkpoint whose weights a new run starts from, with a new optimizer, at epoch 0. The model and the data may be"
    " others than those of the checkpoint."
)
INIT_STRICT_HELP = (
    "Refuse a checkpoint of --init_from whose weights do not all fit. false: weights that do not fit keep their first"
    " values."
)
GENERAL = (
    "help",
    "help_all",
    "config",
    "print_config",
    "trusted",
    "import",
    "seed_everything",
    "ckpt_path",
    "max_parameters",
)
INITIAL = ("init_from", "init_strict")
"""Options that only a new run takes."""
GENERAL_HELP = {
    "config": "YAML file of options, or the name of a config that comes with genlab, such as gan_mnist.",
    "print_config": "Print the resolved config and exit.",
}
CHECKPOINTS = {
    "fit": "Checkpoint to resume from, or `last` for the last one of this run.",
    "validate": "Checkpoint to evaluate. Its run gives the config, unless --config is given.",
    "test": "Checkpoint to evaluate. Its run gives the config, unless --config is given.",
    "predict": "Checkpoint that predicts. Its run gives the config, unless --config is given.",
}
TRAINING = {
    "max_epochs": "Epochs to train (default: 10, unless max_steps or max_time is given).",
    "max_steps": "Optimizer steps to train. Adversarial models count those of each optimizer (default: no limit).",
    "max_time": "Time to train, as days:hours:minutes:seconds (default: no limit).",
    "accelerator": "Kind of device: cpu, gpu, mps (default: auto, the fastest there is).",
    "devices": "Number of devices, or a list of their indices (default: auto, all of them).",
    "precision": "Number format, such as 16-mixed or bf16-mixed (default: 32-true).",
    "fast_dev_run": "Run one batch of training, validation and test, and leave no run folder (default: false).",
}
"""Options of Lightning's trainer that most users need, with help of our own."""
EPILOG = (
    "`--model.help CLASS` and `--data.help CLASS` show the options of a model and of a data module; `genlab models` and"
    " `genlab data` list them. `--help-all` shows Lightning's trainer options too, --trainer.*."
)


@dataclass
class Section:
    """One section of a help text, as argparse formats its groups."""

    title: str
    description: str | None
    actions: list[argparse.Action]
    hidden: bool = False
    """Whether only --help-all shows it."""

    @property
    def _group_actions(self) -> list[argparse.Action]:
        return self.actions


def arrange_help(parser: Parser, subcommand: str) -> None:
    """Gives the parser of a subcommand its sections, and the options that come from Lightning a help of our own."""
    parser.add_argument(
        "--help-all", dest="help_all", action=HelpAll, help="Show the options of all sections and exit."
    )
    actions = {action.dest: action for action in parser._actions}
    _own_texts(actions, subcommand)
    parser.description = SUBCOMMANDS[subcommand]
    parser.epilog = EPILOG
    shown = {name: _options(parser, name) for name in parser.groups or {}}
    training = [actions[f"trainer.{name}"] for name in TRAINING]
    callbacks = {**PICTURES, **MEASURES}
    rest = [action for action in shown["trainer"] if action not in training]
    parser.sections = [
        Section("options", None, [actions[name] for name in (*GENERAL, *(INITIAL if subcommand == "fit" else ()))]),
        Section("model", None, shown["model"]),
        Section("data", None, shown["data"]),
        Section("training", None, training),
        _section(parser, "run"),
        _section(parser, "checkpoint"),
        Section("MEASURES", "Numbers that callbacks log, each where the model and the data allow it.", []),
        *(_section(parser, name) for name in callbacks if name in MEASURES),
        Section("PICTURES", "Files in the folder media/ of the run. --run.pictures false turns all of them off.", []),
        *(_section(parser, name) for name in callbacks if name in PICTURES),
        Section("trainer", "All other options of lightning.Trainer.", rest, hidden=True),
    ]


def describe_subcommands(parser: Parser) -> None:
    """Gives the parser of all subcommands a description of our own."""
    parser.description = "Trains, validates, tests or predicts with any model on any data."
    parser.epilog = "`genlab models` and `genlab data` list the models and data modules."
    for action in parser._actions:
        action.help = GENERAL_HELP.get(action.dest, action.help)
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                choice.help = SUBCOMMANDS[choice.dest]


def _own_texts(actions: dict[str, Any], subcommand: str) -> None:
    own = {
        **GENERAL_HELP,
        "seed_everything": "Seed of all random numbers; false for a run that is not repeatable (default: 0).",
        "ckpt_path": CHECKPOINTS[subcommand],
        "weights_only": argparse.SUPPRESS,  # always true
        "model.help": "Show the options of a model, such as `--model.help VAE`, and exit.",
        "data.help": "Show the options of a data module, such as `--data.help MNISTDataModule`, and exit.",
    }
    for name, text in {**own, **{f"trainer.{name}": text for name, text in TRAINING.items()}}.items():
        actions[name].help, actions[name].complete_help = text, True
    actions["import"].complete_help = True
    for name, base, own_class in (
        ("model", GenerativeModule, "my_package.MyModel"),
        ("data", ImageDataModule, "my_package.MyDataModule"),
    ):
        known = ", ".join(sorted(class_names(base)))
        actions[name].help = f"One of {known}; or your own class, {own_class}. Its options are --{name}.OPTION."
        actions[name].metavar = actions[f"{name}.help"].metavar = "CLASS"
        actions[name].complete_help = True


def _section(parser: Parser, name: str) -> Section:
    return Section(name, (parser.groups or {})[name].description, _options(parser, name))


def _options(parser: Parser, name: str) -> list[argparse.Action]:
    """The options of a group, without the one that reads the group from a file."""
    found: Iterable[argparse.Action] = (parser.groups or {})[name]._group_actions
    return [action for action in found if action.dest != name or name in ("model", "data")]
