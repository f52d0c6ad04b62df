"""Whether a fit can go on from a checkpoint with the options of its command, and which of them change."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.trainer.connectors import checkpoint_connector

from datamodules import ImageDataModule
from genlab.callbacks.resumed_options import ADVICE, ResumedOptions, as_typed, refusal, structure
from genlab.runs.config import UNNAMED_OPTIONS, UNRECORDED_GROUPS, flatten
from genlab.runs.errors import UsageError, describe_error
from genlab.runs.folder import run_of_checkpoint
from genlab.words import counted
from lit_models.common.checkpoints import CheckpointError, article, read_checkpoint
from lit_models.common.component import imported_class
from lit_models.common.module import GenerativeModule

FIXED = (
    "model",
    "model.encoder_checkpoint",
    "model.tokenizer",
    "model.autoencoder",
    "data",
    "data.seed",
    "data.val_size",
    "data.labels_per_class",
    "seed_everything",
)
"""Options that cannot change: they choose the model, the data or their split."""
DATA_AT_ANY_TIME = ("data.root", "data.on_device", "data.predict_split", "data.eval_batch_size", "data.shift")
"""Options of the data that do not change which images a batch holds."""
PROCESSES = "the number of processes"
STEPS = ("trainer.accumulate_grad_batches", "trainer.limit_train_batches", "trainer.overfit_batches", PROCESSES)
"""Options of the trainer that change what a step is, as all others of the data do."""
LIMITS = ("trainer.max_", "trainer.min_")
"""Beginnings of the options that say how long to train."""


@dataclass
class ResumePoint:
    """The checkpoint that a fit goes on from.

    Args:
        path: Its file.
        epochs: Number of epochs that are done.
        steps: Number of optimizer steps that are done.
        within_epoch: Whether an epoch is partly done.
        scheduled: Whether the learning rate follows a schedule.
        processes: Number of processes that wrote it.
        config: The options that it was trained with, with dotted keys.
        fingerprint: Fingerprint of the data that it was trained on; None if it is unknown.
    """

    path: Path
    epochs: int
    steps: int
    within_epoch: bool
    scheduled: bool
    processes: int
    config: dict[str, Any]
    fingerprint: str | None = None

    @classmethod
    def read(cls, path: Path) -> "ResumePoint":
        """Reads a checkpoint, and checks that its state of the training is whole.

        Raises:
            UsageError, CheckpointError: a run cannot be resumed from it.
        """
        contents = read_checkpoint(path)
        if "callbacks" not in contents and "optimizer_states" not in contents:
            last = path.with_name("last.ckpt")
            other = f"go on from {last}, or " if last.is_file() else ""
            raise UsageError(
                f"{path} holds weights only; {other}start a new run from these weights with --init_from {path}"
            )
        callbacks = contents.get("callbacks") or {}
        own = callbacks.get(ResumedOptions.__qualname__) if isinstance(callbacks, Mapping) else None
        if not isinstance(own, Mapping) or not isinstance(own.get("structure"), Mapping):
            raise _damaged(path, "it has no record of the options of its run")
        found = structure(contents)
        wrong = [name for name, digest in own["structure"].items() if found.get(name) != digest]
        if wrong:
            raise _damaged(path, f"its {' and '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not as it was saved")
        fit = contents["loops"]["fit_loop"]
        batches = fit["epoch_loop.batch_progress"]
        return cls(
            path,
            epochs=fit["epoch_progress"]["current"]["processed"],
            steps=contents["global_step"],
            within_epoch=batches["current"]["ready"] > 0 and not batches["is_last_batch"],
            scheduled=bool(contents["lr_schedulers"]),
            processes=len(callbacks["ExactResume"]["ranks"]),
            config=own["config"],
            fingerprint=contents.get("data_fingerprint"),
        )

    def check_length(self, max_epochs: int | None, max_steps: int) -> None:
        """
        Raises:
            UsageError: more is done already than is asked for; a run of just as many epochs is only tested again.
        """
        for done, wanted, unit in ((self.epochs, max_epochs, "epochs"), (self.steps, max_steps, "steps")):
            if wanted is not None and -1 < wanted < done:
                raise UsageError(f"{_count(done, unit)} done in {self.path}; give --trainer.max_{unit} above {done}")

    def changes(self, config: Mapping[str, Any], processes: int) -> dict[str, tuple[Any, Any]]:
        """The options that differ from those of the checkpoint, with both values.

        Raises:
            UsageError: one of them cannot change.
        """
        old, new = self.config | {PROCESSES: self.processes}, {**config, PROCESSES: processes}
        found = {key: (old[key], new[key]) for key in old if key in new and old[key] != new[key]}
        for key in sorted(found, key=lambda key: key not in ("model", "data")):
            before, now = found[key]
            if key in ("init_from", "init_strict"):
                raise UsageError(f"--{key} is for a new run, and --ckpt_path resumes one; leave one of them out")
            if key in FIXED or _sets_initial_weights(key, new):
                raise UsageError(refusal(f"--{key}", before, now))
            steps = key in STEPS or (key.startswith("data.") and key not in DATA_AT_ANY_TIME)
            if steps and (self.within_epoch or self.scheduled):
                when = "within an epoch" if self.within_epoch else "under a learning-rate schedule"
                raise UsageError(f"{refusal(f'--{key}', before, now)} (it could, but not {when})")
        return found

    def check_data(self, data: ImageDataModule) -> None:
        """
        Raises:
            UsageError: the images are others than those that the run was trained on.
        """
        if self.fingerprint is not None and data.fingerprint != self.fingerprint:
            raise UsageError(
                f"{self.path} was trained on other images than those in --data.root {data.root}; give the data that it"
                " was trained on, or start a new run from its weights with --init_from"
            )

    def check_finished(self, changes: Mapping[str, Any], folder: Path) -> None:
        """
        Raises:
            UsageError: nothing is left to train, so that a change has no effect, or a new run in `folder` no weights.
        """
        advice = f"{_count(self.epochs, 'epochs')} done in {self.path}; give --trainer.max_epochs above {self.epochs}"
        if folder != run_of_checkpoint(self.path):
            raise UsageError(f"nothing is left to train for a new run in {folder}: {advice}")
        of_training = [key for key in changes if key.startswith(("model", "data", "trainer"))]
        for key in of_training:
            if not key.startswith((*LIMITS, *DATA_AT_ANY_TIME)):
                raise UsageError(f"--{key} has no effect, as nothing is left to train: {advice}")

    def message(self, changes: Mapping[str, tuple[Any, Any]]) -> str:
        """Says in one line what is resumed, and with which changes."""
        done = f"{counted(self.epochs, 'epoch')} and {counted(self.steps, 'step')}"
        said = ", ".join(f"{key} {as_typed(old)} -> {as_typed(new)}" for key, (old, new) in changes.items())
        return f"resuming {self.path} after {done}{f': {said}' if said else ''}"


def _count(number: int, unit: str) -> str:
    return f"{number} {unit} are" if number != 1 else f"1 {unit[:-1]} is"


def training_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a nested config that a checkpoint records: not those of the run's place and of the machine."""
    flat = {key: value for key, value in flatten(config).items() if key.split(".")[0] not in UNRECORDED_GROUPS}
    return {key: value for key, value in flat.items() if not key.startswith(UNNAMED_OPTIONS)}


def check_class(path: Path, model: GenerativeModule) -> None:
    """
    Raises:
        CheckpointError: the checkpoint holds a model of another class, or cannot be read.
    """
    kind = str(_model_config(read_checkpoint(path)).get("_class_path", "")).rpartition(".")[2]
    if kind and kind != type(model).__name__:
        raise CheckpointError(
            f"{path} holds {article(kind)}, and the command names {article(type(model).__name__)}; leave --model and"
            " --config out, or give another checkpoint"
        )


def misfit(path: Path, error: BaseException, model: GenerativeModule) -> CheckpointError | None:
    """What is wrong with a checkpoint that Lightning could not restore; None for an error of another origin."""
    frames = traceback.extract_tb(error.__traceback__)
    restoring = any(frame.filename == checkpoint_connector.__file__ for frame in frames)
    told = isinstance(error, OSError | torch.OutOfMemoryError | CheckpointError | UsageError)
    if not restoring or told or not isinstance(error, Exception):
        return None
    old = _model_config(read_checkpoint(path))
    if "_class_path" not in old:
        reason = "it was not written by genlab; give RUN/checkpoints/best.ckpt or last.ckpt of a run"
        return CheckpointError(f"{path} does not fit {type(model).__name__}: {reason}")
    before, now = flatten({"model": old}), flatten({"model": model.model_config()})
    differ = [key for key in before if key in now and before[key] != now[key] and not key.startswith(UNFIT)]
    if differ:
        held = ", ".join(f"--{key} {as_typed(before[key])}" for key in differ)
        given = ", ".join(as_typed(now[key]) for key in differ)
        return CheckpointError(f"{path} does not fit: it has {held}, and the command {given}; {ADVICE}")
    return CheckpointError(f"{path} does not fit {type(model).__name__} ({describe_error(error)[:200]})")


UNFIT = ("model.optimizer", "model._")
"""Beginnings of the options of a model that do not change its weights."""


def _model_config(contents: Mapping[str, Any]) -> Mapping[str, Any]:
    config = contents.get(GenerativeModule.CHECKPOINT_HYPER_PARAMS_KEY)
    return config if isinstance(config, Mapping) else {}


def _sets_initial_weights(key: str, config: Mapping[str, Any]) -> bool:
    owner, _, name = key.rpartition(".")
    return name in getattr(imported_class(config.get(owner), object), "initial_weights", ())


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged or was not written by this version of genlab: {what}; go on from another checkpoint, or"
        f" start a new run from its weights with --init_from {path}"
    )
