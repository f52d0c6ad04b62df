"""TensorBoard and MLflow: loggers that write into the run folder, and pictures for these and for a user's own ones.

Their packages are extras, imported where they are needed.
"""

import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from PIL import Image

from genlab.runs.errors import UsageError
from genlab.runs.folder import RunOptions


def check_installed(options: RunOptions) -> None:
    """Checks that the packages are there of the loggers that the options ask for.

    Raises:
        UsageError: One is missing.
    """
    for name in ("tensorboard", "mlflow"):
        if getattr(options, name) and importlib.util.find_spec(name) is None:
            raise UsageError(f"--run.{name} needs the package {name}: pip install 'genlab[{name}]'")


def loggers_in(folder: Path, options: RunOptions, first_step: int) -> list[Logger]:
    """Returns the loggers that the options ask for.

    Args:
        folder: The run folder.
        options: The options of the run.
        first_step: The step from which a resumed run logs; 0 for a new one.
    """
    loggers: list[Logger] = []
    if options.tensorboard:
        resumed: dict[str, Any] = {"purge_step": first_step} if first_step else {}  # hides what is logged again
        name = "tensorboard"
        loggers.append(TensorBoardLogger(folder, name=name, version="", default_hp_metric=False, **resumed))
    if options.mlflow:
        loggers.append(_mlflow_logger(folder))
    return loggers


def _mlflow_logger(folder: Path) -> MLFlowLogger:
    """A logger with a database of its own. A resumed run goes on with the MLflow run that is there."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it tells that it makes tables
    store = (folder / "mlflow").resolve()
    store.mkdir(exist_ok=True)
    logger = MLFlowLogger(folder.parent.name, folder.name, f"sqlite:///{store / 'mlflow.db'}")
    client = logger._mlflow_client
    experiment = client.get_experiment_by_name(folder.parent.name)
    if experiment is None:
        client.create_experiment(folder.parent.name, artifact_location=(store / "artifacts").as_uri())
    elif earlier := client.search_runs([experiment.experiment_id]):
        logger._run_id = earlier[0].info.run_id
        client.update_run(earlier[0].info.run_id, "RUNNING")
    return logger


def log_picture(logger: Logger, name: str, picture: Image.Image, step: int) -> None:
    """Logs a picture to TensorBoard or MLflow; does nothing for another logger."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_image(logger.run_id, picture, key=name, step=step)


def log_gif(logger: Logger, name: str, file: Path, step: int) -> None:
    """Logs a GIF to TensorBoard or MLflow; does nothing for another logger."""
    if isinstance(logger, TensorBoardLogger):
        from tensorboard.compat.proto.summary_pb2 import Summary

        with Image.open(file) as picture:
            size = {"width": picture.width, "height": picture.height, "colorspace": 3}
        image = Summary.Image(**size, encoded_image_string=file.read_bytes())
        logger.experiment.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_artifact(logger.run_id, str(file), "media")
