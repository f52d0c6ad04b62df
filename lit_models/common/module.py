"""What every model shares, and the small protocols by which others ask a model what it can do."""

import inspect
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, get_args, get_type_hints, runtime_checkable

import torch
from jsonargparse import ArgumentError
from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable, instantiate_module
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters_context
from torch import Tensor, nn

from lit_models.common.component import Component, imported
from lit_models.common.schedules import Schedule, one_cycle, stretch

# Optimizers are made by a lambda by default, which is rebuilt from the class and need not be in the checkpoint.
warnings.filterwarnings("ignore", "Attribute 'optimizer' removed from hparams")

ImageShape = tuple[int, int, int]
Stage = Literal["train", "val", "test"]


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used. The message is one line: what is wrong, where, and what to do."""


@runtime_checkable
class Samples(Protocol):
    def sample(self, n: int, label: int | None = None) -> Tensor:
        """New images in [0, 1], N x C x H x W."""


@runtime_checkable
class Encodes(Protocol):
    def encode(self, images: Tensor) -> Tensor:
        """Codes, N x d, of images in [0, 1], N x C x H x W."""

    def encoder_network(self) -> nn.Module:
        """The part of the model that computes `encode`, alone, to be carried into another model."""


@runtime_checkable
class HasBackbone(Protocol):
    def backbone(self) -> nn.Module:
        """The part of the model that makes features, N x F, of images, alone, to learn on."""


@runtime_checkable
class Decodes(Protocol):
    def decode(self, codes: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W, of codes, N x d."""


@runtime_checkable
class Reconstructs(Protocol):
    def reconstruct(self, images: Tensor) -> Tensor:
        """The model's version of images in [0, 1], N x C x H x W."""


@runtime_checkable
class Translates(Protocol):
    directions: tuple[str, ...]
    """From which kind of images to which: `ab` from sources to targets, and `ba` back for a model that can."""

    def translate(self, images: Tensor, direction: str = "ab") -> Tensor:
        """Images of one kind, in [0, 1], as the other kind shows them."""


@runtime_checkable
class HasLogProb(Protocol):
    def log_prob(self, images: Tensor) -> Tensor:
        """Log-density in nats, N, of images in [0, 1], N x C x H x W."""


@dataclass(frozen=True)
class LatentBlock:
    """Columns start to stop of a code: real numbers, or one-hot blocks of `categories` columns each.

    Raises:
        ValueError: the columns do not make up whole blocks.
    """

    kind: Literal["continuous", "categorical"]
    start: int
    stop: int
    categories: int = 0

    def __post_init__(self) -> None:
        if self.kind == "categorical" and (self.categories < 2 or (self.stop - self.start) % self.categories):
            raise ValueError(f"columns {self.start} to {self.stop} are no blocks of {self.categories} categories")

    @property
    def variables(self) -> int:
        """Real numbers, or categorical variables, that it is made of."""
        width = self.stop - self.start
        return width if self.kind == "continuous" else width // self.categories


@runtime_checkable
class HasLatentBlocks(Protocol):
    def latent_blocks(self) -> list[LatentBlock]:
        """What the columns of a code mean, in their order, without gaps."""

    def sample_prior(self, n: int) -> Tensor:
        """Draws of the prior, n x d, as `decode` takes them."""


def unconditional(model: object, label: int | None) -> None:
    """Refuses to be asked for a class.

    Raises:
        ValueError: there is a label.
    """
    if label is not None:
        raise ValueError(f"{type(model).__name__} was trained without labels and cannot be asked for class {label}")


class AutoencoderBase:
    """What a model with a deterministic code can do, from its `encoder` and its `decoder`, which gives logits."""

    encoder: nn.Module
    decoder: nn.Module

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images)  # (N, d)

    def encoder_network(self) -> nn.Module:
        return self.encoder

    def decode(self, codes: Tensor) -> Tensor:
        return self.decoder(codes).sigmoid()  # (N, C, H, W)

    def reconstruct(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.reconstruct(images)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"codes": self.encode(batch[0]), "labels": batch[1]}


class GenerativeModule(LightningModule):
    """LightningModule with one way to log, to choose the best checkpoint and to load.

    Args:
        optimizer: makes the optimizer from the parameters.
    """

    monitor: ClassVar[tuple[str, Literal["min", "max"]] | None] = None
    """The metric that chooses the best checkpoint, and its better direction; None: the last weights are the best."""

    initial_weights: ClassVar[tuple[str, ...]] = ()
    """Arguments that say where its first weights come from: None where a checkpoint brings the weights."""

    schedule: Schedule = "constant"
    """How the learning rate goes: as it is, or one cycle over the whole training."""

    def __init__(self, optimizer: OptimizerCallable) -> None:
        super().__init__()
        self.make_optimizer = optimizer

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(p for p in self.parameters() if p.requires_grad)
        return optimizer if self.schedule == "constant" else one_cycle(optimizer, self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A run that is resumed to go on for longer goes on along the longer cycle."""
        if self._trainer is not None:
            stretch(checkpoint.get("lr_schedulers", []), self.trainer)

    def prepare_fit(self) -> None:
        """Reads what training needs beside the data and the weights, before anything of a run is written.

        Raises:
            CheckpointError, ValueError: it cannot be had.
        """

    def loss_terms(self, batch: Any) -> dict[str, Tensor]:
        """Named scalars of a batch, means over its images; training minimises the first."""
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
        """Whether `log_terms` logs what this step of training gives it."""
        return self.trainer.is_last_batch or self.trainer._logger_connector.should_update_logs

    def log_terms(self, stage: Stage, terms: Mapping[str, Tensor], batch_size: int) -> None:
        """Logs scalars as `{stage}/{term}`: of single steps in training, elsewhere the exact mean over images.

        Training logs each `trainer.log_every_n_steps`-th step and the last of an epoch; on the others it costs nothing.
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
        """Facts that a run's config should show though no option sets them, as dotted keys."""
        return {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps in the checkpoint what rebuilds the model, and only plain values that load without pickled code."""
        accepted = set(inspect.signature(type(self).__init__).parameters)
        arguments = {k: _as_config(getattr(self, k, None), v) for k, v in self.hparams.items() if k in accepted}
        kept = {k: None if k in self.initial_weights else v for k, v in arguments.items() if _is_plain(v)}
        kept["_class_path"] = f"{type(self).__module__}.{type(self).__qualname__}"
        kept["_instantiator"] = "lightning.pytorch.cli.instantiate_module"
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = kept

    def rebuilding_config(self) -> dict[str, Any]:
        """What `build` needs to make this model again, untrained: plain values only."""
        checkpoint: dict[str, Any] = {}
        self.on_save_checkpoint(checkpoint)
        return checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The model that a checkpoint holds, on the CPU, in evaluation mode.

        Raises:
            CheckpointError: no such file, a damaged one, one that carries code, or another kind of model.
        """
        path = Path(path)
        checkpoint = read_checkpoint(path)
        try:
            model = build(checkpoint.get(cls.CHECKPOINT_HYPER_PARAMS_KEY, {}))
            model.load_state_dict(checkpoint["state_dict"])
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{path} holds a model that this version cannot build ({reason})") from error
        if not isinstance(model, cls):
            raise CheckpointError(f"{path} holds a {type(model).__name__}, not a {cls.__name__}")
        return model.eval()


def build(config: Mapping[str, Any]) -> GenerativeModule:
    """The untrained model of a checkpoint's hyper-parameters. Only classes that are imported already are made.

    Raises:
        ValueError: no class is named, or one that is not imported, or its arguments do not fit.
    """
    name = config.get("_class_path")
    model = imported(name, GenerativeModule)
    if model is None:
        raise ValueError(f"it names the class {name}, which is none of the imported models")
    config = _check_classes(model, config)
    try:
        # A context of its own: inside another model's constructor, its arguments would be recorded as this one's.
        with _given_hyperparameters_context(config, "lightning.pytorch.cli.instantiate_module"):
            return instantiate_module(GenerativeModule, config)
    except (ArgumentError, TypeError) as error:
        raise ValueError(str(error)) from error


def _check_classes(model: type[GenerativeModule], config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, without an optimizer that is not imported, which a trained model can do without.

    Raises:
        ValueError: a part is of a class that is not imported, or is written so that it would be imported.
    """
    for name in config.keys() & _part_arguments(model):
        if isinstance(config[name], str):
            raise ValueError(f"{name} is {config[name]}, where a part is written as its class and arguments")
    rest = {k: v for k, v in config.items() if k not in ("optimizer", "_class_path", "_instantiator")}
    for path in _classes_named(rest):
        if not imported(path, Component):
            raise ValueError(f"it names the class {path}, which is none of the imported parts")
    optimizer = config.get("optimizer")
    known = isinstance(optimizer, Mapping) and imported(optimizer.get("class_path"), torch.optim.Optimizer)
    return {k: v for k, v in config.items() if k != "_instantiator" and (k != "optimizer" or known)}


def _part_arguments(model: type[GenerativeModule]) -> set[str]:
    hints = get_type_hints(model.__init__)
    options = {name: get_args(hint) or (hint,) for name, hint in hints.items()}
    return {
        name for name, kinds in options.items() if any(isinstance(k, type) and issubclass(k, Component) for k in kinds)
    }


def _as_config(used: Any, recorded: Any) -> Any:
    """An injected part as its class and arguments; every other argument as it was recorded."""
    part = used if isinstance(used, Component) else recorded
    return part.as_config() if isinstance(part, Component) else recorded


def _classes_named(value: Any) -> set[str]:
    """Every class_path in a nested config."""
    if isinstance(value, Mapping):
        own = {str(value["class_path"])} if "class_path" in value else set()
        return own.union(*map(_classes_named, value.values()))
    return set().union(*map(_classes_named, value)) if isinstance(value, list | tuple) else set()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint, on the CPU; files that carry code are refused, never run.

    Raises:
        CheckpointError: no such file, a damaged one, or one that carries code.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}{command_that_makes(path)}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|global:?) ([\w.]+)", str(error))
        what = f" ({found[1]})" if found else ""
        raise CheckpointError(
            f"{path} carries code{what} and was refused; use a checkpoint that genlab wrote, which holds tensors only"
        ) from None
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} is damaged or is no checkpoint ({reason}); train that model again") from None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path} is no checkpoint of a model: it holds no state_dict")
    return checkpoint


def command_that_makes(path: Path) -> str:
    """What to run to get `<root>/<experiment>/<run>/checkpoints/<file>`, as the end of a sentence, or nothing."""
    if path.parent.name != "checkpoints" or len(path.parts) < 4:
        return ""
    run, experiment = path.parts[-3], path.parts[-4]
    if Path("sweeps", f"{experiment}.yaml").is_file():
        return f"; `python sweep.py run sweeps/{experiment}.yaml` makes it"
    if Path("configs", f"{experiment}.yaml").is_file():
        options = "" if run == "default" else f" with the options {run}"
        return f"; `python train.py fit --config configs/{experiment}.yaml`{options} makes it"
    return ""


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(key) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, str | int | float | bool)
