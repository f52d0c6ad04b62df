"""Scalars."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class RecentScalars:
    """Keeps scalars of the steps where they were computed, so that no step waits for the device.

    What is taken out is the mean over the processes, which is not finite where any of theirs is not; all of them have
    to ask for it together.

    Args:
        names: keys of the dict that `training_step` returns; steps may lack any of them.
    """

    def __init__(self, *names: str) -> None:
        self._kept: dict[str, list[Tensor]] = {name: [] for name in names}

    def add(self, outputs: Any) -> bool:
        """Takes what a step returned; False: that is no dict, or one with none of these keys."""
        if not isinstance(outputs, Mapping):
            return False
        found = [name for name in self._kept if name in outputs]
        for name in found:
            self._kept[name].append(outputs[name].detach())
        return bool(found)

    def count(self, name: str) -> int:
        return len(self._kept[name])

    def values(self, name: str) -> Tensor:
        """The scalars in their order, N, float32; N > 0."""
        values = torch.stack(self._kept[name]).float()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(values)
            values /= dist.get_world_size()
        return values

    def clear(self, *names: str) -> None:
        """Forgets these, or all."""
        for name in names or self._kept:
            self._kept[name] = []

    def to(self, device: torch.device) -> None:
        self._kept = {name: [value.to(device) for value in kept] for name, kept in self._kept.items()}

    def state_dict(self) -> dict[str, Tensor]:
        return {name: self.values(name).cpu() for name, kept in self._kept.items() if kept}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._kept = {name: list(state[name].unbind()) if name in state else [] for name in self._kept}
