"""Refuses a model of too many parameters before they take memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from genlab.runs.errors import UsageError
from lit_models.common.module import GenerativeModule

MAX_PARAMETERS = 200_000_000
"""The default bound. Adam needs 16 bytes for each parameter, which makes 3.2 GB."""
MAX_PARAMETERS_HELP = (
    "Refuse a model of more parameters than this, before they take memory. Training with Adam needs about 16 bytes for"
    " each."
)
SIDES = (256, 128, 96, 64, 48, 32, 28)
"""Sides of square images that are tried where a model for larger ones has too many parameters."""
FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.randint, torch.eye)
"""The functions by which layers make their parameters."""


class ParameterBound(TorchFunctionMode):
    """Context in which a model is built: tensors beyond a bound on all their numbers together are made without memory.

    Args:
        bound: The largest number of parameters.
    """

    def __init__(self, bound: int) -> None:
        super().__init__()
        self.bound = bound
        self.count = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in FACTORIES:
            without_memory = made_without_memory(func, args, kwargs)
            self.count += without_memory.numel()
            if self.count > self.bound:
                return without_memory
        return func(*args, **kwargs)

    def check(self, model: nn.Module | None, sized: bool = False) -> None:
        """Checks what was built.

        Args:
            model: The model; None if it could not be built.
            sized: Whether the data have an option `size`, so that a size which fits can be named.

        Raises:
            UsageError: It is beyond the bound.
        """
        parameters = {} if model is None else dict(model.named_parameters())
        total = sum(parameter.numel() for parameter in parameters.values())
        if max(total, self.count) <= self.bound:
            return
        what = f"the model has at least {self.count:,} parameters"
        if total > self.bound:
            name, largest = max(parameters.items(), key=lambda item: item[1].numel())
            shape = " x ".join(map(str, largest.shape))
            what = f"{type(model).__name__} has {total:,} parameters, the most of them in {name} of {shape}"
        fitting = _fitting_side(model, self.bound) if sized and isinstance(model, GenerativeModule) else None
        advice = "use smaller images or layers" if fitting is None else f"give --data.size {fitting}"
        raise UsageError(f"{what}; --max_parameters is {self.bound:,}: {advice}, or raise --max_parameters")


def made_without_memory(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """Returns the tensor that one of `FACTORIES` makes, on the meta device."""
    return func(*args, **{name: value for name, value in kwargs.items() if name != "generator"} | {"device": "meta"})


def _fitting_side(model: GenerativeModule, bound: int) -> int | None:
    """Returns the largest usual side of images for which the model has at most `bound` parameters; None: there is none.

    The model is built for each side, without memory.
    """
    config = model.model_config()
    shape = config.get("image_shape", (1, 1, 1))
    for side in (side for side in SIDES if side < max(shape[1:])):
        try:
            with ParameterBound(0):
                smaller = model.from_config(config | {"image_shape": (shape[0], side, side)})
        except Exception:  # not every constructor takes tensors without memory
            return None
        if sum(parameter.numel() for parameter in smaller.parameters()) <= bound:
            return side
    return None
