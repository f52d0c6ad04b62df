"""Feature maps of VGG-19, for perceptual losses, texture synthesis and style transfer."""

from collections.abc import Sequence
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torchvision.models import VGG19_Weights, vgg19

from lit_models.networks.weights import IMAGENET_MEAN, IMAGENET_STD, load_features

Pooling = Literal["max", "average"]
POOLINGS: dict[Pooling, type[nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}
BLOCKS = (2, 2, 4, 4, 4)
"""Number of convolutions in each block. Each block ends with pooling."""
RANDOM = "random"
"""Value of `weights` for random weights, which are always the same."""


def _layers() -> tuple[str, ...]:
    names = []
    for block, depth in enumerate(BLOCKS, 1):
        names += [f"{kind}{block}_{unit}" for unit in range(1, depth + 1) for kind in ("conv", "relu")]
        names.append(f"pool{block}")
    return tuple(names)


LAYERS = _layers()
"""Names of the layers, in the order of torchvision's `features`: conv1_1, relu1_1, conv1_2, ..., relu5_4, pool5."""


def check_layers(layers: Sequence[str]) -> None:
    """Checks the names of layers.

    Raises:
        ValueError: there is no layer, a layer is given twice, or VGG-19 has no such layer.
    """
    for layer in layers:
        if layer not in LAYERS:
            raise ValueError(
                f"VGG-19 has no layer {layer}; its layers are conv1_1, relu1_1 to relu5_4, and pool1 to pool5"
            )
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers is {list(layers)}; give at least one layer, and none twice")


class VGG19Features(nn.Module):
    """Feature maps of some layers of VGG-19 (Simonyan and Zisserman 2014, arXiv 1409.1556), with frozen weights.

    In block 3, conv3_2 is the output of the second convolution, relu3_2 the same after its ReLU, and pool3 the output
    of the pooling that ends the block. Layers above the last one of `layers` are not kept in memory.

    Args:
        layers: Names of the layers, in any order.
        weights: IMAGENET1K_V1 or DEFAULT, which torchvision downloads once; a file with a state_dict of torchvision's
            vgg19, which needs to hold only these layers and those below them; or `random` for normal weights that keep
            the size of the maps from layer to layer (He et al. 2015, arXiv 1502.01852, eq. 10) and are always the same.
        pooling: `max`, as trained, or `average`, for textures (Gatys et al. 2015, arXiv 1505.07376).
        option: Command-line option that accepts a file of weights; error messages name it.

    Raises:
        ValueError: there is no such layer, or the weights cannot be loaded; from `forward`, the images do not fit.
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
        with torch.device("meta"):  # no memory and no random draws for weights that are replaced
            whole = vgg19(init_weights=False).features
        self.features = whole[: 1 + max(map(LAYERS.index, layers))].to_empty(device="cpu")
        if weights == RANDOM:
            draw_weights(self.features)
        else:
            others = whole.state_dict().keys() - self.features.state_dict().keys()
            load_features(self.features, weights, VGG19_Weights, option, others)
        for place, layer in enumerate(self.features):
            if isinstance(layer, nn.ReLU):
                self.features[place] = nn.ReLU()  # torchvision's is in place: it overwrites the map of the layer before
            elif isinstance(layer, nn.MaxPool2d):
                self.features[place] = POOLINGS[pooling](2)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Does nothing: the network stays in evaluation mode."""
        return super().train(False)

    def check_shape(self, image_shape: Sequence[int]) -> None:
        """Checks that the network can take images of a shape.

        Args:
            image_shape: Channels, height, width.

        Raises:
            ValueError: there are neither 1 nor 3 channels, or too few pixels for a layer.
        """
        channels, height, width = image_shape
        if channels not in (1, 3):
            raise ValueError(f"VGG-19 takes images of 1 or 3 channels, not {channels}")
        halvings = min(height, width).bit_length() - 1
        fitting = [layer for layer in LAYERS if _num_poolings(layer) <= halvings]
        deepest = max(self.layers, key=LAYERS.index)
        if deepest not in fitting:
            raise ValueError(
                f"images of {height} x {width} are too small for {deepest} of VGG-19, which halves them"
                f" {_num_poolings(deepest)} times; the last layer that fits is {fitting[-1]}"
            )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images in [0, 1], N x C x H x W, C = 1 or 3 -> one map, N x C' x H' x W', for each of `layers`, in order."""
        self.check_shape(images.shape[1:])
        x = (images - self.mean) / self.std  # (N, 3, H, W); grey is repeated to three channels
        maps = {}
        for name, layer in zip(LAYERS, self.features, strict=False):
            x = layer(x)
            if name in self.layers:
                maps[name] = x
        return [maps[name] for name in self.layers]


@torch.no_grad()
def draw_weights(features: nn.Module) -> None:
    """Draws the weights of convolutions from N(0, 2 / fan_in) and sets biases to 0. Uses a generator of its own."""
    generator = torch.Generator().manual_seed(0)
    for layer in features.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def _num_poolings(layer: str) -> int:
    """Number of poolings up to and including a layer."""
    return int(layer[4]) - (not layer.startswith("pool"))
