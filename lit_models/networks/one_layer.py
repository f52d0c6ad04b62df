"""Autoencoders of one layer each way, whose weights leave a penalty on the code no way out through small codes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.encoder_decoders import Networks


class SigmoidLayer(nn.Module):
    """h = sigmoid(W x + c): N x C x H x W -> N x out_dim."""

    def __init__(self, pixels: int, out_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(pixels, out_dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.flatten(1)).sigmoid()


class TransposedLayer(nn.Module):
    """Logits W^T h + b with the weight of a layer of the encoder: N x d -> N x C x H x W."""

    def __init__(self, layer: nn.Linear, image_shape: Sequence[int]) -> None:
        super().__init__()
        self.weight = layer.weight
        self.bias = nn.Parameter(torch.zeros(layer.in_features))
        self.image_shape = tuple(image_shape)

    def forward(self, codes: Tensor) -> Tensor:
        return F.linear(codes, self.weight.T, self.bias).unflatten(1, self.image_shape)


class UnitAtoms(nn.Module):
    """Logits sum_j h_j a_j + b, each atom a_j of length one: N x d -> N x C x H x W."""

    def __init__(self, in_dim: int, image_shape: Sequence[int]) -> None:
        super().__init__()
        pixels = math.prod(image_shape)
        self.atoms = nn.Parameter(torch.randn(in_dim, pixels))
        self.bias = nn.Parameter(torch.zeros(pixels))
        self.image_shape = tuple(image_shape)

    def forward(self, codes: Tensor) -> Tensor:
        flat = codes @ F.normalize(self.atoms, dim=1) + self.bias  # (N, CHW)
        return flat.unflatten(1, self.image_shape)


class DictionaryNetworks(Networks):
    """One fully connected layer to the code; the image is a sum of atoms of length one.

    Atoms of fixed length leave a penalty on the code no way out (Olshausen and Field 1996, doi 10.1038/381607a0).
    """

    def __init__(self) -> None: ...

    def encoder(self, image_shape: Sequence[int], out_dim: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), out_dim))

    def decoder(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        return UnitAtoms(in_dim, image_shape)
