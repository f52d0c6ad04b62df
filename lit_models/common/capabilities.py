"""Protocols: what a model can do. Callbacks, metrics and sample.py ask for one of these, never for a class of model."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Samples(Protocol):
    def sample(self, n: int, label: int | None = None) -> Tensor:
        """New images in [0, 1], N x C x H x W."""


@runtime_checkable
class Encodes(Protocol):
    def encode(self, images: Tensor) -> Tensor:
        """Codes, N x d, of images in [0, 1], N x C x H x W."""

    def encoder_network(self) -> nn.Module:
        """The part of the model that computes `encode`, alone, to be carried into another model."""


@runtime_checkable
class HasBackbone(Protocol):
    def backbone(self) -> nn.Module:
        """The part of the model that makes features, N x F, of images, alone, to learn on."""


@runtime_checkable
class Decodes(Protocol):
    def decode(self, codes: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W, of codes, N x d."""


@runtime_checkable
class Reconstructs(Protocol):
    def reconstruct(self, images: Tensor) -> Tensor:
        """The model's version of images in [0, 1], N x C x H x W."""


@runtime_checkable
class Translates(Protocol):
    directions: tuple[str, ...]
    """From which kind of images to which: `ab` from sources to targets, and `ba` back for a model that can."""

    def translate(self, images: Tensor, direction: str = "ab") -> Tensor:
        """Images of one kind, in [0, 1], as the other kind shows them."""


@runtime_checkable
class HasLogProb(Protocol):
    def log_prob(self, images: Tensor) -> Tensor:
        """Log-density in nats, N, of images in [0, 1], N x C x H x W."""


@dataclass(frozen=True)
class LatentBlock:
    """Columns start to stop of a code: real numbers, or one-hot blocks of `categories` columns each.

    Raises:
        ValueError: the columns do not make up whole blocks.
    """

    kind: Literal["continuous", "categorical"]
    start: int
    stop: int
    categories: int = 0

    def __post_init__(self) -> None:
        if self.kind == "categorical" and (self.categories < 2 or (self.stop - self.start) % self.categories):
            raise ValueError(f"columns {self.start} to {self.stop} are no blocks of {self.categories} categories")

    @property
    def variables(self) -> int:
        """Real numbers, or categorical variables, that it is made of."""
        width = self.stop - self.start
        return width if self.kind == "continuous" else width // self.categories


@runtime_checkable
class HasLatentBlocks(Protocol):
    def latent_blocks(self) -> list[LatentBlock]:
        """What the columns of a code mean, in their order, without gaps."""

    def sample_prior(self, n: int) -> Tensor:
        """Draws of the prior, n x d, as `decode` takes them."""


def refuse_label(model: object, label: int | None) -> None:
    """Raises an error if a model without classes is asked for one.

    Raises:
        ValueError: `label` is not None.
    """
    if label is not None:
        raise ValueError(f"{type(model).__name__} was trained without labels and cannot be asked for class {label}")
