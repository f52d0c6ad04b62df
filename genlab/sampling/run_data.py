"""Finds the data that the run of a checkpoint was trained on."""

from pathlib import Path
from typing import Any

from datamodules import DataError, ImageDataModule
from genlab.runs.errors import UsageError
from genlab.trained_on import data_class, training_config


def training_data(checkpoint: Path, name: str | None, root: str | None) -> ImageDataModule:
    """Makes the data module that a checkpoint was trained on, from the config of its run.

    Args:
        checkpoint: The checkpoint.
        name: Class of a data module to use instead.
        root: Folder of the data; None for that of the run.

    Raises:
        UsageError: No data module is named, or it is unknown, or it cannot be made with the run's arguments.
        CheckpointError: The checkpoint cannot be read.
    """
    config, remedy = training_config(checkpoint), "name the data with --data MNISTDataModule --data-root DIR"
    data: dict[str, Any] | None = {"class_path": name} if name else config.get("data")
    if not isinstance(data, dict):
        raise UsageError(f"{checkpoint} does not say which data it was trained on; {remedy}")
    chosen = data_class(data.get("class_path"))
    arguments = {"seed": config.get("seed_everything")} | {
        key: value for key, value in (data.get("init_args") or {}).items() if key != "seed" or value is not None
    }
    if root is not None:
        arguments["root"] = root
    try:
        return chosen(**arguments)
    except (TypeError, ValueError) as error:
        source = "these arguments" if name else f"the arguments that {checkpoint} was trained with"
        raise UsageError(f"cannot make {chosen.__name__} with {source} ({error}); {remedy}") from error


def training_option(checkpoint: Path, name: str) -> Any:
    """The value of an option of the data that a checkpoint was trained on; None if it is unknown.

    Raises:
        CheckpointError: The checkpoint cannot be read.
    """
    data = training_config(checkpoint).get("data") or {}
    return (data.get("init_args") or {}).get(name)


def class_names(
    checkpoint: Path, num_classes: int | None = None, name: str | None = None, root: str | None = None
) -> list[str]:
    """The class names of a checkpoint's training data; none if they are not known or are not `num_classes` names.

    Args:
        checkpoint: The checkpoint.
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
