"""Every option has a help text of its own, in sections that a person reads."""

import argparse
import inspect
import re
from collections.abc import Iterator

import pytest
from jsonargparse import ArgumentParser

import datamodules
import genlab.sampling.cli
import genlab.sweep.cli
import lit_models
from genlab import callbacks
from genlab.cli.lightning_cli import GenlabCLI, Parsed
from genlab.cli.main import main
from genlab.cli.options import MEASURES, PICTURES
from genlab.cli.parser import Parser
from lit_models.common.component import Component

SUBCOMMANDS = ("fit", "validate", "test", "predict")


class OnlyParser(GenlabCLI):
    def parse_arguments(self, parser: ArgumentParser, args: object) -> None:
        raise Parsed(self)

    @classmethod
    def of(cls, subcommand: str) -> Parser:
        cli = cls.__new__(cls)
        with pytest.raises(Parsed):
            cli.__init__([subcommand])
        return cli._subcommand_parsers[subcommand]


def subclasses(of: type) -> Iterator[type]:
    for kind in of.__subclasses__():
        yield kind
        yield from subclasses(kind)


def injected() -> set[type]:
    """Everything that is injected into models of genlab."""
    kinds = (kind for kind in subclasses(Component) if kind.__module__.startswith("lit_models"))
    return {kind for kind in kinds if not inspect.isabstract(kind)}


def classes() -> list[type]:
    models = {getattr(lit_models, name) for name in lit_models.__all__}
    drawn = {getattr(callbacks, name) for name in callbacks.__all__} - {callbacks.RunRecord, callbacks.ProgressReporter}
    kinds = models | injected() | set(datamodules.data_modules().values()) | drawn
    able = {kind for kind in kinds if isinstance(kind, type) and not issubclass(kind, Exception)}
    return sorted((kind for kind in able if not inspect.isabstract(kind)), key=lambda kind: kind.__name__)


def texts(parser: argparse.ArgumentParser) -> dict[str, str]:
    """The help of each option, but for those that no help shows."""
    shown = [action for action in parser._actions if action.help is not argparse.SUPPRESS]
    return {"/".join(action.option_strings) or action.dest: action.help or "" for action in shown}


def faults(parser: argparse.ArgumentParser) -> list[str]:
    wrong = [name for name, text in texts(parser).items() if not text.strip()]
    named = "|".join(kind.__name__ for kind in classes())
    return wrong + [
        f"{name}: {text}" for name, text in texts(parser).items() if re.search(rf"\bas in ({named})\b", text)
    ]


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_every_option_of_a_command_has_a_help(subcommand: str):
    assert not faults(OnlyParser.of(subcommand))


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_every_option_of_a_class_has_a_help(kind: type):
    parser = Parser()
    parser.add_class_arguments(kind, "it", fail_untyped=False)
    assert not faults(parser)


def test_every_option_of_sweeps_and_samples_has_a_help():
    top = genlab.sweep.cli.parser()
    chosen = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    sampling = genlab.sampling.cli.parser()
    for parser in (sampling, *sampling.commands.values(), *chosen[0].choices.values()):
        assert not faults(parser)


def shown(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    try:
        main(args)
    except SystemExit as error:
        assert not error.code
    return capsys.readouterr().out


def sections(text: str) -> list[str]:
    return re.findall(r"^(\S.*):$", text, re.MULTILINE)


def test_the_help_has_our_sections_first_and_lightnings_behind_help_all(capsys):
    short, long = shown(["fit", "--help"], capsys), shown(["fit", "--help-all"], capsys)
    ours = ["options", "model", "data", "training", "run", "checkpoint"]
    assert sections(short) == [*ours, "MEASURES", *MEASURES, "PICTURES", *PICTURES]
    assert sections(long) == [*sections(short), "trainer"]
    assert "--trainer.max_epochs" in short and "--trainer.plugins" not in short and "--trainer.plugins" in long
    assert "<class" not in long and "Linked arguments" not in long


def test_the_choices_of_a_model_are_no_abstract_bases_and_nobody_elses(capsys):
    text = shown(["fit", "--help"], capsys)
    listed = re.search(r"--model CLASS\s+One of (.*?);", text, re.DOTALL)[1]
    names = {name.strip() for name in listed.split(",")}
    ours = {kind.__name__ for kind in classes() if issubclass(kind, lit_models.GenerativeModule)}
    assert {name for name in names if hasattr(lit_models, name)} == ours
    assert "GenerativeModule" not in names and "LatentGAN" not in names


def test_the_help_of_a_class_is_titled_by_whole_sentences(capsys):
    text = shown(["fit", "--model.help=GAN"], capsys)
    assert text.startswith("Options of GAN.") and "--model.recipe.n_critic" in text and "usage" not in text
    assert all(re.search(r"[.?]\n\n$", text[: found.start()][-400:]) for found in re.finditer(r"^  --", text))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["fit", "--model.help"], "VAE\n    "),
        (["fit", "--data.help"], "DigitsDataModule\n    "),
        (["fit", "--model.help", "--model=GAN"], "Options of GAN."),
        (["fit", "--model=GAN", "--model.generator.help"], "--model.generator takes one of ACGANGenerator, "),
        (["fit", "--model.generator.help", "--model=GAN"], "--model.generator takes one of ACGANGenerator, "),
        (["fit", "--model=GAN", "--model.generator.help=DCGANGenerator"], "Options of DCGANGenerator"),
        (["models", "--help"], "usage: genlab models"),
        (["data", "-h"], "usage: genlab data"),
    ],
)
def test_a_help_without_a_class_lists_the_classes(args: list[str], expected: str, capsys):
    assert expected in shown(args, capsys)


def test_the_known_optimizers_are_usable_and_listed_once(capsys):
    text = " ".join(shown(["fit", "--model.help=VAE"], capsys).split())
    found = re.search(r"--model.optimizer OPTIMIZER.*?known subclasses: (.*?)[);]", text)
    assert found is not None
    known = found[1].split(", ")
    assert "Adam" in known and "Optimizer" not in known and len(known) == len(set(known))


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_genlab_gives_an_overview(args: list[str], capsys):
    text = shown(args, capsys)
    for command in ("genlab fit", "genlab sweep run", "genlab sample", "genlab models", "genlab data"):
        assert command in text
    assert shown(["--version"], capsys).startswith("genlab 0.")
