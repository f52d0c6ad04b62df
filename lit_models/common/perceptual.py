"""Distances of images as a fixed network sees them, and the networks for it, to be injected into a model."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from lit_models.common.capabilities import Encodes
from lit_models.common.checkpoints import CheckpointError
from lit_models.common.component import Component
from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.common.pretrained_encoder import fill_path
from lit_models.networks.vgg import Pooling, VGG19Features, check_layers


def perceptual_distance(network: nn.Module, images: Tensor, references: Tensor) -> Tensor:
    """mean over layers j of |phi_j(x) - phi_j(y)|^2 / (C_j H_j W_j), and over the images.

    Johnson et al. 2016, arXiv 1603.08155, eq. 2. Ledig et al. 2016, arXiv 1609.04802, eq. 5, leave out the number of
    channels C_j and divide the maps by 12.75: at relu5_4, with its 512 channels, theirs is 3.15 times as large.
    Under autocast the network runs as other networks do; the differences of its maps are in single precision.

    Args:
        network: as `PerceptualFeatures.load` gives it.
        images: N x C x H x W, in [0, 1]; the gradient reaches them.
        references: the same; no gradient reaches them.
    """
    with torch.no_grad():
        targets = network(references.float())
    found = network(images.float())
    errors = [(a.float() - b.float()).square().mean() for a, b in zip(found, targets, strict=True)]
    return torch.stack(errors).mean()


class PerceptualFeatures(Component, ABC):
    """A trained network whose maps compare images. What makes it is read by `load`, and not before."""

    @abstractmethod
    def load(self, image_shape: ImageShape | None = None, option: str = "--model.perceptual") -> nn.Module:
        """Images in [0, 1], N x C x H x W -> list of maps, N x C_j x H_j x W_j: frozen, always evaluating, on the CPU.

        Args:
            image_shape: of the images that it must take, to be told before the first one if it cannot.
            option: by which it is chosen, for the messages.

        Raises:
            CheckpointError, ValueError: the network cannot be had, or not for such images.
        """


class ClassifierFeatures(PerceptualFeatures):
    """A classifier trained here, after its stages, each before it is halved.

    Args:
        checkpoint: of the classifier, or of a model on one; `{seed}` stands for the run's seed.
        stages: counted from 1; none for all of them.

    Raises:
        ValueError: no stage, one twice, or one below 1.
    """

    def __init__(self, checkpoint: str, stages: tuple[int, ...] | None = None) -> None:
        if stages is not None and (not stages or len(set(stages)) < len(stages) or min(stages) < 1):
            raise ValueError(
                f"stages is {list(stages)}; it must name at least one stage, counted from 1, and none twice"
            )
        self.checkpoint = checkpoint
        self.stages = stages

    def load(self, image_shape: ImageShape | None = None, option: str = "--model.perceptual") -> nn.Module:
        path = fill_path(self.checkpoint, None)
        with torch.random.fork_rng(devices=[]):  # of weights that are replaced
            model = GenerativeModule.load(path)
        stages = getattr(model.encoder_network(), "stages", None) if isinstance(model, Encodes) else None
        if not isinstance(stages, nn.Sequential):
            raise CheckpointError(
                f"{path} holds a {type(model).__name__}, which has no stages; give the checkpoint of a Classifier"
            )
        network = StageMaps(stages, self.stages, path)
        if image_shape is not None:
            network.check(image_shape)
        return network


class VGGFeatures(PerceptualFeatures):
    """Layers of VGG-19, as trained on ImageNet (Ledig et al. 2016, arXiv 1609.04802; Johnson et al. 2016, 1603.08155).

    Args:
        weights: a name of torchvision's (IMAGENET1K_V1, DEFAULT), which is downloaded once, a file of them, or `random`
            for the network before training, always the same.
        layers: conv1_1, relu1_1 to relu5_4, pool1 to pool5; relu5_4 in SRGAN.
        pooling: the maximum, as trained, or the average, for textures and styles.

    Raises:
        ValueError: no layer, one twice, or one that VGG-19 does not have.
    """

    def __init__(
        self, weights: str = "IMAGENET1K_V1", layers: tuple[str, ...] = ("relu5_4",), pooling: Pooling = "max"
    ) -> None:
        check_layers(layers)
        self.weights = weights
        self.layers = layers
        self.pooling: Pooling = pooling

    def load(self, image_shape: ImageShape | None = None, option: str = "--model.perceptual") -> nn.Module:
        network = VGG19Features(self.layers, self.weights, self.pooling, f"{option}.weights")
        if image_shape is not None:
            network.check(image_shape)
        return network


class StageMaps(nn.Module):
    """Maps after stages of a trained network, frozen. Stages above the last one that is asked for are not kept.

    Args:
        stages: of convolutions, with max pooling between them.
        chosen: counted from 1; none for all.
        source: where they are from, for the messages.

    Raises:
        CheckpointError: there are fewer stages; from `forward`, images as from `check`.
    """

    def __init__(self, stages: nn.Sequential, chosen: Sequence[int] | None, source: Path) -> None:
        super().__init__()
        ends = [place for place, layer in enumerate(stages) if not isinstance(layer, nn.MaxPool2d)]
        chosen = range(1, len(ends) + 1) if chosen is None else chosen
        if max(chosen) > len(ends):
            raise CheckpointError(f"{source} has {len(ends)} stages, and no stage {max(chosen)}")
        self.places = [ends[stage - 1] for stage in chosen]
        self.stages = stages[: 1 + max(self.places)]
        self.halvings = sum(isinstance(layer, nn.MaxPool2d) for layer in self.stages)
        self.channels = next(layer.in_channels for layer in self.stages.modules() if isinstance(layer, nn.Conv2d))
        self.source = source
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Evaluation mode, whatever is asked for."""
        return super().train(False)

    def check(self, image_shape: Sequence[int]) -> None:
        """
        Args:
            image_shape: channels, height, width.

        Raises:
            CheckpointError: it is of images of another number of channels.
            ValueError: too few pixels for the last stage.
        """
        channels, height, width = image_shape
        if channels != self.channels:
            raise CheckpointError(
                f"{self.source} takes {self.channels}-channel images, not {channels}-channel ones; give the checkpoint"
                " of a Classifier of those"
            )
        fitting = min(height, width).bit_length()
        if fitting <= self.halvings:
            raise ValueError(
                f"images of {height} x {width} are too small for stage {self.halvings + 1} of {self.source}, which"
                f" halves them {self.halvings} times; the last stage that fits is {fitting}"
            )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images in [0, 1], N x C x H x W -> maps, N x C' x H' x W' each, in the order that was asked for."""
        self.check(images.shape[1:])
        x = images.contiguous(memory_format=torch.channels_last)  # as it was trained
        maps = {}
        for place, layer in enumerate(self.stages):
            x = layer(x)
            maps[place] = x
        return [maps[place] for place in self.places]
