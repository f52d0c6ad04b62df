import torch
from torch import Tensor, nn


class GaussianNoise(nn.Module):
    """Adds N(0, std^2) to activations of any shape, in training only.

    Args:
        std: Standard deviation; 0 adds no noise.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        return x + self.std * torch.randn_like(x) if self.training and self.std else x
