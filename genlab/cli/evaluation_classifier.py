"""Training of the evaluation classifier before a run that asks for it by `--quality.classifier train`."""

import contextlib
import inspect
import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning import Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from datamodules import DataError, ImageDataModule, PairsDataModule
from datamodules.cache import constructor_arguments
from genlab.cli.preflight import forks
from genlab.evaluation.classifier import (
    TRAIN,
    TRY_INCEPTION,
    EvaluationClassifier,
    default_classifier,
    has_classes,
    own_classifier,
    ready_classifier,
)
from genlab.packaged import find_file
from genlab.processes import first_process
from genlab.random_state import isolated_rng
from genlab.runs.config import format_value
from genlab.runs.errors import UsageError
from genlab.runs.folder import LOCK_FILE, is_finished, missing_parents, remove_empty
from genlab.trained_on import data_class
from genlab.yaml_files import read_yaml
from lit_models import Classifier
from lit_models.common.checkpoints import CheckpointError
from lit_models.networks.conv import depth_of, doubling_channels

TAG = "trained-for-evaluation"
"""Tag of the runs that are made here, and that are begun anew if they were stopped."""
CHANNELS = 16, 128
"""Channels of the first stage of the classifier, and the most that a later one has."""
IMAGES_SEEN = 100_000
"""Number of training images, each counted once an epoch, that the classifier sees within the limits of its epochs."""
MIN_EPOCHS, MAX_EPOCHS = 8, 50
MAX_BATCH, MIN_BATCHES = 128, 10
"""Largest size of a batch, and the number of batches that an epoch has at least."""
KEPT_OPTIONS = ("cache", "on_device", "val_size")
"""Options of the data that the classifier's run has from the asked one, besides those that change what is read."""
POLL_SECONDS = 1.0


def check_trainable(data: ImageDataModule, option: str) -> None:
    """Checks that a classifier of these data can be trained.

    Args:
        data: The data of the asked run.
        option: The option that asks for it.

    Raises:
        UsageError: The images have no classes, or are no batches of images with the number of their class.
    """
    if not has_classes(data):
        inception = f" {TRY_INCEPTION}" if option == "--quality.classifier" else ""
        raise UsageError(
            f"{option} {TRAIN} needs data with at least two classes, and {data.name} has none; leave it out, or name a"
            f" classifier of similar images with {option}{inception}"
        )
    derived = isinstance(data, PairsDataModule) or data.classified_as is not None or len(data.label_columns) != 1
    if derived and _config(data)[0] is None:
        raise UsageError(
            f"{option} {TRAIN} cannot train a classifier on the batches of {data}; train one on images of these"
            f" classes, and name its checkpoint with {option}"
        )


def trained_classifier(
    data: ImageDataModule, config: Mapping[str, Any], trial: Trainer, root: str, fit: Callable[[list[str]], Any]
) -> Path:
    """Returns the checkpoint of the finished evaluation classifier of the data; trains it if there is none.

    It is an ordinary run, `<root>/classifier_<data>/default`, or named by the fingerprint of the images where another
    run has that folder. Of several processes that ask at the same time, one trains and the others wait. Random numbers
    and the seed of the asked run stay as they are.

    Args:
        data: The data of the asked run, set up.
        config: All options of the asked run.
        trial: A trainer with the settings of the asked run.
        root: Folder of all runs.
        fit: Runs a command line of `fit` in this process.

    Raises:
        UsageError: Its training fails.
    """
    if (ready := ready_classifier(data, root)) is not None:
        return ready
    arguments = _arguments(data, config, trial)
    if not first_process():
        while (ready := ready_classifier(data, root)) is None:
            time.sleep(POLL_SECONDS)
        return ready
    with _locked(default_classifier(data, root).parents[2]):
        if (ready := ready_classifier(data, root)) is not None:  # trained by another process in the meantime
            return ready
        run = _place(data, root)
        place = [f"--run.root={root}", f"--run.experiment={run.parent.name}", f"--run.name={run.name}"]
        print(f"training the evaluation classifier of {data.name} first", flush=True)
        try:
            with _seed_kept():
                result = fit(["fit", *arguments, *place, f"--run.tags=[{TAG}]", "--run.overwrite=true"])
        except (UsageError, DataError, CheckpointError) as error:
            raise UsageError(f"the evaluation classifier of {data.name} cannot be trained: {error}") from error
    path = run / "checkpoints" / "best.ckpt"
    accuracy = f"{result.metrics.get('test/accuracy', math.nan):.4g} with {data.num_classes} classes"
    print(f"the evaluation classifier of {data.name} has a test accuracy of {accuracy}: {path}", flush=True)
    return path


def untrained_classifier(data: ImageDataModule) -> EvaluationClassifier:
    """Returns a stand-in of random weights for the evaluation classifier, for `--trainer.fast_dev_run`."""
    kind, shape, classes = _config(data)[1], data.image_shape, data.num_classes
    per_channel = data.classified_as is not None
    if per_channel and kind is not None:
        shape, classes = (1, *shape[1:]), len(kind.classes)
    if first_process():
        print("fast_dev_run measures samples by a classifier of random weights, to try the code only", flush=True)
    with isolated_rng():
        return EvaluationClassifier(
            Classifier((8,), num_classes=classes, image_shape=shape), per_channel, data.image_shape[0]
        )


def _arguments(data: ImageDataModule, config: Mapping[str, Any], trial: Trainer) -> list[str]:
    """Returns what `fit` of the classifier needs, without its place; with the config of these data if there is one."""
    file, kind = _config(data)
    given = config["data"]["init_args"]
    kept = {name: given[name] for name in given if name not in data.used_after_reading or name in KEPT_OPTIONS}
    if file is not None and kind is not None:
        class_path, of_config = f"datamodules.{kind.__name__}", read_yaml(file)["data"].get("init_args", {})
        known = inspect.signature(kind.__init__).parameters
        options = of_config | {name: value for name, value in kept.items() if name in known}
        model = ["--config", str(file)]
    else:
        class_path, options, model = config["data"]["class_path"], kept, ["--model", "Classifier"]
        number = _number_of_images(data, kept)
        batch_size = min(MAX_BATCH, max(2, number // MIN_BATCHES))
        if "batch_size" in given:
            options["batch_size"] = batch_size
        channels = doubling_channels(depth_of(data.image_shape[1:]), *CHANNELS)
        epochs = min(MAX_EPOCHS, max(MIN_EPOCHS, round(IMAGES_SEEN / number)))
        model += [f"--model.channels={list(channels)}", f"--trainer.max_epochs={epochs}"]
    return [
        *model,
        f"--data={format_value({'class_path': class_path, 'init_args': options})}",
        "--seed_everything=0",
        *_machine(config, trial),
    ]


def _number_of_images(data: ImageDataModule, kept: Collection[str]) -> int:
    """Returns the number of images that a classifier is trained on, which is not limited by `labels_per_class`."""
    arguments = constructor_arguments(data)
    return type(data)(**{name: arguments[name] for name in kept if name in arguments}).number_of_images("train")


def _machine(config: Mapping[str, Any], trial: Trainer) -> list[str]:
    """Returns the options of the asked run that say where and how it is executed."""
    device = trial.strategy.root_device
    on_gpu = device.type != "cpu" and not forks(trial)
    options = {
        "trainer.accelerator": device.type if on_gpu else "cpu",
        "trainer.devices": [device.index or 0] if on_gpu else 1,
        "trainer.enable_progress_bar": config["trainer"]["enable_progress_bar"],
        "run.pictures": config["run"]["pictures"],
        "run.wandb": "disabled",
        "trusted": config["trusted"],
        "import": config["import"],
    }
    return [f"--{name}={format_value(value)}" for name, value in options.items() if value is not None]


def _config(data: ImageDataModule) -> tuple[Path, type[ImageDataModule]] | tuple[None, None]:
    """Returns the config `classifier_<data>` and its data module, if a classifier of it measures these data."""
    try:
        file = find_file(f"classifier_{data.classified_as or data.name}", "configs")
        kind = data_class(read_yaml(file)["data"]["class_path"])
    except (UsageError, LookupError, TypeError):
        return None, None
    same = isinstance(data, kind) and (data.image_shape, data.classes) == (kind.image_shape, kind.classes)
    return (file, kind) if type(data) is kind or same or data.classified_as is not None else (None, None)


def _place(data: ImageDataModule, root: str) -> Path:
    """Returns the folder of the run: the default one, unless another run has it. A run is begun anew if it was made
    here and has not finished."""
    default, own = (path.parents[1] for path in (default_classifier(data, root), own_classifier(data, root)))
    return default if _is_free(default) else own


def _is_free(run: Path) -> bool:
    if not run.exists() or all(entry.name == LOCK_FILE for entry in run.iterdir()):
        return True
    file = run / "config.yaml"
    options = read_yaml(file).get("run") or {} if file.is_file() else {}
    return TAG in options.get("tags", ()) and not is_finished(run)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Context in which this process alone trains a classifier of this name; waits for another one that does."""
    new = [folder, *missing_parents(folder)] if not folder.exists() else []
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"waiting for another process, which trains the evaluation classifier in {folder}", flush=True)
            lock.acquire()
        yield
    finally:
        if lock.is_locked:
            Path(lock.lock_file).unlink(missing_ok=True)  # before others can lock it
            lock.release()
        remove_empty(*new)


@contextlib.contextmanager
def _seed_kept() -> Iterator[None]:
    """Context after which the random generators and the seed of the asked run are as they were before."""
    seeds = {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    with isolate_rng():
        try:
            yield
        finally:
            for name, value in seeds.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
