"""Reading checkpoints and rebuilding the models in them, without running code that a file brings along."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import torch
from jsonargparse import ArgumentError, Namespace
from lightning import LightningModule
from lightning.pytorch.cli import instantiate_module
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters_context

from lit_models.common.component import Component, imported_class

Model = TypeVar("Model", bound=LightningModule)


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used. The message is one line: what is wrong, where, and what to do."""


def build_model(config: Mapping[str, Any], base: type[Model]) -> Model:
    """Builds the untrained model that a checkpoint's hyper-parameters describe, from classes that are already imported.

    Args:
        config: Hyper-parameters, as `GenerativeModule.model_config` returns them.
        base: Class that the model must be a subclass of.

    Raises:
        ValueError: the config names no class, or one that is not imported, or arguments that do not fit.
    """
    config = check_config(config, base)
    try:
        # Without a context of its own, the arguments would be recorded as those of a model that is being constructed.
        with _given_hyperparameters_context(config, "lightning.pytorch.cli.instantiate_module"):
            return instantiate_module(base, config)
    except (ArgumentError, TypeError) as error:
        raise ValueError(str(error)) from error


def check_config(config: Mapping[str, Any], base: type[LightningModule]) -> dict[str, Any]:
    """Returns a checkpoint's hyper-parameters, `_class_path` included, once all their classes are known.

    They are without the optimizer if its class is not imported, as a trained model needs none.

    Raises:
        ValueError: a class is not imported, or a component is given in a form that would import it.
    """
    name = config.get("_class_path")
    model = imported_class(name, base)
    if model is None:
        raise ValueError(_not_imported(name, "model"))
    return _check_classes(model, config)


def _check_classes(model: type[LightningModule], config: Mapping[str, Any]) -> dict[str, Any]:
    for name in config.keys() & _component_arguments(model):
        if isinstance(config[name], str):
            raise ValueError(f"{name} is {config[name]}, but a component must be given as class_path and init_args")
    rest = {k: v for k, v in config.items() if k not in ("optimizer", "_class_path", "_instantiator")}
    for path in _classes_named(rest):
        if not imported_class(path, Component):
            raise ValueError(_not_imported(path, "component"))
    optimizer = config.get("optimizer")
    known = isinstance(optimizer, Mapping) and imported_class(optimizer.get("class_path"), torch.optim.Optimizer)
    return {k: v for k, v in config.items() if k != "_instantiator" and (k != "optimizer" or known)}


def _not_imported(path: object, kind: str) -> str:
    package, _, name = str(path).partition(".")
    remedy = f"; add --import {package}, or in Python `import {package}` before" if name else ""
    return f"its class {path} is no imported {kind}{remedy}"


def _component_arguments(model: type[LightningModule]) -> set[str]:
    """Names of the constructor arguments that take a component."""
    hints = get_type_hints(model.__init__)
    options = {name: get_args(hint) or (hint,) for name, hint in hints.items()}
    return {
        name for name, kinds in options.items() if any(isinstance(k, type) and issubclass(k, Component) for k in kinds)
    }


def _classes_named(value: Any) -> set[str]:
    """Every class_path in a nested config."""
    if isinstance(value, Mapping):
        own = {str(value["class_path"])} if "class_path" in value else set()
        return own.union(*map(_classes_named, value.values()))
    return set().union(*map(_classes_named, value)) if isinstance(value, list | tuple) else set()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint to the CPU. A file that contains code is refused; the code is never run.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it contains code.
    """
    if not path.is_file():
        refuse_run_folder(path)
        raise CheckpointError(f"there is no checkpoint {path}{command_that_makes(path)}")
    try:
        with zipfile.ZipFile(path) as archive:
            if (broken := archive.testzip()) is not None:  # torch reads tensors without a look at their check sums
                raise zipfile.BadZipFile(f"{broken} is not as it was written")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|global:?) ([\w.]+)", str(error))
        what = f" ({found[1]})" if found else ""
        raise CheckpointError(
            f"{path} contains code{what} and was refused; use a checkpoint that genlab wrote, which holds tensors only"
        ) from None
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} is damaged or is not a checkpoint ({reason}); train that model again") from None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path} has no state_dict, so it is no checkpoint of a model; give another file")
    if not isinstance(checkpoint["state_dict"], dict):
        raise CheckpointError(f"{path} is damaged: its state_dict holds no weights; train that model again")
    return checkpoint


def take_embedded_configs(config: Namespace, path: Path) -> None:
    """Sets the descriptions of other models within a model, in its config, to what its checkpoint says, in place.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """
    names = getattr(imported_class(config.class_path, LightningModule), "embedded_configs", ())
    held = read_checkpoint(path).get(LightningModule.CHECKPOINT_HYPER_PARAMS_KEY, {}) if names else {}
    for name in names:
        setattr(config.init_args, name, held.get(name))


def load_weights(model: LightningModule, path: Path, strict: bool) -> list[str]:
    """Loads the weights of a checkpoint into a model that may differ from the checkpoint's.

    The EMA of weights comes from the checkpoint's EMA, or from its weights if it has none. An EMA of the checkpoint is
    left out if the model has none.

    Args:
        model: The model.
        path: The checkpoint.
        strict: Whether all weights must fit.

    Returns:
        What did not fit and was left as it was; empty if all weights were loaded.

    Raises:
        CheckpointError: the checkpoint cannot be read, or no weight fits, or with `strict` one does not.
    """
    held, own = read_checkpoint(path)["state_dict"], model.state_dict()
    found = {name: held.get(name, held.get(name.removeprefix(EMA))) for name in own}
    fitting = {name: value for name, value in found.items() if _shape(value) == _shape(own[name])}
    misfits = [
        f"{name} is {_shape(own[name])} in the model and {_shape(found[name])} in the checkpoint"
        for name in own
        if name not in fitting
    ]
    unused = [name for name in held if name not in own and name.removeprefix(EMA) not in own]
    misfits += [f"{name} of the checkpoint is not in the model" for name in unused]
    if not fitting:
        raise CheckpointError(f"no weight of {path} fits {type(model).__name__}; give a checkpoint of a similar model")
    if strict and misfits:
        raise CheckpointError(
            f"{path} does not fit {type(model).__name__}: {some(misfits)}; with --init_strict false, weights that do"
            " not fit keep their first values"
        )
    model.load_state_dict(fitting, strict=False)
    return misfits


EMA = "ema_"
"""What the name of an EMA of weights has before the name of these weights."""


def some(items: list[str], most: int = 4) -> str:
    """The first items of a list, separated by commas, and the number of the others."""
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")


def _shape(value: object) -> str:
    return (" x ".join(map(str, value.shape)) or "a number") if isinstance(value, torch.Tensor) else "missing"


def article(name: str) -> str:
    """The name of a class with its indefinite article."""
    return f"{'an' if name[:1] in 'AEIO' else 'a'} {name}"


def refuse_run_folder(path: Path) -> None:
    """
    Raises:
        CheckpointError: the path is the folder of a run or of an experiment, with a checkpoint in it.
    """
    for pattern in ("checkpoints/best.ckpt", "*/checkpoints/best.ckpt"):
        if found := sorted(path.glob(pattern)):
            raise CheckpointError(f"{path} is a folder; give a checkpoint in it, such as {found[0]}")


def command_that_makes(path: Path) -> str:
    """Command that makes the checkpoint `<root>/<experiment>/<run>/checkpoints/<file>`, as the end of a sentence.

    Empty if no config or sweep of that name is known.
    """
    if path.parent.name != "checkpoints" or len(path.parts) < 4:
        return ""
    run, experiment = path.parts[-3], path.parts[-4]
    if sweep := _definition("sweeps", experiment):
        return f"; `{'python sweep.py' if _is_own_program('sweep.py') else 'genlab sweep'} run {sweep}` makes it"
    if config := _definition("configs", experiment):
        program = "python train.py" if _is_own_program("train.py") else "genlab"
        return f"; `{program} fit --config {config}`{'' if run == 'default' else f' with the options {run}'} makes it"
    return ""


def _is_own_program(name: str) -> bool:
    """Whether the file of this name in the current folder is the one of the clone from which this package runs."""
    return Path(name).is_file() and Path(name).resolve() == Path(__file__).resolve().parents[2] / name


def _definition(kind: str, name: str) -> str | None:
    """A config or sweep of this name: its file in the current folder, or the name of one that genlab comes with."""
    file, home = Path(kind, f"{name}.yaml"), Path(__file__).parents[2]
    if file.is_file():
        return str(file)
    return name if any((folder / file).is_file() for folder in (home / "genlab", home)) else None
