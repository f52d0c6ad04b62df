"""One optimizer's step under manual optimization."""

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
"""Named scalars, the first of which is minimised."""


def optimizer_step(
    module: LightningModule,
    optimizer: LightningOptimizer,
    losses: Sequence[Callable[[], Terms]],
    clip: float | None = None,
    measure: bool = True,
) -> dict[str, Tensor]:
    """One step of one optimizer: toggle, zero_grad, forward and backward of each part, clip, step, untoggle.

    Only this optimizer's parameters require gradients meanwhile. The gradient is the mean of the parts' ones, and of
    all processes' ones under DDP. The norm is taken, and clipped, after fp16's scaler has taken its factor out, which
    is when the optimizer itself steps; a step that the scaler skips has none.

    Args:
        module: under manual optimization, within its training_step.
        losses: one for each equal part of the batch; each runs its forward pass.
        clip: the largest norm of the gradient.
        measure: tell the norm though nothing is clipped.

    Raises:
        MisconfigurationException: the optimizer takes fp16's factor out itself, too late for clipping.

    Returns:
        The terms, detached means over the parts, and `grad_norm` of all parameters before clipping, where it is known.
    """
    norms: list[Tensor] = []
    parts = []
    if _unscales_itself(module, optimizer.optimizer):
        if clip is not None:
            raise MisconfigurationException("clip and 16-mixed need --model.optimizer.fused false")
        measure = False
    module.toggle_optimizer(optimizer)
    try:
        optimizer.zero_grad()
        for loss in losses:
            terms = loss()
            with _own_gradients(module):
                module.manual_backward(next(iter(terms.values())) / len(losses))
            parts.append({name: term.detach() for name, term in terms.items()})
        if isinstance(module.trainer.strategy.model, DistributedDataParallel):
            _average(_gradients(optimizer.optimizer))
        if clip is None and not measure:
            optimizer.step()
        else:
            with _before_step(optimizer.optimizer, lambda: norms.append(_clipped(optimizer.optimizer, clip))):
                optimizer.step()
    finally:
        module.untoggle_optimizer(optimizer)
    means = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]} if parts[1:] else parts[0]
    return {**means, "grad_norm": norms[0]} if norms else means


@contextmanager
def keeping_statistics(network: nn.Module) -> Iterator[None]:
    """A forward pass that leaves the network's buffers alone: batch norms use the batch's statistics without keeping
    them, spectral norms the vectors that they have."""
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
def _own_gradients(module: LightningModule) -> Iterator[None]:
    """Keeps DDP, which expects a gradient of every parameter in every backward pass, from averaging them itself."""
    model = module.trainer.strategy.model
    if isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
    else:
        yield


def _unscales_itself(module: LightningModule, optimizer: torch.optim.Optimizer) -> bool:
    """Whether gradients are still multiplied when the optimizer steps, as with a fused one under fp16's scaler."""
    scaled = getattr(module.trainer.precision_plugin, "scaler", None) is not None
    return scaled and getattr(optimizer, "_step_supports_amp_scaling", False)


def _gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def _average(gradients: list[Tensor]) -> None:
    """The mean over processes, in one message."""
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


def _clipped(optimizer: torch.optim.Optimizer, clip: float | None) -> Tensor:
    """The norm of all gradients together, which are scaled down to `clip` where it is larger."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.get_total_norm(_gradients(optimizer))
    if clip is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    return norm
