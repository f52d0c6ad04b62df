"""Encoders and decoders of one layer each, whose weights are constrained.

A penalty on the code could otherwise be made small by small codes and large decoder weights.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SigmoidEncoder(nn.Module):
    """h = sigmoid(W x + c).

    Args:
        pixels: Number of pixel values C H W of an image.
        out_dim: Width of the code h.
    """

    def __init__(self, pixels: int, out_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(pixels, out_dim)

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x out_dim."""
        return self.linear(images.flatten(1)).sigmoid()


class TiedDecoder(nn.Module):
    """Logits W^T h + b, where W is the weight of the encoder's layer.

    Args:
        layer: The encoder's layer.
        image_shape: Channels, height, width.
    """

    def __init__(self, layer: nn.Linear, image_shape: Sequence[int]) -> None:
        super().__init__()
        self.weight = layer.weight
        self.bias = nn.Parameter(torch.zeros(layer.in_features))
        self.image_shape = tuple(image_shape)

    def forward(self, codes: Tensor) -> Tensor:
        """N x d -> N x C x H x W."""
        return F.linear(codes, self.weight.T, self.bias).unflatten(1, self.image_shape)


class DictionaryDecoder(nn.Module):
    """Logits sum_j h_j a_j + b with atoms a_j of unit norm.

    Args:
        in_dim: Width d of the code h.
        image_shape: Channels, height, width.
    """

    def __init__(self, in_dim: int, image_shape: Sequence[int]) -> None:
        super().__init__()
        pixels = math.prod(image_shape)
        self.atoms = nn.Parameter(torch.randn(in_dim, pixels))
        self.bias = nn.Parameter(torch.zeros(pixels))
        self.image_shape = tuple(image_shape)

    def forward(self, codes: Tensor) -> Tensor:
        """N x d -> N x C x H x W."""
        flat = codes @ F.normalize(self.atoms, dim=1) + self.bias  # (N, CHW)
        return flat.unflatten(1, self.image_shape)
