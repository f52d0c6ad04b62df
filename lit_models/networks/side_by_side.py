from collections.abc import Iterable

import torch
from torch import Tensor, nn


class SideBySide(nn.Module):
    """Networks of one input, their outputs in one row: N x ... -> N x (the sum of their widths)."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([network(inputs) for network in self.networks], dim=1)
