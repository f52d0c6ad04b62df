"""A run's configuration under the short dotted keys that users type: model.latent_dim, trainer.max_epochs."""

import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from genlab.runs.folder import RunOptions, safe_name

OWN_GROUPS = ("run", "config", "ckpt_path", "weights_only", "print_config", "help")
"""Options that say where a run goes, not what it is."""
NAMED_GROUPS = ("seed_everything", "model", "data", "trainer")
"""Options that say what a run is; the others say how it is watched and saved."""
NOT_IN_THE_NAME = (
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
"""Options of the machine: the same experiment keeps its name, and so its path, wherever it runs."""
SHORT = {"seed_everything": "seed"}
CLASS = re.compile(r"^([A-Za-z_]\w*\.)+(?=[A-Z]\w*$)")
"""The modules before a class's name."""


def given_values(args: list[str]) -> dict[str, Any]:
    """The values of overridden keys as the command line writes them, read as YAML."""
    values = {key: option(args, key) for key in overridden_keys(args)}
    return {key: _read(value) for key, value in values.items()}


def _read(text: str | None) -> Any:
    try:
        return None if text is None else yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def option(args: list[str], name: str) -> str | None:
    """The last value of `--name value` or `--name=value`."""
    value = None
    for arg, following in zip(args, [*args, ""][1:], strict=True):
        if arg == f"--{name}":
            value = following
        elif arg.startswith(f"--{name}="):
            value = arg.partition("=")[2]
    return value


def config_files(args: list[str]) -> list[str]:
    """The values of every --config or -c."""
    files = [value for arg, value in itertools.pairwise(args) if arg in ("--config", "-c")]
    return files + [arg.partition("=")[2] for arg in args if arg.startswith(("--config=", "-c="))]


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested config to dotted keys; a class stands under its own key, its arguments directly below it.

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


def recorded(config: Mapping[str, Any], defaults: Mapping[str, Any], args: list[str]) -> dict[str, Any]:
    """What is recorded as a run's config, as dotted keys: the seed, model and data whole, other options as changed."""
    flat, usual, given = flatten(config), flatten(defaults), overridden_keys(args)
    kept = {}
    for key, value in flat.items():
        group = key.split(".")[0]
        whole = group in ("seed_everything", "model", "data") and value is not None
        if group not in OWN_GROUPS and (whole or key in given or value != usual.get(key)):
            kept[key] = value
    return kept


def overridden_keys(args: Iterable[str]) -> set[str]:
    """The dotted keys that a command line sets beside its config files, without `init_args`."""
    keys: set[str] = set()
    for arg in args:
        if not arg.startswith("--"):
            continue
        key, _, value = arg[2:].partition("=")
        key = ".".join(part for part in key.rstrip("+").split(".") if part not in ("init_args", "class_path"))
        given = _read(value) if value.startswith("{") else None
        if isinstance(given, Mapping):
            keys |= {f"{key}.{inner}" for inner in flatten(given)}
        else:
            keys.add(key)
    return {key for key in keys if key.split(".")[0] not in OWN_GROUPS}


def run_name(keys: Iterable[str], config: Mapping[str, Any]) -> str:
    """`depth=3,latent_dim=10,seed=1` from overridden keys and the flat config that holds their values."""
    named = [key for key in keys if key.split(".")[0] in NAMED_GROUPS and not key.startswith(NOT_IN_THE_NAME)]
    short = {key: SHORT.get(key, key.rsplit(".", 1)[-1]) for key in named}
    taken = list(short.values())
    parts = []
    for key in named:
        name = short[key] if taken.count(short[key]) == 1 else key
        parts.append(f"{name}={CLASS.sub('', _show(config.get(key)))}")
    return ",".join(sorted(parts)) or "default"


def _show(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return "x".join(_show(item) for item in value)
    try:
        number = float(value)  # 1, 1.0 and "1.0" are one run
    except (TypeError, ValueError):
        return str(value)
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)


def run_home(args: list[str], options: RunOptions, config: Mapping[str, Any]) -> Path:
    """<root>/<experiment>/<run>, before any number is added, for a command line and the flat config it gave.

    The experiment is the first config file's stem, or `<model>_<data>` without one; the run is its overrides. A
    name in a config file, as a run's own config.yaml has it, is kept and the overrides are added to it.
    """
    files = config_files(args)
    model, data = (str(config[key]).rsplit(".", 1)[-1].lower() for key in ("model", "data"))
    experiment = options.experiment or (Path(files[0]).stem if files else f"{model}_{data.removesuffix('datamodule')}")
    keys = overridden_keys(args)
    overrides = run_name(keys if files else keys - {"model", "data"}, config)
    for extra in files[1:]:
        overrides = _join(overrides, f"config={Path(extra).stem}")
    name = option(args, "run.name") or _join(options.name or "default", overrides)
    return Path(options.root) / safe_name(experiment) / safe_name(name)


def _join(name: str, more: str) -> str:
    return ",".join(part for part in (name, more) if part != "default") or "default"
