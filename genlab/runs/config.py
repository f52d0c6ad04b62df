"""The configuration of a run under the short dotted keys that users type, such as model.latent_dim."""

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from genlab.runs.folder import RunOptions, jsonable, safe_name
from genlab.runs.short_names import last_word, short_class, unambiguous
from genlab.yaml_files import load_yaml

UNRECORDED_GROUPS = (
    "run",
    "config",
    "trusted",
    "import",
    "ckpt_path",
    "weights_only",
    "print_config",
    "help",
    "max_parameters",
)
"""Option groups that are not part of a run's recorded config: they say where the run is stored."""
NAMED_GROUPS = ("seed_everything", "model", "data", "trainer", "init_from", "init_strict")
"""Option groups that appear in a run's name. The options of callbacks do not."""
UNNAMED_OPTIONS = (
    "data.root",
    "data.on_device",
    "trainer.accelerator",
    "trainer.strategy",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.logger",
    "trainer.callbacks",
    "trainer.log_every_n_steps",
    "trainer.profiler",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
)
"""Options that depend on the machine. They are not in the name, so that a run has the same path on every machine."""
SEED = "seed_everything"
SHORT_NAMES = {SEED: "seed"}
FIRST_IN_NAMES = ("model", "data")
LONG_NUMBER, ROUNDED = 6, 4
"""A number with more significant digits than the first is rounded to the second in names: nobody typed it."""


def overridden_values(args: Sequence[str]) -> dict[str, Any]:
    """Returns what a command line sets in addition to its config files: the value, read as YAML, of each short key.

    A mapping sets each of its entries, as in `--model={'init_args': {'depth': 3}}`, which sets model.depth.
    """
    values: dict[str, Any] = {}
    for arg, following in zip(args, [*args, ""][1:], strict=True):
        if not arg.startswith("--"):
            continue
        key, equals, text = arg[2:].partition("=")
        text = text if equals or following.startswith("--") else following
        read = _parse_yaml(text)
        value = text if isinstance(read, Mapping) and not text.startswith("{") else read  # such as the text "a: b"
        values |= {short_key(name): item for name, item in flatten({key.rstrip("+"): value}).items()}
    return {key: value for key, value in values.items() if key.split(".")[0] not in UNRECORDED_GROUPS}


def short_key(key: str) -> str:
    """Returns a dotted key as users type it: model.init_args.depth is model.depth, model.class_path is model."""
    return ".".join(part for part in key.split(".") if part not in ("init_args", "class_path", "dict_kwargs"))


def _parse_yaml(text: str) -> Any:
    try:
        return load_yaml(text)
    except yaml.YAMLError:
        return text


def format_value(value: Any) -> str:
    """Formats a value for a command line by str(), as W&B's agent does, unless YAML would read it differently.

    That is so for None, which becomes `null`, and for some lists and mappings.
    """
    if value is None:
        return "null"
    text = str(value)
    if not isinstance(value, list | dict) or _parse_yaml(text) == value:
        return text
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf).strip()


def option(args: list[str], name: str) -> str | None:
    """Returns the last value of an option that is written `--name value` or `--name=value`; None if it is absent."""
    value = None
    for arg, following in zip(args, [*args, ""][1:], strict=True):
        if arg == f"--{name}":
            value = following
        elif arg.startswith(f"--{name}="):
            value = arg.partition("=")[2]
    return value


def config_files(args: list[str]) -> list[str]:
    """Returns the values of all --config and -c options."""
    files = [value for arg, value in itertools.pairwise(args) if arg in ("--config", "-c")]
    return files + [arg.partition("=")[2] for arg in args if arg.startswith(("--config=", "-c="))]


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens a nested config to dotted keys. A class is the value of its own key; its arguments come directly below.

    {"model": {"class_path": "M", "init_args": {"depth": 3}}} -> {"model": "M", "model.depth": 3}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and "class_path" in value:
            flat[name] = value["class_path"]
            flat |= flatten(value.get("init_args") or {}, f"{name}.")
            flat |= flatten(value.get("dict_kwargs") or {}, f"{name}.")
        elif isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def recorded_config(config: Mapping[str, Any], defaults: Mapping[str, Any], args: list[str]) -> dict[str, Any]:
    """Returns the config of a run that is recorded, as dotted keys.

    These are all options of the seed, the model and the data, and the other options that differ from their defaults or
    are given on the command line.
    """
    flat, default, given = flatten(config), flatten(defaults), overridden_keys(args)
    kept = {}
    for key, value in flat.items():
        group = key.split(".")[0]
        whole = group in ("seed_everything", "model", "data") and value is not None
        if group not in UNRECORDED_GROUPS and (whole or key in given or value != default.get(key)):
            kept[key] = value
    return kept


def overridden_keys(args: Sequence[str]) -> set[str]:
    """Returns the short keys that a command line sets in addition to its config files."""
    return set(overridden_values(args))


def differing_keys(
    recorded: Mapping[str, Any], config: Mapping[str, Any], options: Mapping[str, Any], defaults: Mapping[str, Any]
) -> list[str]:
    """Returns the keys in which the recorded config of a run differs from the one that a command line gives.

    Args:
        recorded: The config in the run's summary.
        config: The config that a run with this command line would record.
        options: All options of the command line under their short keys. What the run recorded beyond them is ignored.
        defaults: The defaults of options, for those that the run did not record.
    """
    missing = object()
    return sorted(
        key
        for key in {*config, *recorded} & options.keys()
        if jsonable(options[key]) != recorded.get(key, jsonable(defaults.get(key, missing)))
    )


def differing_values(args: Sequence[str], recorded: Mapping[str, Any]) -> list[str]:
    """As `differing_keys`, of a program whose options are not known: compares what the command line gives alone."""
    given = overridden_values(args)
    return sorted(key for key in given.keys() & recorded.keys() if given[key] != recorded[key])


def run_name(keys: Iterable[str], config: Mapping[str, Any], swept: Collection[str] = ()) -> str:
    """Returns the name of a run, such as `depth=3,latent_dim=10,seed=1`. Model and data come first.

    Args:
        keys: The overridden keys.
        config: The flat config, which holds their values.
        swept: Keys that differ between the runs of a sweep. They alone are in the name, whatever their group.
    """
    named = [key for key in keys if (key in swept if swept else is_named(key))]
    named = [key for key in named if key != "trainer" or config.get(key) is not None]  # its options have own keys
    names = unambiguous({key: SHORT_NAMES.get(key, last_word(key)) for key in named})
    parts = []
    for key in named:
        part = f"{names[key]}={short_class(_format(config.get(key)))}"
        parts.append((FIRST_IN_NAMES.index(key) if key in FIRST_IN_NAMES else len(FIRST_IN_NAMES), part))
    return ",".join(part for _, part in sorted(parts)) or "default"


def swept_keys(key: str, values: Sequence[Any]) -> list[str]:
    """Returns the short keys that a parameter of a sweep sets: its own, and those in its values that are blocks.

    >>> swept_keys("model.optimizer", [{"class_path": "SGD", "init_args": {"lr": 0.1}}])
    ['model.optimizer', 'model.optimizer.lr']
    """
    blocks = (flatten({key: value}) for value in values if isinstance(value, Mapping))
    return list(dict.fromkeys(short_key(name) for block in [{key: None}, *blocks] for name in block))


def is_named(key: str) -> bool:
    """Returns whether an option is in a run's name, whether or not it is swept."""
    return key.partition(".")[0] in NAMED_GROUPS and not key.startswith(UNNAMED_OPTIONS)


def _format(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return "x".join(_format(item) for item in value)
    try:
        number = float(value)  # 1, 1.0 and "1.0" give the same name
    except (TypeError, ValueError):
        return str(value)
    if number.is_integer() and abs(number) < 2**53:
        return str(int(number))
    return repr(number) if float(f"{number:.{LONG_NUMBER}g}") == number else f"{number:.{ROUNDED}g}"


def run_folder(args: list[str], options: RunOptions, config: Mapping[str, Any], swept: Collection[str] = ()) -> Path:
    """Returns the folder of a run, <root>/<experiment>/<run>, without the number that distinguishes repeated runs.

    The experiment is by default the stem of the first config file, or `<model>_<data>` without one. The run is by
    default named by its overrides. If a config file sets the name, as the config.yaml of a run does, the overrides are
    appended to that name.

    Args:
        args: The command line.
        options: Its `--run.*` options.
        config: The flat config that the command line gives.
        swept: Keys that differ between the runs of a sweep.
    """
    files = config_files(args)
    model, data = (last_word(str(config[key])).lower() for key in ("model", "data"))
    experiment = options.experiment or (Path(files[0]).stem if files else f"{model}_{data.removesuffix('datamodule')}")
    given = overridden_values(args)
    in_experiment = set() if files or options.experiment else {"model", "data"}
    overrides = run_name(given.keys() - in_experiment, {**config, **_stems_of_files(given)}, swept)
    for extra in files[1:]:
        overrides = _join(overrides, f"config={Path(extra).stem}")
    name = option(args, "run.name") or _join(options.name or "default", overrides)
    return Path(options.root) / safe_name(experiment) / safe_name(name)


def _stems_of_files(given: Mapping[str, Any]) -> dict[str, str]:
    """Returns the stem of each YAML file that is given in place of a group of options, as in `--trainer gpu.yaml`."""
    files = {key: Path(value) for key, value in given.items() if isinstance(value, str)}
    return {key: path.stem for key, path in files.items() if path.suffix in (".yaml", ".yml", ".json")}


def _join(name: str, more: str) -> str:
    return ",".join(part for part in (name, more) if part != "default") or "default"
