"""EfficientNet-B0 as an encoder, with random weights or with weights trained on ImageNet."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0

from lit_models.networks.weights import IMAGENET_MEAN, IMAGENET_STD, load_features

FEATURES = 1280


class EfficientNetEncoder(nn.Module):
    """Features of EfficientNet-B0 (Tan and Le 2019, arXiv 1905.11946), averaged over space, then a linear layer.

    Args:
        image_shape: Channels, height, width. Grey images, of one channel, are repeated to three channels.
        out_dim: Width of the output.
        weights: Initial weights of the backbone: a name known to torchvision, a file, or None for random weights.
        freeze: Trains the linear layer only; the backbone keeps its weights and its batch-norm statistics.
        image_size: Height and width to which images are resized first. None: they are not resized.

    Raises:
        ValueError: the images have neither 1 nor 3 channels, or the weights cannot be loaded.
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
        """Sets the mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.features.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W -> N x out_dim."""
        if self.size is not None:
            images = F.interpolate(images, self.size, mode="bilinear", align_corners=False)
        scaled = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)  # (N, 3, H, W)
        maps = self.features(scaled)  # (N, 1280, h, w)
        return self.head(maps.mean(dim=(2, 3)))
