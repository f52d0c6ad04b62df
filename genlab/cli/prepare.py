"""What happens to a command line before it is parsed: checkpoints, names of configs, packages to import."""

import itertools
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from genlab.arguments import import_packages
from genlab.cli.listing import list_data, list_models, print_to_pipe
from genlab.cli.options import NUM_IMAGES, SET_BY_DATA
from genlab.cli.parser import LIST
from genlab.cli.trust import ADVICE, is_trusted
from genlab.packaged import find_file
from genlab.runs.config import config_files, flatten, format_value, option, overridden_keys, overridden_values
from genlab.runs.errors import UsageError
from genlab.runs.folder import run_of_checkpoint
from genlab.runs.wandb_checkpoints import checkpoint_file, is_reference, pinned
from genlab.runs.wandb_variables import with_values_of_agent
from genlab.trained_on import data_class, training_config
from genlab.yaml_files import read_yaml
from lit_models.common.checkpoints import (
    CheckpointError,
    check_config,
    command_that_makes,
    read_checkpoint,
    refuse_run_folder,
)
from lit_models.common.module import GenerativeModule

EVALUATION = ("validate", "test", "predict")


def prepare_args(args: list[str]) -> list[str]:
    """The command line as it is parsed.

    The config of a checkpoint's run comes first when no config is given; a class comes before its own options;
    `--config` may name a config that comes with genlab; packages that `--import` or a config names are imported.

    Raises:
        UsageError: there is no such config, or it is no YAML, or a package cannot be imported.
        CheckpointError: there is no such checkpoint, or the file is none.
        SystemExit: with status 0, after `--model.help` without a class has listed the classes.
    """
    args = with_version_of_checkpoint(with_class_of_help(with_values_of_agent(args)))
    check_checkpoint(args)
    args = with_packaged_configs(with_configs_first(with_run_config(with_classes_first(args))))
    contents = read_configs(args)
    check_files([overridden_values(args), *map(flatten, contents)])
    packages = ",".join(filter(None, [option(args, "import"), *(config.get("import") for config in contents)]))
    if packages and not is_trusted(args, contents):
        raise UsageError(f"--import {packages} runs that package: {ADVICE}")
    import_packages(packages)
    return with_model_and_data_of_checkpoint(args)


def with_class_of_help(args: list[str]) -> list[str]:
    """Gives `--model.help`, `--model.generator.help` and the like the class that they lack.

    It is the class that the option itself has in this command line. Where there is none, the classes are listed.

    Raises:
        UsageError: the class of the model is missing as well.
        SystemExit: with status 0, after models or data modules were listed.
    """
    for place, (arg, following) in enumerate(itertools.pairwise([*args, ""])):
        asked = re.fullmatch(r"--((model|data)(?:\.\w+)*)\.help", arg)
        if asked is None or (following and not following.startswith("-")):
            continue
        kind = option(args, asked[1])
        if kind is None and asked[1] in ("model", "data"):
            print_to_pipe(list_models() if asked[1] == "model" else list_data())
            raise SystemExit(0)
        root = asked[2]
        if kind is None and option(args, root) is None and not config_files(args):
            raise UsageError(f"{arg} needs the class of the {root} too: give --{root} CLASS")
        return [*args[:place], *args[place + 1 :], arg, kind or LIST]  # last, after the class of the model
    return args


def with_version_of_checkpoint(args: list[str]) -> list[str]:
    """Gives a --ckpt_path on W&B the version that its alias stands for, and downloads it.

    Raises:
        UsageError: it cannot be downloaded.
    """
    checkpoint = option(args, "ckpt_path")
    if not is_reference(checkpoint) or _asks_only(args):
        return args
    return [*args, f"--ckpt_path={pinned(str(checkpoint))}"]


def check_checkpoint(args: list[str]) -> None:
    """Refuses a checkpoint that is missing, or is no checkpoint, before its run's config is looked for.

    Raises:
        UsageError: an evaluation names neither a checkpoint nor a model, or weights to start from.
        CheckpointError: there is no such checkpoint, or the file is none.
    """
    checkpoint, command = option(args, "ckpt_path"), args[0] if args else ""
    if _asks_only(args):
        return
    if command in EVALUATION and option(args, "init_from") is not None:
        raise UsageError(f"--init_from is for fit; {command} takes the weights of --ckpt_path")
    if checkpoint is None and command in EVALUATION:
        if not config_files(args) and option(args, "model") is None:
            raise UsageError("give --ckpt_path RUN/checkpoints/best.ckpt")
    elif checkpoint and checkpoint not in ("last", "null") and "://" not in checkpoint:
        path = checkpoint_file(checkpoint)
        refuse_run_folder(path)
        if not path.exists():
            raise CheckpointError(f"there is no checkpoint {path}{command_that_makes(path)}")
        if path.is_file() and not zipfile.is_zipfile(path):
            raise CheckpointError(f"{path} is no checkpoint; give RUN/checkpoints/best.ckpt")


def _asks_only(args: list[str]) -> bool:
    """Whether the command line asks for help or prints a config, and runs nothing."""
    return any("help" in arg or arg.startswith("--print") for arg in args)


def with_run_config(args: list[str]) -> list[str]:
    """Puts `--config <run>/config.yaml` first when a checkpoint of that run is named and no config is."""
    checkpoint = option(args, "ckpt_path")
    run = run_of_checkpoint(checkpoint) if checkpoint else None
    if run is None or not args or config_files(args):
        return args
    return [args[0], "--config", str(run / "config.yaml"), *args[1:]]


def with_model_and_data_of_checkpoint(args: list[str]) -> list[str]:
    """Evaluates a checkpoint that lies outside its run's folder with the model and the data that it names.

    What the command line names counts first. The results go into `<root>/<name of the checkpoint>/default`.

    Raises:
        UsageError: neither the checkpoint nor the command line names the data.
        CheckpointError: the checkpoint cannot be read, or a class that it names is not imported.
    """
    checkpoint, command = option(args, "ckpt_path"), args[0] if args else ""
    if command not in EVALUATION or config_files(args) or (option(args, "model") and option(args, "data")):
        return args
    if not checkpoint or _asks_only(args) or not (path := checkpoint_file(checkpoint)).is_file():
        return args
    named: dict[str, Any] = {"run.experiment": path.stem, "run.name": "default"}
    if option(args, "data") is None:
        config = training_config(path)
        if "data" not in config:
            raise UsageError(f"{path} does not say which data it was trained on; name them with --data CLASS")
        data_class(config["data"]["class_path"])
        named |= {"seed_everything": config.get("seed_everything"), "data": config["data"]}
    if option(args, "model") is None:
        named["model"] = _model_of(path)
    return [command, *(f"--{name}={format_value(value)}" for name, value in named.items()), *args[1:]]


def _model_of(checkpoint: Path) -> dict[str, Any]:
    """The model of a checkpoint, as a config names it.

    Raises:
        CheckpointError: a class is not imported, or there are no hyper-parameters.
    """
    hyper_parameters = read_checkpoint(checkpoint).get(GenerativeModule.CHECKPOINT_HYPER_PARAMS_KEY, {})
    try:
        arguments = check_config(hyper_parameters, GenerativeModule)
    except ValueError as error:
        raise CheckpointError(f"the model of {checkpoint} cannot be built: {error}") from None
    set_by_data = {name.removeprefix("model.") for name in (*SET_BY_DATA, NUM_IMAGES)}
    unused = {"_class_path", "optimizer", *set_by_data}
    return {
        "class_path": arguments["_class_path"],
        "init_args": {name: value for name, value in arguments.items() if name not in unused},
    }


def with_classes_first(args: list[str]) -> list[str]:
    """Puts `--data CLASS` before `--data.size 64`, and so on, where no config and no earlier option gives the class."""
    if config_files(args):
        return args
    groups: list[list[str]] = []  # an option and its values
    for word in args[1:]:
        if word.startswith("--") or not groups:
            groups.append([])
        groups[-1].append(word)
    ordered: list[list[str]] = []
    for group in groups:
        name, before = _name(group), [_name(other) for other in ordered]
        own = [place for place, other in enumerate(before) if other.startswith(f"{name}.")]
        ordered.insert(own[0] if own and name not in before else len(ordered), group)
    return [*args[:1], *itertools.chain.from_iterable(ordered)]


def _name(group: list[str]) -> str:
    return group[0].partition("=")[0]


def with_configs_first(args: list[str]) -> list[str]:
    """Puts all `--config` before the other options, which thus win over every config, wherever they stand."""
    configs, others, words = args[:1], [], iter(args[1:])
    for word in words:
        flag, equals, value = word.partition("=")
        if flag not in ("--config", "-c"):
            others.append(word)
        elif not equals and (following := next(words, None)) is None:
            others.append(word)  # the parser complains that it lacks a value
        else:
            configs.append(f"--config={value if equals else following}")
    return [*configs, *others]


def with_packaged_configs(args: list[str]) -> list[str]:
    """Replaces each config's name by its path, as in `--config gan_mnist`; YAML text and addresses stay as they are.

    Raises:
        UsageError: there is no such config.
    """
    found = list(args)
    for place, (arg, following) in enumerate(itertools.pairwise([*args, ""])):
        flag, _, value = arg.partition("=")
        if arg in ("--config", "-c") and place + 1 < len(args):
            found[place + 1] = _path(following)
        elif flag in ("--config", "-c") and value:
            found[place] = f"{flag}={_path(value)}"
    return found


def _path(config: str) -> str:
    return config if ":" in config or "{" in config else str(find_file(config, "configs"))


def check_files(options: Iterable[Mapping[str, Any]]) -> None:
    """Reads the files that options name in place of their values, as in `--trainer my.yaml`.

    Raises:
        UsageError: one of them cannot be read, or is no YAML, or a pipe or a device.
    """
    for value in itertools.chain.from_iterable(given.values() for given in options):
        if isinstance(value, str) and os.path.exists(value):
            special = not os.path.isfile(value) and not os.path.isdir(value)
            if special or value.endswith((".yaml", ".yml")):
                read_yaml(Path(value), "file")


def read_configs(args: list[str]) -> list[dict[str, Any]]:
    """What the config files of a command line hold.

    Raises:
        UsageError: one of them cannot be read, or is no YAML.
    """
    return [_contents(Path(file)) for file in config_files(args)]


def refuse_what_data_set(args: list[str]) -> None:
    """Refuses options of the model whose values the data give, on the command line or in a config.

    Raises:
        UsageError: there is one.
    """
    given = overridden_keys(args)
    for config in read_configs(args):
        given |= flatten(config).keys()
    for name in (*SET_BY_DATA, NUM_IMAGES):
        if name in given:
            raise UsageError(f"{name} is set by the data; leave it out")


def _contents(config: Path) -> dict[str, Any]:
    """What a config file holds; nothing if it is no file, but text or an address.

    Raises:
        UsageError: the file cannot be read, or is no YAML, or no mapping.
    """
    if not config.is_file():
        return {}
    contents = read_yaml(config)
    if not isinstance(contents, dict):
        raise UsageError(f"cannot read the config {config} (it {'is empty' if contents is None else 'has no options'})")
    return contents
