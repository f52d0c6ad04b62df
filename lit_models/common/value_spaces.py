"""What an autoregressive model calls the values of an image: grey levels of its pixels, or tokens of a tokenizer."""

from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from torch import Tensor, nn

from lit_models.common.capabilities import Tokenizes
from lit_models.common.checkpoints import CheckpointError, article
from lit_models.common.module import ImageShape
from lit_models.common.pretrained_encoder import NO_CHECKPOINT, load_pretrained, refuse_image_shape


class ValueSpace(nn.Module, ABC):
    """Arrays of whole numbers that stand for images.

    Args:
        shape: Channels, height and width of an array.
        num_values: Number K of different values.
        ordered: Whether a value is a number on a scale rather than a token.
    """

    def __init__(self, shape: ImageShape, num_values: int, ordered: bool) -> None:
        super().__init__()
        self.shape = shape
        self.num_values = num_values
        self.ordered = ordered

    @abstractmethod
    def values(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W -> values, int64 in [0, K), N x `shape`."""

    @abstractmethod
    def images(self, values: Tensor) -> Tensor:
        """Values, int64, N x `shape` -> images in [0, 1], N x C x H x W."""


class GreyLevels(ValueSpace):
    """K evenly spaced levels of each channel of a pixel, from 0 to 1; a pixel is rounded to the nearest.

    Args:
        image_shape: Shape of the images.
        num_values: Number K of levels.

    Raises:
        ValueError: there are not 2 to 256 levels.

    Examples:
        >>> levels = GreyLevels((1, 1, 3), 5)
        >>> levels.values(torch.tensor([[[[0.0, 0.2, 1.0]]]]))
        tensor([[[[0, 1, 4]]]])
    """

    def __init__(self, image_shape: ImageShape, num_values: int) -> None:
        if not 2 <= num_values <= 256:
            raise ValueError(f"values is {num_values}; it must be from 2, for black and white, to 256, for 8 bits")
        super().__init__(image_shape, num_values, ordered=True)

    def values(self, images: Tensor) -> Tensor:
        return (images.float() * (self.num_values - 1)).round().long()

    def images(self, values: Tensor) -> Tensor:
        return values / (self.num_values - 1)


class Tokens(ValueSpace):
    """Maps of tokens of a trained tokenizer, such as a VQVAE, which is fixed.

    Args:
        checkpoint: Checkpoint of the tokenizer, in which `{seed}` stands for the run's seed.
        image_shape: Shape of the images.
        config: Hyper-parameters of the tokenizer, as JSON. If given, an untrained one is built from them, and the
            checkpoint is not read.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, holds no tokenizer, or one of other images.
    """

    def __init__(self, checkpoint: str, image_shape: ImageShape, config: str | None) -> None:
        path, model = load_pretrained(checkpoint, None, config)
        if not isinstance(model, Tokenizes):
            raise CheckpointError(
                f"{path} holds {article(type(model).__name__)}, which has no tokens; give the checkpoint of a"
                " tokenizer, such as that of configs/vqvae_mnist.yaml"
            )
        model.requires_grad_(False).eval()
        if not _takes(model, image_shape):
            raise refuse_image_shape(path, "a tokenizer", image_shape)
        super().__init__((1, *model.token_shape), model.codebook_size, ordered=False)
        self.tokenizer: Any = model
        self.config = model.model_config()

    def train(self, mode: bool = True) -> Self:
        """Leaves the tokenizer in evaluation mode."""
        return super().train(False)

    def tokens(self, images: Tensor) -> Tensor:
        """Images, N x C x H x W -> tokens, int32, N x h x w, in single precision."""
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return self.tokenizer.tokenize(images.to(self.tokenizer.dtype)).int()

    def values(self, images: Tensor) -> Tensor:
        """Images, N x C x H x W, or their tokens, N x h x w -> int64, N x 1 x h x w."""
        return (images if images.ndim == 3 else self.tokens(images)).long()[:, None]

    def images(self, values: Tensor) -> Tensor:
        with torch.autocast(values.device.type, enabled=False):
            return self.tokenizer.detokenize(values[:, 0])

    def start(self, loader: Any) -> None:
        """Makes the training loader give tokens if its images stay the same."""
        if getattr(loader, "is_deterministic", False):
            loader.precompute_codes(self.tokens)


def value_space(
    image_shape: ImageShape, levels: int | None, tokenizer: str | None, config: str | None
) -> GreyLevels | Tokens:
    """The space of the tokens of a tokenizer, or of grey levels if there is none; see `Tokens` and `GreyLevels`.

    Raises:
        ValueError: both are given, or the number of levels is out of range.
        CheckpointError: the tokenizer cannot be used.
    """
    if tokenizer in (None, NO_CHECKPOINT):
        return GreyLevels(image_shape, 256 if levels is None else levels)
    if levels is not None:
        raise ValueError(f"values is {levels}, but the tokens of model.tokenizer are the values; leave one of them out")
    return Tokens(tokenizer, image_shape, config)


@torch.no_grad()
def _takes(tokenizer: Any, image_shape: ImageShape) -> bool:
    """Whether a tokenizer gives back images of that shape."""
    try:
        tokens = tokenizer.tokenize(torch.zeros(1, *image_shape))
        return tokenizer.detokenize(tokens).shape[1:] == torch.Size(image_shape)
    except RuntimeError:
        return False
