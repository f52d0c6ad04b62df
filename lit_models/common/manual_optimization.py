"""One step of one optimizer under manual optimization."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.parametrizations import _SpectralNorm

Terms = Mapping[str, Tensor]
"""Named scalars. The first one is minimised."""


def optimizer_step(
    module: LightningModule,
    optimizer: LightningOptimizer,
    losses: Sequence[Callable[[], Terms]],
    gradient_clip_val: float | None = None,
    measure_norm: bool = True,
) -> dict[str, Tensor]:
    """One step of one optimizer: toggle, zero_grad, forward and backward of each part, clip, step, untoggle.

    During the step only this optimizer's parameters require gradients. The gradient is the mean over the parts and,
    under DDP, over the processes. Its norm is measured and clipped after the fp16 gradient scaler has unscaled it,
    just before the optimizer steps. If the scaler skips the step, no norm is returned.

    Args:
        module: Module under manual optimization, inside its training_step.
        optimizer: Optimizer that takes the step.
        losses: One function for each equal part of the batch. Each runs its forward pass and returns its terms.
        gradient_clip_val: Maximum norm of the gradient; None for no clipping.
        measure_norm: Whether the norm is returned even if it is not clipped.

    Raises:
        MisconfigurationException: the optimizer unscales fp16 gradients itself, which is too late for clipping.

    Returns:
        The terms, detached and averaged over the parts, and `grad_norm`, the norm over all parameters before clipping,
        if it was measured.
    """
    norms: list[Tensor] = []
    parts = []
    if _unscales_gradients(module, optimizer.optimizer):
        if gradient_clip_val is not None:
            raise MisconfigurationException("gradient_clip_val with 16-mixed needs --model.optimizer.fused false")
        measure_norm = False
    module.toggle_optimizer(optimizer)
    try:
        optimizer.zero_grad()
        for loss in losses:
            terms = loss()
            with _no_ddp_sync(module):
                module.manual_backward(next(iter(terms.values())) / len(losses))
            parts.append({name: term.detach() for name, term in terms.items()})
        if isinstance(module.trainer.strategy.model, DistributedDataParallel):
            _average_over_processes(_gradients(optimizer.optimizer))
        if gradient_clip_val is None and not measure_norm:
            optimizer.step()
        else:
            with _before_step(
                optimizer.optimizer, lambda: norms.append(_clip_gradients(optimizer.optimizer, gradient_clip_val))
            ):
                optimizer.step()
    finally:
        module.untoggle_optimizer(optimizer)
    means = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]} if parts[1:] else parts[0]
    return {**means, "grad_norm": norms[0]} if norms else means


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Context in which forward passes do not change the network's buffers.

    Batch norms still use the statistics of the batch, but do not store them; spectral norms use the vectors that they
    have.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    spectral = [m for m in network.modules() if isinstance(m, _SpectralNorm) and m.training]
    for norm in norms:
        norm.track_running_stats = False
    for spectrum in spectral:
        spectrum.training = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        for spectrum in spectral:
            spectrum.training = True


@contextmanager
def _no_ddp_sync(module: LightningModule) -> Iterator[None]:
    """Keeps DDP, which expects a gradient of every parameter in every backward pass, from averaging gradients."""
    model = module.trainer.strategy.model
    if isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
    else:
        yield


def _unscales_gradients(module: LightningModule, optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer itself unscales the gradients of the fp16 scaler in its step, as fused ones do."""
    scaled = getattr(module.trainer.precision_plugin, "scaler", None) is not None
    return scaled and getattr(optimizer, "_step_supports_amp_scaling", False)


def _gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def _average_over_processes(gradients: list[Tensor]) -> None:
    """Replaces the gradients by their means over processes, in one all-reduce."""
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


@contextmanager
def _before_step(optimizer: torch.optim.Optimizer, do: Callable[[], object]) -> Iterator[None]:
    def hook(*_: object) -> None:
        do()

    handle = optimizer.register_step_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _clip_gradients(optimizer: torch.optim.Optimizer, gradient_clip_val: float | None) -> Tensor:
    """The norm of all gradients together. Gradients with a larger norm are scaled down to `gradient_clip_val`."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.get_total_norm(_gradients(optimizer))
    if gradient_clip_val is not None:
        nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)
    return norm
