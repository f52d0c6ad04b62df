"""What a checkpoint says about its training: the config of its run, and the data module in it."""

from pathlib import Path
from typing import Any

from datamodules import ImageDataModule, data_modules
from genlab.runs.errors import UsageError
from genlab.runs.folder import run_of_checkpoint
from genlab.suggestions import did_you_mean
from genlab.yaml_files import read_yaml
from lit_models.common.checkpoints import read_checkpoint
from lit_models.common.component import imported_class


def training_config(checkpoint: Path) -> dict[str, Any]:
    """The config of a checkpoint's run, as in its config.yaml; outside its run's folder, only the seed and the data.

    Raises:
        UsageError: The config.yaml cannot be read.
        CheckpointError: The checkpoint cannot be read.
    """
    run = run_of_checkpoint(checkpoint)
    config = read_yaml(run / "config.yaml") if run else read_checkpoint(checkpoint).get("trained_on")
    return config if isinstance(config, dict) else {}


def data_class(path: object) -> type[ImageDataModule]:
    """The data module of genlab with this name, or a user's own class that is imported.

    Raises:
        UsageError: There is none.
    """
    module, _, name = str(path).rpartition(".")
    ours = module.split(".")[0] in ("", "datamodules")
    found = data_modules().get(name) if ours else imported_class(path, ImageDataModule)
    if found is not None:
        return found
    if module:
        raise UsageError(f"the data module {path} is not imported; add --import {module}")
    raise UsageError(
        f"there is no data module {path}{did_you_mean(path, data_modules()) or '; `genlab data` lists them'}"
    )
