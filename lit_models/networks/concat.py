"""Networks that share their input."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class ConcatOutputs(nn.Module):
    """Applies several networks to the same input and concatenates their outputs.

    Args:
        networks: The networks; each maps N x ... to N x d_i.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, inputs: Tensor) -> Tensor:
        """N x ... -> N x (d_1 + d_2 + ...)."""
        return torch.cat([network(inputs) for network in self.networks], dim=1)
