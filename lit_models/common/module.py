"""`GenerativeModule`, the base class of every model: how it logs, is optimised, saved and loaded."""

import inspect
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from lightning import LightningModule, Trainer
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from lit_models.common.batches import check_range, complete_batch
from lit_models.common.checkpoints import CheckpointError, article, build_model, read_checkpoint
from lit_models.common.component import Component
from lit_models.common.lr_schedules import LRSchedule, one_cycle, stretch_one_cycle

# Optimizers are made by a lambda by default, which is rebuilt from the class and need not be in the checkpoint.
warnings.filterwarnings("ignore", "Attribute 'optimizer' removed from hparams")
# A data module need not know of the checks of batches.
warnings.filterwarnings("ignore", "You have overridden `on_after_batch_transfer` in `LightningModule`")

ImageShape = tuple[int, int, int]
"""Channels, height, width."""
Stage = Literal["train", "val", "test"]


class GenerativeModule(LightningModule, ABC):
    """LightningModule with one way to log, to choose the best checkpoint, to save and to load.

    A model defines a constructor of its own, which calls this one first and then `save_hyperparameters()`.

    Args:
        optimizer: Function that makes the optimizer from the parameters.

    Examples:
        >>> from lit_models import Autoencoder
        >>> config = Autoencoder(latent_dim=2).model_config()
        >>> GenerativeModule.from_config(config).latent_dim
        2
    """

    monitor: tuple[str, Literal["min", "max"]] | None = None
    """Metric that chooses the best checkpoint, and its better direction. None: the last weights are the best."""

    initial_weights: ClassVar[tuple[str, ...]] = ()
    """Constructor arguments that only set initial weights. They are None when a checkpoint brings the weights."""

    embedded_configs: ClassVar[tuple[str, ...]] = ()
    """Constructor arguments that describe, as JSON, another model whose weights are part of this model's checkpoint."""

    lr_schedule: LRSchedule = "constant"
    """Learning-rate schedule: constant, or one cycle over the whole training."""

    data_fingerprint: str | None = None
    """Fingerprint of the data that a loaded model learned; None if it is unknown or if the data have no classes."""

    @abstractmethod
    def __init__(self, optimizer: OptimizerCallable) -> None:
        super().__init__()
        self.make_optimizer = optimizer
        self._checked_stages: set[object] = set()
        """Stages of this run whose first batch was checked."""

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(p for p in self.parameters() if p.requires_grad)
        return optimizer if self.lr_schedule == "constant" else one_cycle(optimizer, self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stretches a learning-rate cycle when a run is resumed to train for longer."""
        if self._trainer is not None:
            stretch_one_cycle(checkpoint.get("lr_schedulers", []), self.trainer)

    def prepare_fit(self) -> None:
        """Loads what training needs besides the data, such as the weights of a fixed network. Called before any file
        of a run is written.

        Raises:
            CheckpointError, ValueError: it cannot be loaded.
        """

    def check_trainer(self, trainer: Trainer) -> None:
        """Refuses a trainer whose settings the model cannot be trained with.

        Called before any file of a run is written, with a trainer that is not the run's own but has its settings, and
        again when training starts.

        Raises:
            MisconfigurationException: a setting does not fit the model.
        """
        if self.automatic_optimization:
            return
        for name, given in (
            ("gradient_clip_val", trainer.gradient_clip_val),
            ("accumulate_grad_batches", trainer.accumulate_grad_batches != 1 and trainer.accumulate_grad_batches),
            ("gradient_clip_algorithm", trainer.gradient_clip_algorithm),
        ):
            if given:
                own = hasattr(getattr(self, "recipe", None), name)
                advice = f"give --model.recipe.{name} {given}" if own else "leave it out"
                raise MisconfigurationException(
                    f"--trainer.{name} has no effect on {type(self).__name__}, which steps its optimizers itself;"
                    f" {advice}"
                )

    def check_batch_size(self, batch_size: int) -> None:
        """Refuses batches of a size that the model cannot be trained on. Called before any file of a run is written.

        Raises:
            MisconfigurationException: the model needs batches of another size.
        """

    def on_fit_start(self) -> None:
        self.check_trainer(self.trainer)

    @property
    def learns_labels(self) -> bool:
        """Whether training needs labels."""
        return any(getattr(self, name, None) is not None for name in ("num_classes", "needs_label"))

    def setup(self, stage: str) -> None:
        self._checked_stages.clear()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Completes each batch; checks the images of the first one of each stage, as a check waits for the device."""
        batch, stage = complete_batch(batch, self), self.trainer.state.stage
        if stage not in self._checked_stages:
            check_range(batch, self)
            self._checked_stages.add(stage)
        return batch

    def loss_terms(self, batch: Any) -> dict[str, Tensor]:
        """Named scalars of a batch, each a mean over its images. Training minimises the first."""
        raise TypeError(f"{type(self).__name__} defines neither loss_terms nor its own steps")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return next(iter(self._evaluate(batch, "train").values()))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def _evaluate(self, batch: Any, stage: Stage) -> dict[str, Tensor]:
        terms = self.loss_terms(batch)
        self.log_terms(stage, terms, len(batch[0]))
        return terms

    def logs_this_step(self) -> bool:
        """Whether `log_terms` logs in the current training step."""
        trainer = self.trainer
        reaches_end = 0 < trainer.max_steps <= trainer.global_step + len(trainer.optimizers)
        return trainer.is_last_batch or reaches_end or trainer._logger_connector.should_update_logs

    def log_terms(self, stage: Stage, terms: Mapping[str, Tensor], batch_size: int) -> None:
        """Logs scalars as `{stage}/{term}`: values of single steps in training, else the exact mean over all images.

        In training, it logs every `trainer.log_every_n_steps`-th step and the last steps of an epoch; other steps cost
        nothing.
        """
        training = stage == "train"
        if training and not self.logs_this_step():
            return
        self.log_dict(
            {f"{stage}/{term}": value.detach() for term, value in terms.items()},
            on_step=training,
            on_epoch=not training,
            sync_dist=not training,
            batch_size=batch_size,
            prog_bar=True,
        )

    def derived_config(self) -> dict[str, Any]:
        """Facts, as dotted keys, that belong in a run's recorded config although no option sets them."""
        return {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Writes the hyper-parameters that rebuild the model, as plain values that load without pickled code."""
        accepted = set(inspect.signature(type(self).__init__).parameters)
        arguments = {k: _as_config(getattr(self, k, None), v) for k, v in self.hparams.items() if k in accepted}
        kept = {k: None if k in self.initial_weights else v for k, v in arguments.items() if _is_plain(v)}
        kept["_class_path"] = f"{type(self).__module__}.{type(self).__qualname__}"
        kept["_instantiator"] = "lightning.pytorch.cli.instantiate_module"
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = kept
        checkpoint["data_fingerprint"] = self._fingerprint_of_data()

    def _fingerprint_of_data(self) -> str | None:
        data = getattr(self._trainer, "datamodule", None)
        if data is None:
            return self.data_fingerprint
        return data.fingerprint if getattr(data, "num_classes", 1) > 1 else None

    def model_config(self) -> dict[str, Any]:
        """What `from_config` needs to build this model again, untrained, as plain values."""
        checkpoint: dict[str, Any] = {}
        self.on_save_checkpoint(checkpoint)
        return checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Builds the untrained model that `model_config` describes, from classes that are already imported.

        Raises:
            ValueError: it names no class, or one that is not imported, or arguments that do not fit.
        """
        return build_model(config, cls)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Loads the model of a checkpoint on the CPU, in evaluation mode.

        Raises:
            CheckpointError: no such file, a damaged one, one that contains code, or another kind of model.
        """
        path = Path(path)
        checkpoint = read_checkpoint(path)
        config = checkpoint.get(cls.CHECKPOINT_HYPER_PARAMS_KEY)
        if not isinstance(config, Mapping) or "_class_path" not in config:
            raise CheckpointError(
                f"{path} does not say which model it holds, so it is damaged or was not written by genlab; give"
                " RUN/checkpoints/best.ckpt"
            )
        try:
            model = GenerativeModule.from_config(config)
            model.load_state_dict(checkpoint["state_dict"])
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(
                f"{path} holds a model that this version cannot build ({reason}); use the version that trained it, or"
                " train the model again"
            ) from error
        if not isinstance(model, cls):
            raise CheckpointError(f"{path} holds {article(type(model).__name__)}, not {article(cls.__name__)}")
        model.data_fingerprint = checkpoint.get("data_fingerprint")
        return model.eval()


def _as_config(used: Any, recorded: Any) -> Any:
    """A component as its class and arguments, a dataclass as its fields; any other argument as it was recorded."""
    if is_dataclass(recorded) and not isinstance(recorded, type):
        return asdict(recorded)
    component = used if isinstance(used, Component) else recorded
    return component.as_config() if isinstance(component, Component) else recorded


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(key) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, str | int | float | bool)
