"""Finds the data that the run of a checkpoint was trained on."""

from pathlib import Path
from typing import Any

import yaml

from datamodules import DataError, ImageDataModule, data_modules
from genlab.runs.errors import UsageError, describe_error
from genlab.runs.folder import run_of_checkpoint
from genlab.suggestions import did_you_mean
from lit_models.common.component import imported_class


def training_data(checkpoint: Path, name: str | None, root: str | None) -> ImageDataModule:
    """Makes the data module that a checkpoint's run was trained on, from the run's config.yaml.

    Args:
        checkpoint: The checkpoint, in the folder `checkpoints` of its run.
        name: Class of a data module to use instead.
        root: Folder of the data; None for that of the run.

    Raises:
        UsageError: No data module is named, or it is unknown, or it cannot be made with the run's arguments.
    """
    run, remedy = run_of_checkpoint(checkpoint), "name the data with --data MNISTDataModule --data-root DIR"
    config = _read_config(run / "config.yaml") if run else {}
    data: dict[str, Any] | None = {"class_path": name} if name else config.get("data")
    if not isinstance(data, dict):
        raise UsageError(f"there is no config.yaml of a run beside {checkpoint} that names its data; {remedy}")
    data_class = _data_class(data["class_path"])
    if data_class is None:
        raise UsageError(_unknown(str(data["class_path"])))
    arguments = {"seed": config.get("seed_everything")} | {
        key: value for key, value in (data.get("init_args") or {}).items() if key != "seed" or value is not None
    }
    if root is not None:
        arguments["root"] = root
    try:
        return data_class(**arguments)
    except (TypeError, ValueError) as error:
        source = f"the arguments in {run / 'config.yaml'}" if run else "these arguments"
        raise UsageError(f"cannot make {data_class.__name__} with {source} ({error}); {remedy}") from error


def class_names(
    checkpoint: Path, num_classes: int | None = None, name: str | None = None, root: str | None = None
) -> list[str]:
    """The class names of a checkpoint's training data; none if they are not known or are not `num_classes` names.

    Args:
        checkpoint: The checkpoint, in the folder `checkpoints` of its run.
        num_classes: Number of classes of the model, if it has one.
        name: Class of a data module to use instead of the run's.
        root: Folder of the data; None for that of the run.

    Raises:
        UsageError: The named data module is unknown or cannot be made.
    """
    try:
        names = training_data(checkpoint, name, root).classes
    except (UsageError, DataError):
        if name is not None:
            raise
        return []
    return list(names) if num_classes in (None, len(names)) else []


def _data_class(path: object) -> type[ImageDataModule] | None:
    """The data module of genlab with this name, or a user's own class that is imported."""
    module, _, name = str(path).rpartition(".")
    ours = module.split(".")[0] in ("", "datamodules")
    return data_modules().get(name) if ours else imported_class(path, ImageDataModule)


def _unknown(path: str) -> str:
    if "." in path:
        return f"the data module {path} is not imported; add --import {path.rpartition('.')[0]}"
    return f"there is no data module {path}{did_you_mean(path, data_modules()) or '; `genlab data` lists them'}"


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({describe_error(error)})") from None
    return config if isinstance(config, dict) else {}
