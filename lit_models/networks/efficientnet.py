"""EfficientNet-B0 as an encoder, from random weights or from those of ImageNet."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0

from lit_models.networks.conv import StridedDecoder, growing_channels
from lit_models.networks.pairs import Networks

FEATURES = 1280
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNREADABLE = (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError)


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

    first_weights = ("weights",)

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
            load_features(self.features, weights)
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


def load_features(features: nn.Module, weights: str) -> None:
    """Puts the weights of a torchvision name or of a file into the features of EfficientNet-B0.

    Raises:
        ValueError: they cannot be had or are those of another network; the message says how to bring them.
    """
    names = EfficientNet_B0_Weights.__members__
    state = _named(names[weights]) if weights in names else _from_file(Path(weights))
    found = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
    try:
        features.load_state_dict(found)
    except RuntimeError:
        raise ValueError(
            f"weights {weights} are of another network than EfficientNet-B0; give a state_dict of torchvision's"
            " efficientnet_b0"
        ) from None


def _named(weights: EfficientNet_B0_Weights) -> Mapping[str, Any]:
    """Torchvision's weights, from its folder of downloads or from the network."""
    kept = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(weights.url).path).name)
    was_there = kept.is_file()
    try:
        return weights.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        if was_there:
            raise ValueError(f"{kept} is damaged ({_reason(error)}); remove it or bring it again") from None
        raise ValueError(
            f"weights {weights.name} cannot be downloaded ({_reason(error)}); bring {weights.url} from elsewhere"
            f" and put it at {kept}, or anywhere and name it: --model.networks.weights FILE"
        ) from None


def _from_file(path: Path) -> Mapping[str, Any]:
    path = path.expanduser()
    if not path.is_file():
        names = " or ".join(EfficientNet_B0_Weights.__members__)
        raise ValueError(f"there are no weights {path}: neither a file nor {names}, which torchvision knows")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise ValueError(f"{path} is damaged or is no file of weights ({_reason(error)}); bring it again") from None
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} holds a {type(state).__name__}, not a state_dict of torchvision's efficientnet_b0")
    return state


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
