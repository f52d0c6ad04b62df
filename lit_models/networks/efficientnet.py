"""EfficientNet-B0 as an encoder, from random weights or from those of ImageNet."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0

from lit_models.common.encoder_decoders import Networks
from lit_models.networks.conv import StridedDecoder, growing_channels
from lit_models.networks.weights import IMAGENET_MEAN, IMAGENET_STD, load_features

FEATURES = 1280


class EfficientNetNetworks(Networks):
    """EfficientNet-B0 (Tan and Le 2019, arXiv 1905.11946) as the encoder, transposed convolutions as the decoder.

    Args:
        weights: the backbone's first weights: a name of torchvision's (IMAGENET1K_V1, DEFAULT), which is downloaded
            once; a file of them; or none, for random ones.
        freeze: train the layer between the features and the code alone; the backbone keeps its weights and its
            batch-norm statistics.
        image_size: height and width to which the backbone's images are enlarged; none for as they are. It halves
            five times, so that 28 pixels leave one position and 224, as in ImageNet, 7 x 7.

    Raises:
        ValueError: from `encoder`, when the weights cannot be had, or the images have other than 1 or 3 channels.
    """

    initial_weights = ("weights",)

    def __init__(self, weights: str | None = None, freeze: bool = False, image_size: int | None = None) -> None:
        if image_size is not None and image_size < 1:
            raise ValueError(f"image_size is {image_size}; it must be at least 1")
        self.weights = weights
        self.freeze = freeze
        self.image_size = image_size

    def encoder(self, image_shape: Sequence[int], out_dim: int) -> nn.Module:
        return EfficientNetEncoder(image_shape, out_dim, self.weights, self.freeze, self.image_size)

    def decoder(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        return StridedDecoder(image_shape, growing_channels(2, 8), 3, 128, in_dim)


class EfficientNetEncoder(nn.Module):
    """Features of EfficientNet-B0, averaged over space, then one layer.

    Args:
        image_shape: channels, 1 or 3, height, width; grey is put into all three channels.
        out_dim: width of the output.
        weights, freeze, image_size: as in EfficientNetNetworks.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, image_shape: Sequence[int], out_dim: int, weights: str | None, freeze: bool, image_size: int | None
    ) -> None:
        super().__init__()
        if image_shape[0] not in (1, 3):
            raise ValueError(f"EfficientNet takes images of 1 or 3 channels, not {image_shape[0]}")
        self.features = efficientnet_b0().features.to(memory_format=torch.channels_last)
        if weights is not None:
            load_features(self.features, weights, EfficientNet_B0_Weights, "--model.networks.weights")
        self.head = nn.Linear(FEATURES, out_dim)
        self.frozen = freeze
        self.size = None if image_size is None else (image_size, image_size)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.features.requires_grad_(not freeze)
        self.train()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.features.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        if self.size is not None:
            images = F.interpolate(images, self.size, mode="bilinear", align_corners=False)
        scaled = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)  # (N, 3, H, W)
        maps = self.features(scaled)  # (N, 1280, h, w)
        return self.head(maps.mean(dim=(2, 3)))  # (N, out_dim)
