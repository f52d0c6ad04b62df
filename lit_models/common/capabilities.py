"""Protocols that say what a model can do.

Callbacks, metrics and sample.py ask for a protocol, by `isinstance(model, Samples)`, and never for a class of model.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Samples(Protocol):
    """The model generates images."""

    def sample(self, n: int, label: int | None = None) -> Tensor:
        """Generates n images in [0, 1], n x C x H x W, of class `label` if it is given."""


@runtime_checkable
class Encodes(Protocol):
    """The model encodes images."""

    def encode(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W -> codes, N x d."""

    def encoder_network(self) -> nn.Module:
        """The module that computes `encode`, to the last bit, on its own, so that another model can use it."""


@runtime_checkable
class HasBackbone(Protocol):
    """The model contains a network of features that another model can build on."""

    def backbone(self) -> nn.Module:
        """The module from images, N x C x H x W, to features, N x F, on its own."""


@runtime_checkable
class Decodes(Protocol):
    """The model decodes codes."""

    def decode(self, codes: Tensor) -> Tensor:
        """Codes, N x d -> images in [0, 1], N x C x H x W."""


@runtime_checkable
class HasCodeMaps(Protocol):
    """The model's codes are maps: each code, c x h x w, is flattened to d = c h w numbers at its public boundary."""

    code_shape: tuple[int, int, int]
    """Channels c, height h and width w of a code."""


@runtime_checkable
class Tokenizes(Protocol):
    """The model turns images into maps of tokens, whole numbers below `codebook_size`, and back."""

    codebook_size: int
    """Number K of different tokens."""
    token_shape: tuple[int, int]
    """Height h and width w of a map of tokens."""

    def tokenize(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W -> tokens, int64 in [0, K), N x h x w."""

    def detokenize(self, tokens: Tensor) -> Tensor:
        """Tokens, int64, N x h x w -> images in [0, 1], N x C x H x W."""


@runtime_checkable
class Reconstructs(Protocol):
    """The model reconstructs images."""

    def reconstruct(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W -> reconstructions in [0, 1], N x C x H x W."""


@runtime_checkable
class Translates(Protocol):
    """The model translates images from one domain to another."""

    directions: tuple[str, ...]
    """Directions of translation: `ab` from source to target images, and `ba` back, if the model can."""

    def translate(self, images: Tensor, direction: str = "ab") -> Tensor:
        """Images of one domain in [0, 1], N x C x H x W -> images of the other domain in [0, 1]."""


@runtime_checkable
class HasLogProb(Protocol):
    """The model computes the likelihood of images, or a bound."""

    def log_prob(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W -> log-density in nats, N."""


@runtime_checkable
class HasOptimizedImages(Protocol):
    """The model holds the images that it makes as parameters, and makes no others."""

    def optimized_images(self) -> Tensor:
        """All images of the model, in [0, 1], N x C x H x W."""


@dataclass(frozen=True)
class LatentBlock:
    """Columns of a code that belong together: real numbers, or one-hot vectors of categorical variables.

    Args:
        kind: Kind of the variables.
        start: First column.
        stop: Column after the last one.
        categories: Number of categories of each categorical variable.

    Raises:
        ValueError: the number of columns is no multiple of `categories`.
    """

    kind: Literal["continuous", "categorical"]
    start: int
    stop: int
    categories: int = 0

    def __post_init__(self) -> None:
        if self.kind == "categorical" and (self.categories < 2 or (self.stop - self.start) % self.categories):
            raise ValueError(f"columns {self.start} to {self.stop} hold no one-hot vectors of {self.categories}")

    @property
    def num_variables(self) -> int:
        """Number of real numbers, or of categorical variables."""
        width = self.stop - self.start
        return width if self.kind == "continuous" else width // self.categories


@runtime_checkable
class HasLatentBlocks(Protocol):
    """The model has codes with a prior."""

    def latent_blocks(self) -> list[LatentBlock]:
        """Meaning of the columns of a code, in order and without gaps."""

    def sample_prior(self, n: int) -> Tensor:
        """Draws n codes from the prior, n x d, in the form that `decode` takes."""


def refuse_label(model: object, label: int | None) -> None:
    """Raises an error if a model without classes is asked for one.

    Raises:
        ValueError: `label` is not None.
    """
    if label is not None:
        raise ValueError(f"{type(model).__name__} was trained without labels and cannot be asked for class {label}")


def class_labels(model: Any, n: int, label: int | None) -> Tensor | None:
    """Labels of n images, int64, n: all `label`, or random ones; None for a model without classes.

    Raises:
        ValueError: the model has no such class.
    """
    if model.num_classes is None:
        refuse_label(model, label)
        return None
    if label is None:
        return torch.randint(model.num_classes, (n,), device=model.device)
    if not 0 <= label < model.num_classes:
        raise ValueError(f"there is no class {label}; the classes are 0 to {model.num_classes - 1}")
    return torch.full((n,), label, device=model.device)


def check_num_classes(num_classes: int) -> None:
    """Raises an error if there are too few classes to learn them.

    Raises:
        ValueError: There are fewer than two.
    """
    if num_classes < 2:
        raise ValueError(
            f"num_classes is {num_classes}; a model that learns classes needs at least 2: use data of more classes, or"
            " a model without labels"
        )
