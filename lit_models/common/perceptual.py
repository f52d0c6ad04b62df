"""Perceptual distances, and the fixed networks whose features they compare, to be injected into a model."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from lit_models.common.capabilities import Encodes
from lit_models.common.checkpoints import CheckpointError, article
from lit_models.common.component import Component
from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.common.pretrained_encoder import resolve_checkpoint_path
from lit_models.networks.vgg import Pooling, VGG19Features, check_layers


def perceptual_distance(network: nn.Module, images: Tensor, references: Tensor) -> Tensor:
    """Mean over layers j and over images of |phi_j(x) - phi_j(y)|^2 / (C_j H_j W_j): a scalar.

    Johnson et al. 2016, arXiv 1603.08155, eq. 2. Ledig et al. 2016, arXiv 1609.04802, eq. 5, leave out the number of
    channels C_j and divide the feature maps by 12.75: at relu5_4, with 512 channels, their distance is 3.15 times as
    large. Under autocast, the network runs in the lower precision; the differences are computed in single precision.

    Args:
        network: Fixed network, as `PerceptualFeatures.build` returns it.
        images: Images in [0, 1], N x C x H x W.
        references: Images in [0, 1], N x C x H x W. They get no gradient.
    """
    with torch.no_grad():
        targets = network(references.float())
    features = network(images.float())
    errors = [(a.float() - b.float()).square().mean() for a, b in zip(features, targets, strict=True)]
    return torch.stack(errors).mean()


class PerceptualFeatures(Component, ABC):
    """Builds a fixed network whose feature maps compare images. Only `build` reads the network's weights."""

    @abstractmethod
    def build(self, image_shape: ImageShape | None = None, option: str = "--model.perceptual") -> nn.Module:
        """Builds the network: images in [0, 1], N x C x H x W -> list of feature maps, N x C_j x H_j x W_j.

        It is on the CPU, frozen, and stays in evaluation mode.

        Args:
            image_shape: Shape of the images. If given, it is checked at once that the network can take them.
            option: Command-line option that chooses the network; error messages name it.

        Raises:
            CheckpointError, ValueError: the network cannot be loaded, or cannot take such images.
        """


class ClassifierFeatures(PerceptualFeatures):
    """Feature maps of a Classifier trained with genlab, after each stage and before its pooling.

    Args:
        checkpoint: Checkpoint of a Classifier; `{seed}` stands for the run's seed.
        stages: Numbers of the stages, from 1; all by default.

    Raises:
        ValueError: there is no stage, a stage is given twice, or a number is below 1.

    Examples:
        >>> ClassifierFeatures("runs/classifier_mnist/default/checkpoints/best.ckpt", stages=(1, 2)).stages
        (1, 2)
    """

    def __init__(self, checkpoint: str, stages: tuple[int, ...] | None = None) -> None:
        if stages is not None and (not stages or len(set(stages)) < len(stages) or min(stages) < 1):
            raise ValueError(f"stages is {list(stages)}; give at least one stage, counted from 1, and none twice")
        self.checkpoint = checkpoint
        self.stages = stages

    def build(self, image_shape: ImageShape | None = None, option: str = "--model.perceptual") -> nn.Module:
        path = resolve_checkpoint_path(self.checkpoint, None)
        with torch.random.fork_rng(devices=[]):  # keeps the random state, as the weights are replaced
            model = GenerativeModule.load(path)
        stages = getattr(model.encoder_network(), "stages", None) if isinstance(model, Encodes) else None
        if not isinstance(stages, nn.Sequential):
            raise CheckpointError(
                f"{path} holds {article(type(model).__name__)}, which has no stages; give the checkpoint of a"
                " Classifier"
            )
        network = StageFeatures(stages, self.stages, path)
        if image_shape is not None:
            network.check_shape(image_shape)
        return network


class VGGFeatures(PerceptualFeatures):
    """Feature maps of VGG-19 (Ledig et al. 2016, arXiv 1609.04802; Johnson et al. 2016, arXiv 1603.08155).

    Args:
        weights: IMAGENET1K_V1 or DEFAULT, weights trained on ImageNet, which torchvision downloads once; a file with
            them; or `random` for random weights, which are always the same.
        layers: Names of the layers: conv1_1, relu1_1 to conv5_4, relu5_4, and pool1 to pool5. SRGAN uses relu5_4.
        pooling: `max`, as trained, or `average`, for textures and styles.

    Raises:
        ValueError: there is no layer, a layer is given twice, or VGG-19 has no such layer.

    Examples:
        >>> VGGFeatures("random", ("relu1_1",)).build()(torch.rand(1, 3, 16, 16))[0].shape
        torch.Size([1, 64, 16, 16])
    """

    def __init__(
        self, weights: str = "IMAGENET1K_V1", layers: tuple[str, ...] = ("relu5_4",), pooling: Pooling = "max"
    ) -> None:
        check_layers(layers)
        self.weights = weights
        self.layers = layers
        self.pooling: Pooling = pooling

    def build(self, image_shape: ImageShape | None = None, option: str = "--model.perceptual") -> nn.Module:
        network = VGG19Features(self.layers, self.weights, self.pooling, f"{option}.weights")
        if image_shape is not None:
            network.check_shape(image_shape)
        return network


class StageFeatures(nn.Module):
    """Feature maps after stages of a trained network, frozen. Stages above the last chosen one are not kept in memory.

    Args:
        stages: Stages of convolutions, with max pooling between them.
        chosen: Numbers of the stages, from 1; None for all.
        path: Checkpoint of the network; error messages name it.

    Raises:
        CheckpointError: there are fewer stages; from `forward`, the images do not fit.
    """

    def __init__(self, stages: nn.Sequential, chosen: Sequence[int] | None, path: Path) -> None:
        super().__init__()
        ends = [index for index, layer in enumerate(stages) if not isinstance(layer, nn.MaxPool2d)]
        chosen = range(1, len(ends) + 1) if chosen is None else chosen
        if max(chosen) > len(ends):
            raise CheckpointError(f"{path} has {len(ends)} stages, and no stage {max(chosen)}")
        self.indices = [ends[stage - 1] for stage in chosen]
        self.stages = stages[: 1 + max(self.indices)]
        self.num_poolings = sum(isinstance(layer, nn.MaxPool2d) for layer in self.stages)
        self.channels = next(layer.in_channels for layer in self.stages.modules() if isinstance(layer, nn.Conv2d))
        self.path = path
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Does nothing: the network stays in evaluation mode."""
        return super().train(False)

    def check_shape(self, image_shape: Sequence[int]) -> None:
        """Checks that the network can take images of a shape.

        Args:
            image_shape: Channels, height, width.

        Raises:
            CheckpointError: the network takes images of another number of channels.
            ValueError: there are too few pixels for the last stage.
        """
        channels, height, width = image_shape
        if channels != self.channels:
            raise CheckpointError(
                f"{self.path} takes {self.channels}-channel images, not {channels}-channel ones; give the checkpoint"
                " of a Classifier of such images"
            )
        fitting = min(height, width).bit_length()
        if fitting <= self.num_poolings:
            raise ValueError(
                f"images of {height} x {width} are too small for stage {self.num_poolings + 1} of {self.path}, which"
                f" halves them {self.num_poolings} times; the last stage that fits is {fitting}"
            )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images in [0, 1], N x C x H x W -> one map, N x C' x H' x W', for each chosen stage, in order."""
        self.check_shape(images.shape[1:])
        x = images.contiguous(memory_format=torch.channels_last)  # as in training
        maps = {}
        for index, layer in enumerate(self.stages):
            x = layer(x)
            maps[index] = x
        return [maps[index] for index in self.indices]
