"""Collects scalars of training steps without waiting for the device."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class StepScalars:
    """Collects scalars that training steps return, on the device where they were computed.

    The values that it returns are means over all processes, which are not finite if one of them is not. All processes
    must read the values together.

    Args:
        names: Keys of the dict that `training_step` returns. A step may lack any of them.
    """

    def __init__(self, *names: str) -> None:
        self._scalars: dict[str, list[Tensor]] = {name: [] for name in names}

    def add(self, outputs: Any) -> bool:
        """Adds the scalars of one step, and returns whether there were any."""
        if not isinstance(outputs, Mapping):
            return False
        names = [name for name in self._scalars if name in outputs]
        for name in names:
            self._scalars[name].append(outputs[name].detach())
        return bool(names)

    def count(self, name: str) -> int:
        return len(self._scalars[name])

    def values(self, name: str) -> Tensor:
        """The scalars in the order of the steps, N, float32; N > 0."""
        values = torch.stack(self._scalars[name]).float()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(values)
            values /= dist.get_world_size()
        return values

    def clear(self, *names: str) -> None:
        """Removes the scalars of these names; without names, all of them."""
        for name in names or self._scalars:
            self._scalars[name] = []

    def to(self, device: torch.device) -> None:
        self._scalars = {name: [value.to(device) for value in values] for name, values in self._scalars.items()}

    def state_dict(self) -> dict[str, Tensor]:
        return {name: self.values(name).cpu() for name, values in self._scalars.items() if values}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._scalars = {name: list(state[name].unbind()) if name in state else [] for name in self._scalars}
