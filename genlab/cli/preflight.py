"""Checks of the settings of trainer and optimizer, before anything of a run is made."""

import copy
import inspect
import math
import os
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.fabric.utilities.data import sized_len
from lightning.pytorch.accelerators import AcceleratorRegistry, CPUAccelerator
from lightning.pytorch.core.optimizer import _init_optimizers_and_lr_schedulers
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import StrategyRegistry
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.seed import isolate_rng

from datamodules import ImageDataModule
from datamodules.loader import BatchLoader
from genlab.runs.errors import UsageError, is_full_gpu_memory
from genlab.suggestions import did_you_mean
from genlab.words import counted
from lit_models.common.batches import check_range
from lit_models.common.module import GenerativeModule

MAX_SEED = 2**32 - 1
"""The largest seed that NumPy accepts."""
MIN_PROCESSES = 8
"""So many processes on the CPU are accepted on every machine, to try out distributed training."""
CHECKED_IMAGES = 16
"""Training images that are checked to lie in [0, 1]."""


def whole_from(least: int, otherwise: str = "") -> tuple[Callable[[Any], bool], str]:
    """A rule for whole numbers: what it accepts, and what to give. `otherwise` names what -1 stands for."""
    advice = f"a whole number of at least {least}{f', or -1 for {otherwise}' if otherwise else ''}"
    return lambda value: value >= least or (bool(otherwise) and value == -1), advice


AT_LEAST_0 = (lambda value: 0 <= value < math.inf, "a number of at least 0")
BATCHES = (
    lambda value: value >= 0 and (isinstance(value, int) or value <= 1),
    "a whole number of batches, or a fraction of them from 0.0 to 1.0",
)
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_epochs": whole_from(1, "no limit"),
    "min_epochs": whole_from(0),
    "max_steps": whole_from(1, "no limit"),
    "min_steps": whole_from(0),
    "max_time": (
        lambda value: any(value.values()) if isinstance(value, Mapping) else not re.fullmatch(r"[0:]+", str(value)),
        "a time above 0, as days:hours:minutes:seconds",
    ),
    "num_nodes": whole_from(1),
    "fast_dev_run": whole_from(0),
    "limit_train_batches": (lambda value: value > 0 and BATCHES[0](value), f"{BATCHES[1]}, above 0"),
    "limit_val_batches": BATCHES,
    "limit_test_batches": BATCHES,
    "limit_predict_batches": BATCHES,
    "overfit_batches": BATCHES,
    "val_check_interval": (
        lambda value: not isinstance(value, int | float) or (value > 0 and BATCHES[0](value)),
        f"{BATCHES[1]}, above 0",
    ),
    "check_val_every_n_epoch": whole_from(1),
    "num_sanity_val_steps": whole_from(0, "all batches"),
    "log_every_n_steps": whole_from(0),
    "accumulate_grad_batches": whole_from(1),
    "gradient_clip_val": AT_LEAST_0,
    "reload_dataloaders_every_n_epochs": whole_from(0),
}
"""What the trainer's options accept: a test, and the words that say what to give. None is always accepted."""
CHOICES: dict[str, Callable[[], list[str]]] = {
    "accelerator": lambda: ["auto", "gpu", *AcceleratorRegistry.available_accelerators()],
    "strategy": lambda: ["auto", *StrategyRegistry.available_strategies()],
    "profiler": lambda: ["simple", "advanced", "pytorch"],
    "gradient_clip_algorithm": lambda: ["norm", "value"],
}
"""The words that options accept which also take a class."""
UNUSABLE = {
    "default_root_dir": "the run's folder takes its place; give --run.root",
    "barebones": "a run keeps its numbers and checkpoints; leave it out",
}
"""Options of Lightning's trainer that cannot work here, and what to do."""


def check_seed(seed: int | bool | None) -> None:
    """
    Raises:
        UsageError: no generator can be seeded with this number.
    """
    if not isinstance(seed, bool) and seed is not None and not 0 <= seed <= MAX_SEED:
        raise UsageError(f"--seed_everything is {seed}; give a whole number from 0 to {MAX_SEED}")


def trial_trainer(settings: Mapping[str, Any]) -> Trainer:
    """A trainer with the settings of the run's own, made to see whether they can be used.

    It has the user's callbacks, but no logger, and nothing is trained with it.

    Raises:
        UsageError: a setting cannot be used; names its option.
    """
    given = {name: value for name, value in settings.items() if value is not None and value != _DEFAULTS[name]}
    for name, value in given.items():
        _check(name, value)
    if settings["min_epochs"] and settings["max_epochs"] and -1 < settings["max_epochs"] < settings["min_epochs"]:
        raise UsageError("--trainer.min_epochs is above --trainer.max_epochs")
    if settings["min_steps"] and -1 < settings["max_steps"] < settings["min_steps"]:
        raise UsageError("--trainer.min_steps is above --trainer.max_steps")
    try:
        trainer = _trainer(given)
    except Exception as error:
        culprit = next((name for name in given if not _works({name: given[name]})), None)
        option = "" if culprit is None else f"--trainer.{culprit} {_word(given[culprit])} cannot be used: "
        raise UsageError(option + _plain(error)) from error
    _check_processes(trainer)
    return trainer


_DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(Trainer).parameters.items()}


def _check(name: str, value: Any) -> None:
    """
    Raises:
        UsageError: an option of the trainer does not accept this value.
    """
    if name in UNUSABLE:
        raise UsageError(f"--trainer.{name} has no effect: {UNUSABLE[name]}")
    accepts, advice = RULES.get(name, (lambda _: True, ""))
    if not accepts(value):
        raise UsageError(f"--trainer.{name} is {_word(value)}; give {advice}")
    if name in CHOICES and isinstance(value, str) and (base := value.lower()) not in (known := CHOICES[name]()):
        plain = [word for word in known if "find_unused" not in word and "stage" not in word]
        near = did_you_mean(base, known) or f"; choose from {', '.join(plain)}"
        raise UsageError(f"there is no --trainer.{name} {value}{near}")


def _trainer(settings: Mapping[str, Any]) -> Trainer:
    """Makes a trainer from copies of the settings, without a word."""
    apart = ("logger", "callbacks", "profiler")
    kept = {name: copy.deepcopy(value) for name, value in settings.items() if name not in apart}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Trainer(**kept, callbacks=_listed(settings.get("callbacks", [])), logger=False)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _works(settings: Mapping[str, Any]) -> bool:
    try:
        _trainer(settings)
    except Exception:
        return False
    return True


def _check_processes(trainer: Trainer) -> None:
    """
    Raises:
        UsageError: the trainer would start far more processes than there are processors, or wait for other machines.
    """
    processors = os.cpu_count() or 1
    limit = max(processors, MIN_PROCESSES)
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > limit:
        raise UsageError(
            f"--trainer.devices {trainer.num_devices} would start {trainer.num_devices} processes on {processors}"
            f" processors; give at most {limit}"
        )
    environment = trainer._accelerator_connector.cluster_environment
    alone = isinstance(environment, LightningEnvironment) and "MASTER_ADDR" not in os.environ
    if trainer.num_nodes > 1 and alone:
        raise UsageError(
            f"--trainer.num_nodes {trainer.num_nodes} would wait for the other machines for ever; start the command on"
            " each of them by Slurm or torchrun, or set MASTER_ADDR, MASTER_PORT and NODE_RANK; on one machine give"
            " --trainer.num_nodes 1"
        )


@contextmanager
def _attached(trainer: Trainer, model: GenerativeModule, data: ImageDataModule) -> Iterator[None]:
    """Context in which model and data belong to a trainer, and whatever is drawn at random is drawn again later."""
    with isolate_rng(include_cuda=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            trainer.strategy.connect(model)
            trainer._data_connector.attach_data(model, datamodule=data)
            trainer.state.fn = TrainerFn.FITTING
            yield
        finally:
            model.trainer = data.trainer = None


def check_training(trainer: Trainer, model: GenerativeModule, data: ImageDataModule) -> None:
    """Checks that a trainer, made by `trial_trainer`, can train the model on the data.

    Random numbers, model and data are afterwards as they were.

    Raises:
        UsageError, MisconfigurationException: it cannot; says which option is wrong.
    """
    try:
        with _attached(trainer, model, data):
            model.check_trainer(trainer)
            if not forks(trainer):
                _check_batches(trainer, model, data)
                _check_limit(trainer.limit_test_batches, "limit_test_batches", data.test_dataloader)
                _check_optimizers(trainer, model)
    except torch.OutOfMemoryError as error:
        raise memory_refusal(error, data) or error from error


def forks(trainer: Trainer) -> bool:
    """Whether the processes are forked from this one, which must not use the GPU before."""
    forks = getattr(trainer.strategy.launcher, "_start_method", None) == "fork"
    return forks and trainer.strategy.root_device.type != "cpu"


def _check_limit(limit: float, option: str, loader: Callable[[], Any]) -> None:
    """
    Raises:
        UsageError: a fraction of the batches of a loader is less than one of them.
    """
    if isinstance(limit, float) and 0 < limit < 1:
        count = sum(sized_len(part) or 0 for part in _listed(loader()))
        if count > 0 and count * limit < 1:
            raise UsageError(
                f"--trainer.{option} is {limit}, which is less than one of {count} batches; give at least"
                f" {math.ceil(1000 / count) / 1000}"
            )


def _check_batches(trainer: Trainer, model: GenerativeModule, data: ImageDataModule) -> None:
    """Checks some training images, the size of the batches, and the options that count them.

    Raises:
        UsageError, MisconfigurationException: they do not fit.
    """
    side = min(data.image_shape[1:])
    if data.shift >= side:
        raise UsageError(f"--data.shift is {data.shift}, and an image has a side of {side} pixels; give less than that")
    loader: Any = data.train_dataloader()
    examples = data.examples("train", CHECKED_IMAGES)
    found = tuple(examples[0].shape[1:])
    if found != tuple(data.source_shape):
        shapes = [" x ".join(map(str, shape)) for shape in (found, data.source_shape)]
        raise UsageError(f"the images of {data} are {shapes[0]}, and its class says {shapes[1]}")
    check_range(examples, model)
    if isinstance(loader, BatchLoader):
        model.check_batch_size(min(data.batch_size, len(loader.index) // loader.world_size))
    for option, limit, make in (
        ("limit_train_batches", trainer.limit_train_batches, lambda: loader),
        ("limit_val_batches", trainer.limit_val_batches, data.val_dataloader),
    ):
        _check_limit(limit, option, make)
    count = sized_len(loader)
    if count is None:
        return
    limit, interval = trainer.limit_train_batches, trainer.val_check_interval
    batches = min(count, limit) if isinstance(limit, int) else int(count * limit)
    validates = trainer.limit_val_batches > 0 and trainer.check_val_every_n_epoch is not None
    if validates and isinstance(interval, int) and interval > batches:
        raise UsageError(
            f"--trainer.val_check_interval is {interval}, and an epoch has"
            f" {counted(batches, 'batch', 'batches')}; give at most {batches},"
            " or --trainer.check_val_every_n_epoch null to count over all epochs"
        )


def _check_optimizers(trainer: Trainer, model: GenerativeModule) -> None:
    """Makes the model's optimizers and their schedules, and lets the optimizer step on small stand-ins of the weights.

    Raises:
        UsageError: they cannot be made, or cannot train this model.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    name = ""
    try:
        optimizer = model.make_optimizer(trained)
        name = f" {type(optimizer).__name__}"
        for option, value in optimizer.defaults.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{option} is {value}")
        _step_once(model, [_stand_in(parameter, trainer.strategy.root_device) for parameter in trained])
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise UsageError(f"--model.optimizer{name} cannot train {type(model).__name__}: {_plain(error)}") from error
    try:
        _init_optimizers_and_lr_schedulers(model)
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UsageError(_plain(error)) from error


def _stand_in(parameter: torch.Tensor, device: torch.device) -> torch.nn.Parameter:
    """A parameter with as many axes, at most two long, and a gradient of 0."""
    small = torch.zeros([min(size, 2) for size in parameter.shape], dtype=parameter.dtype, device=device)
    parameter = torch.nn.Parameter(small)
    parameter.grad = torch.zeros_like(small)
    return parameter


def _step_once(model: GenerativeModule, parameters: list[torch.nn.Parameter]) -> None:
    """One step of an optimizer of these parameters, as training takes it."""
    optimizer = model.make_optimizer(parameters)
    if model.automatic_optimization:
        optimizer.step(lambda: torch.zeros(()))  # type: ignore[arg-type, return-value]
    elif (
        getattr(inspect.signature(optimizer.step).parameters.get("closure"), "default", None) is inspect.Parameter.empty
    ):
        raise ValueError("it computes the loss several times in a step, which this training does not")
    else:
        optimizer.step()


def training_refusal(error: Exception, data: ImageDataModule) -> UsageError | None:
    """What an error of a training means for its options, in one line; None for an error that no option causes."""
    refusal = callback_refusal(error) or batch_norm_refusal(error)
    return refusal or memory_refusal(error, data) or compile_refusal(error)


def callback_refusal(error: Exception) -> UsageError | None:
    """What a callback of Lightning's that options name complains of; None for an error of another origin."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = [frame.f_globals.get("__name__", "").partition(".")[0] for frame in frames]
    for place, frame in enumerate(frames):
        owner = frame.f_locals.get("self")
        if isinstance(owner, Callback) and type(owner).__module__.startswith("lightning."):
            told = isinstance(error, OSError | torch.OutOfMemoryError | UsageError)
            if told or {"genlab", "lit_models", "datamodules"} & set(modules[place:]):
                return None
            return UsageError(f"--trainer.callbacks {type(owner).__name__} cannot be used: {_plain(error)}")
    return None


def batch_norm_refusal(error: Exception) -> UsageError | None:
    """What to do if torch complains of a batch norm that got one number a channel; None for another error."""
    if not isinstance(error, ValueError) or "more than 1 value per channel" not in str(error):
        return None
    return UsageError(
        "a training batch has one image, of which a batch norm gets maps of one pixel: give --data.batch_size 2 or more"
        " and two training images or more for each process; a data loader of your own needs drop_last=True"
    )


def memory_refusal(error: Exception, data: ImageDataModule) -> UsageError | None:
    """What to do if the memory of a GPU is full; None for another error."""
    if not isinstance(error, RuntimeError) or not is_full_gpu_memory(error):
        return None
    reason = str(error).partition("\n")[0].partition(". ")[0]
    return UsageError(
        f"the memory of the GPU is too small for --data.batch_size {data.batch_size} and --data.eval_batch_size"
        f" {data.eval_batch_size} ({reason}); give smaller ones, or --trainer.precision bf16-mixed"
    )


def compile_refusal(error: Exception) -> UsageError | None:
    """What to do if compiled networks have no second derivatives; None for another error."""
    if not isinstance(error, RuntimeError) or "does not currently support double backward" not in str(error):
        return None
    return UsageError(
        "--run.compile cannot be used: this loss contains derivatives of a network, and torch.compile gives only first"
        " derivatives; give --run.compile none"
    )


def _word(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float | list | Mapping) else type(value).__name__


def _plain(error: Exception) -> str:
    """An error of Lightning's or torch's in the words of the command line."""
    text = " ".join(str(error).replace("`", "").split()) or type(error).__name__
    text = re.sub(r"<(?:\w+\.)*(\w+) object at \w+>", r"\1", text)
    text = re.sub(r"torch\.Size\(\[([\d, ]*)\]\)", r"\1", text)
    return re.sub(r"(?:Trainer|Timer)\((\w+)=([^)]*?),?\)", r"\1 \2", text)
