from collections.abc import Iterator
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch._dynamo.utils import calculate_time_spent


class CompiledNetworks(Callback):
    """Compiles the networks of a model by torch.compile, and says how many seconds that took.

    The networks are compiled, and not the model, so that losses, random draws and optimizers' steps stay as they are.
    Each is compiled when it is first called, again for each new shape of its input, and keeps its name in checkpoints.

    Args:
        mode: Mode of torch.compile. `reduce-overhead` and `max-autotune` record CUDA graphs on a GPU.

    Examples:
        >>> model = nn.ModuleDict({"network": nn.Linear(2, 1), "loss": nn.MSELoss()})
        >>> [type(network).__name__ for network in networks_in(model)]
        ['Linear']
    """

    def __init__(self, mode: str = "default") -> None:
        self.mode = mode
        self.compile_seconds: float | None = None
        """Seconds that compiling took in this fit; None before its end."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._before = _seconds_so_far()
        for network in networks_in(pl_module):
            network.compile(mode=None if self.mode == "default" else self.mode)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        torch.compiler.cudagraph_mark_step_begin()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.compile_seconds = _seconds_so_far() - self._before
        if trainer.is_global_zero:
            print(f"compiling the networks took {self.compile_seconds:.1f} s", flush=True)


def networks_in(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules that have parameters and a forward pass."""
    for child in module.children():
        if isinstance(child, nn.ModuleDict | nn.ModuleList):
            yield from networks_in(child)
        elif next(child.parameters(), None) is not None:
            yield child


def _seconds_so_far() -> float:
    """Seconds that this process has spent on compiling."""
    return calculate_time_spent().get("total_wall_time", 0.0)
