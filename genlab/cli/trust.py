"""What a config that is not trusted may name: classes of genlab, PyTorch and Lightning, and nothing else.

A config is a program: where an option takes a class or a function, it can name any that Python can import, and have it
called with arguments of its choice.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import yaml
from jsonargparse import Namespace, Path, set_parsing_settings
from jsonargparse._common import parsing_settings
from lightning import Callback, LightningDataModule, LightningModule
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, ClusterEnvironment, LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy
from torch.optim import Optimizer

from genlab.runs.config import option
from genlab.runs.errors import UsageError
from genlab.runs.folder import RunOptions
from genlab.yaml_files import load_yaml
from lit_models.common.adversarial import AdversarialRecipe
from lit_models.common.component import Component, imported_class

PACKAGES = ("genlab", "lit_models", "datamodules", "torch", "lightning")
KINDS = (
    LightningModule,
    LightningDataModule,
    Component,
    AdversarialRecipe,
    RunOptions,
    Optimizer,
    Callback,
    Logger,
    Profiler,
    Strategy,
    Accelerator,
    Precision,
    CheckpointIO,
    ClusterEnvironment,
    LayerSync,
)
"""What options take. A class that is none of these, such as one that starts a program when it is called, is refused."""
REFUSED = (LambdaCallback,)
"""Classes that call what they are given."""
ADVICE = "--trusted false allows classes of genlab, torch and lightning only, and none that calls what it is given"


def is_trusted(args: list[str], configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether configs and options may name any class: what the command line says, else every config.

    Anything but true means no.
    """
    given = option(args, "trusted")
    if given is None:
        return all(config.get("trusted", True) is True for config in configs)
    try:
        return load_yaml(given) is True
    except yaml.YAMLError:
        return False


@contextmanager
def only_our_packages() -> Iterator[None]:
    """Context in which the parser imports modules of `PACKAGES` only."""
    before = dict(parsing_settings)  # entries can be added, but not removed again
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=list(PACKAGES))
    try:
        yield
    finally:
        parsing_settings.clear()
        parsing_settings.update(before)


def check_named(config: Any, where: str = "") -> None:
    """Checks every class and function in a parsed config, before one of them is called.

    Raises:
        UsageError: one is not among those that a config may name without being trusted.
    """
    if isinstance(config, Namespace):
        config = vars(config)
    if isinstance(config, Mapping):
        if "class_path" in config and not _is_allowed(config["class_path"]):
            raise UsageError(f"--{where} is {config['class_path']}: {ADVICE}")
        for key, value in config.items():
            check_named(value, ".".join(filter(None, (where, "" if key == "init_args" else key))))
    elif isinstance(config, list | tuple):
        for item in config:
            check_named(item, where)
    elif callable(config) and not isinstance(config, Path) and getattr(config, "__name__", "") != "<lambda>":
        raise UsageError(f"--{where} is {getattr(config, '__name__', config)}: {ADVICE}")


def _is_allowed(path: object) -> bool:
    named = imported_class(path, object)
    if named is None or named.__module__.partition(".")[0] not in PACKAGES:
        return False
    return issubclass(named, KINDS) and not issubclass(named, REFUSED)
