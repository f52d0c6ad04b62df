"""A fully connected network that predicts the noise in noisy images of few pixels."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lit_models.networks.mlp import mlp
from lit_models.networks.unet import NoiseLevelEmbedding


class ConditionalMLP(nn.Module):
    """Predicts the noise in noisy images of few pixels, given the noise level and, if there are classes, the class.

    Args:
        image_shape: Channels, height, width.
        hidden_dims: Widths of the hidden layers.
        num_classes: Number K of classes. Label K stands for "any class". None: there are no labels.
    """

    def __init__(self, image_shape: Sequence[int], hidden_dims: Sequence[int], num_classes: int | None) -> None:
        super().__init__()
        dim = math.prod(image_shape)
        self.embedding = NoiseLevelEmbedding(32, num_classes)
        self.layers = mlp([dim + 32, *hidden_dims, dim], "silu")

    def forward(self, noisy: Tensor, levels: Tensor, labels: Tensor | None = None) -> Tensor:
        """noisy: N x C x H x W; levels: N, in [-2, 2]; labels: int64, N -> predicted noise, N x C x H x W."""
        embedding = self.embedding(levels, labels)
        return self.layers(torch.cat([noisy.flatten(1), embedding], dim=1)).view_as(noisy)
