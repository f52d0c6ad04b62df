"""The program `genlab`: one command for training, sweeps, sampling and lists of what there is."""

import contextlib
import importlib.metadata
import importlib.util
import io
import sys
from collections.abc import Callable

from genlab.arguments import find_in_current_folder
from genlab.cli.listing import list_data, list_models, print_to_pipe
from genlab.cli.subcommands import SUBCOMMANDS
from genlab.interrupts import end_quietly_on_interrupt
from genlab.suggestions import did_you_mean

OVERVIEW = """usage: genlab COMMAND ...

A laboratory for image generative models.

train and evaluate
  genlab fit --config autoencoder_digits     train a model, and test its best checkpoint
  genlab fit --model VAE --data MNISTDataModule
  genlab validate | test | predict --ckpt_path CKPT

sweep
  genlab sweep run quickstart                run a sweep without a server; also: agent, report, compare, board, sync

sample
  genlab sample CKPT --output grid.png       sample or interpolate
  genlab sample encode | reconstruct | translate | interpolate | score
                                             your own images; samples against real images

see what there is
  genlab models                              models, with their papers and configs
  genlab data                                data modules
  genlab COMMAND --help                      options of a command
  genlab --print_completion shtab-bash       completion for bash, shtab-zsh for zsh (pip install 'genlab[completion]'):
                                             genlab --print_completion shtab-bash > ~/.genlab-completion,
                                             and `source ~/.genlab-completion` in ~/.bashrc
  genlab --version
"""
COMMANDS = (*SUBCOMMANDS, "sweep", "sample", "models", "data")


def main(args: list[str] | None = None) -> int:
    """Runs a command; exit status 2 where there is no such command."""
    end_quietly_on_interrupt()
    args = sys.argv[1:] if args is None else list(args)
    command, rest = (args[0], args[1:]) if args else ("--help", [])
    find_in_current_folder()
    completes = command.startswith("--print_completion")
    if completes and importlib.util.find_spec("shtab") is None:
        print("error: completion needs shtab; pip install 'genlab[completion]'", file=sys.stderr)
        return 2
    if command in SUBCOMMANDS or completes:
        from genlab.cli.train import command as train

        return _complete(train, args) if completes else train(args)
    if command == "sweep":
        from genlab.sweep.cli import main as sweep

        return sweep(rest, "genlab sweep")
    if command == "sample":
        from genlab.sampling.cli import main as sample

        return sample(rest, "genlab sample")
    return _tell(command, rest)


def _complete(train: Callable[[list[str]], int], args: list[str]) -> int:
    """Prints the completion script, of which a reader such as `head` may take the first lines only."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            return train(args)
    finally:
        if said.getvalue():
            print_to_pipe(said.getvalue().rstrip("\n"))


def _tell(command: str, rest: list[str]) -> int:
    """What needs no model: the overview, the lists, the version."""
    if command in ("models", "data"):
        if rest and rest[0] in ("-h", "--help"):
            what = "models" if command == "models" else "data modules"
            print(f"usage: genlab {command}\n\nLists all {what} with their papers and configs.")
        elif rest:
            kind = "model" if command == "models" else "data"
            print(
                f"error: genlab {command} takes no argument {rest[0]}; for the options of a class give"
                f" `genlab fit --{kind}.help CLASS`",
                file=sys.stderr,
            )
            return 2
        else:
            print_to_pipe(list_models() if command == "models" else list_data())
    elif command in ("-h", "--help"):
        print(OVERVIEW, end="")
    elif command == "--version":
        print(f"genlab {importlib.metadata.version('genlab')}")
    else:
        print(
            f"error: there is no command {command}{did_you_mean(command, COMMANDS)} (see genlab --help)",
            file=sys.stderr,
        )
        return 2
    return 0
