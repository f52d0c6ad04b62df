"""Maps of VGG-19's layers, which perceptual losses, textures and styles are made of."""

from collections.abc import Sequence
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torchvision.models import VGG19_Weights, vgg19

from lit_models.networks.weights import IMAGENET_MEAN, IMAGENET_STD, load_features

Pooling = Literal["max", "average"]
POOLINGS: dict[Pooling, type[nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}
BLOCKS = (2, 2, 4, 4, 4)
"""Convolutions of each block; pooling ends it."""
RANDOM = "random"
"""Weights that are drawn, always the same ones."""


def _layers() -> tuple[str, ...]:
    names = []
    for block, depth in enumerate(BLOCKS, 1):
        names += [f"{kind}{block}_{unit}" for unit in range(1, depth + 1) for kind in ("conv", "relu")]
        names.append(f"pool{block}")
    return tuple(names)


LAYERS = _layers()
"""conv1_1, relu1_1, conv1_2, relu1_2, pool1, conv2_1 ... relu5_4, pool5, in the order of torchvision's features."""


def check_layers(layers: Sequence[str]) -> None:
    """
    Raises:
        ValueError: no layer, one twice, or one that VGG-19 does not have.
    """
    for layer in layers:
        if layer not in LAYERS:
            raise ValueError(
                f"VGG-19 has no layer {layer}; its layers are conv1_1, relu1_1 to relu5_4, and pool1 to pool5"
            )
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers is {list(layers)}; it must name at least one layer, and none twice")


class VGG19Features(nn.Module):
    """Maps of some layers of VGG-19 (Simonyan and Zisserman 2014, arXiv 1409.1556), frozen, as trained on ImageNet.

    relu3_2 is what follows the second convolution after the second pooling, conv3_2 the same before its ReLU, and pool3
    the pooling that ends its block. Layers above the last one that is asked for are not kept.

    Args:
        layers: whose maps, in any order.
        weights: a name of torchvision's (IMAGENET1K_V1, DEFAULT), which is downloaded once; a file of a state_dict of
            torchvision's vgg19, in which these layers' weights and those below them are enough; or `random`, for normal
            weights by which maps keep their size from layer to layer (He et al. 2015, arXiv 1502.01852, eq. 10), which
            are always the same.
        pooling: the maximum, as trained, or the average, for textures (Gatys et al. 2015, arXiv 1505.07376).
        option: that can name a file, for the message.

    Raises:
        ValueError: no such layer, or weights that cannot be had; from `forward`, images as from `check`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        layers: Sequence[str],
        weights: str,
        pooling: Pooling = "max",
        option: str = "weights",
    ) -> None:
        super().__init__()
        check_layers(layers)
        self.layers = tuple(layers)
        with torch.device("meta"):  # neither memory nor random draws for weights that are replaced
            whole = vgg19(init_weights=False).features
        self.features = whole[: 1 + max(map(LAYERS.index, layers))].to_empty(device="cpu")
        if weights == RANDOM:
            draw_weights(self.features)
        else:
            others = whole.state_dict().keys() - self.features.state_dict().keys()
            load_features(self.features, weights, VGG19_Weights, option, others)
        for place, layer in enumerate(self.features):
            if isinstance(layer, nn.ReLU):
                self.features[place] = nn.ReLU()  # torchvision's own writes over the map before it
            elif isinstance(layer, nn.MaxPool2d):
                self.features[place] = POOLINGS[pooling](2)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Evaluation mode, whatever is asked for."""
        return super().train(False)

    def check(self, image_shape: Sequence[int]) -> None:
        """
        Args:
            image_shape: channels, height, width.

        Raises:
            ValueError: other than 1 or 3 channels, or too few pixels for a layer.
        """
        channels, height, width = image_shape
        if channels not in (1, 3):
            raise ValueError(f"VGG-19 takes images of 1 or 3 channels, not {channels}")
        halvings = min(height, width).bit_length() - 1
        fitting = [layer for layer in LAYERS if _poolings(layer) <= halvings]
        deepest = max(self.layers, key=LAYERS.index)
        if deepest not in fitting:
            raise ValueError(
                f"images of {height} x {width} are too small for {deepest} of VGG-19, which halves them"
                f" {_poolings(deepest)} times; the last layer that fits is {fitting[-1]}"
            )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images in [0, 1], N x C x H x W, grey or coloured -> maps, N x C' x H' x W', in the order of `layers`."""
        self.check(images.shape[1:])
        x = (images - self.mean) / self.std  # (N, 3, H, W), grey put into all three channels
        maps = {}
        for name, layer in zip(LAYERS, self.features, strict=False):
            x = layer(x)
            if name in self.layers:
                maps[name] = x
        return [maps[name] for name in self.layers]


@torch.no_grad()
def draw_weights(features: nn.Module) -> None:
    """Gives convolutions weights N(0, 2 / number of inputs) and no biases; torch's global generator stays as it is."""
    generator = torch.Generator().manual_seed(0)
    for layer in features.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def _poolings(layer: str) -> int:
    """Up to a layer and with it."""
    return int(layer[4]) - (not layer.startswith("pool"))
