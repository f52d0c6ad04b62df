"""What a model from noise calls x_0: the pixels of an image, or the code that a trained autoencoder makes of it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from lit_models.common.capabilities import Decodes, Encodes, HasCodeMaps
from lit_models.common.checkpoints import CheckpointError, article
from lit_models.common.module import ImageShape
from lit_models.common.pretrained_encoder import NO_CHECKPOINT, load_pretrained, refuse_image_shape
from lit_models.common.processes import all_gather_objects

SCALED_BY = 5000
"""Number of training images whose codes give the scale of codes."""
MAX_PRECOMPUTED = 2**31
"""Bytes of the codes of all training images up to which they are computed once and kept."""


class DataSpace(nn.Module, ABC):
    """The space of x_0, from images in [0, 1] and back.

    Args:
        shape: Channels, height and width of x_0.
    """

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()
        self.shape = shape

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W -> x_0, N x `shape`, float32, without gradient."""

    @abstractmethod
    def decode(self, clean: Tensor) -> Tensor:
        """x_0, N x `shape` -> images in [0, 1], N x C x H x W."""


class PixelSpace(DataSpace):
    """x_0 = 2 x - 1: the image itself, with pixels in [-1, 1].

    Examples:
        >>> PixelSpace((1, 1, 2)).encode(torch.tensor([[[[0.0, 1.0]]]]))
        tensor([[[[-1.,  1.]]]])
    """

    def encode(self, images: Tensor) -> Tensor:
        return 2 * images.float() - 1

    def decode(self, clean: Tensor) -> Tensor:
        return ((clean + 1) / 2).clamp(0, 1)


class LatentSpace(DataSpace):
    """x_0 = (z - shift) / scale, where z = f(x) is the code of a trained autoencoder; back to an image x' = g(z).

    Latent diffusion (Rombach et al. 2021, arXiv 2112.10752, section 3). The autoencoder is fixed. A code that is a map
    stays one; a code of d numbers that is no map becomes d channels of one pixel. `shift` is the mean of each channel
    over training images, and `scale` one number, so that x_0 has the standard deviation `std`. They are computed when
    training starts, and are in the checkpoint.

    Departures from the paper: z is the code that `encode` gives, which for a VAE is the mean of the posterior and not a
    sample, so that it can be computed once, and for a VQ-VAE the quantised map, which is decoded without another
    quantisation; the mean is subtracted. The autoencoder runs in single precision.

    Args:
        checkpoint: Checkpoint of the autoencoder, in which `{seed}` stands for the run's seed.
        image_shape: Shape of the images.
        config: Hyper-parameters of the autoencoder, as JSON. If given, an untrained one is built from them, and the
            checkpoint is not read.
        std: Standard deviation of x_0.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, holds no autoencoder, or one of other images.
    """

    shift: Tensor
    """Mean code of each channel, c x 1 x 1."""
    scale: Tensor
    scaled: Tensor
    """Whether shift and scale are those of training images."""

    def __init__(self, checkpoint: str, image_shape: ImageShape, config: str | None, std: float) -> None:
        path, model = load_pretrained(checkpoint, None, config)
        if not (isinstance(model, Encodes) and isinstance(model, Decodes)):
            lacks = "decoder" if isinstance(model, Encodes) else "encoder"
            raise CheckpointError(
                f"{path} holds {article(type(model).__name__)}, which has no {lacks}; give the checkpoint of an"
                " autoencoder, such as that of configs/vae_map_mnist.yaml"
            )
        model.requires_grad_(False).eval()
        width = _code_width(model, image_shape)
        if width is None:
            raise refuse_image_shape(path, "an autoencoder", image_shape)
        super().__init__(model.code_shape if isinstance(model, HasCodeMaps) else (width, 1, 1))
        self.autoencoder: Any = model
        self.config = model.model_config()
        self.std = std
        self.register_buffer("shift", torch.zeros(self.shape[0], 1, 1))
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("scaled", torch.tensor(False))

    def train(self, mode: bool = True) -> Self:
        """Leaves the autoencoder in evaluation mode."""
        return super().train(False)

    def codes(self, images: Tensor) -> Tensor:
        """Images, N x C x H x W, or codes, which stay as they are, N x d -> codes, N x d."""
        if images.ndim == 2:
            return images
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return self.autoencoder.encode(images.to(self.autoencoder.dtype)).float()

    def encode(self, images: Tensor) -> Tensor:
        """Images, N x C x H x W, or codes, N x d -> x_0, N x c x h x w."""
        return (self.codes(images).unflatten(1, self.shape) - self.shift) / self.scale

    def decode(self, clean: Tensor) -> Tensor:
        codes = (clean * self.scale + self.shift).flatten(1)
        with torch.autocast(codes.device.type, enabled=False):
            return self.autoencoder.decode(codes.to(self.autoencoder.dtype))

    def start(self, loader: Any, processes: int) -> None:
        """Makes the training loader give codes if its images stay the same, and sets shift and scale if they are unset.

        Args:
            loader: Loader of training images.
            processes: Number of processes, which set the same shift and scale.

        Raises:
            CheckpointError: the autoencoder gives all images the same code.
        """
        number_of_bytes = 4 * math.prod(self.shape) * len(getattr(loader, "images", ()))
        if getattr(loader, "is_deterministic", False) and number_of_bytes <= MAX_PRECOMPUTED:
            loader.precompute_codes(self.codes)
        if not self.scaled:
            own = torch.cat(list(self._first_codes(loader, -(-SCALED_BY // processes))))
            self.set_scale(torch.cat(all_gather_objects(own.cpu())))

    def _first_codes(self, loader: Any, count: int) -> Iterator[Tensor]:
        """Codes of the first `count` images of a loader, in batches."""
        for batch in loader:
            images = batch if isinstance(batch, Tensor) else batch[0]
            yield self.codes(images[:count].to(self.shift.device))
            count -= len(images)
            if count <= 0:
                return

    def set_scale(self, codes: Tensor) -> None:
        """Sets shift and scale by the codes of training images, N x d.

        Raises:
            CheckpointError: all codes are the same.
        """
        maps = codes.double().unflatten(1, self.shape)
        shift = maps.mean(dim=(0, 2, 3))[:, None, None]
        deviation = (maps - shift).square().mean().sqrt()
        if not deviation > 1e-6 * (1 + shift.abs().max()):
            raise CheckpointError(
                "the autoencoder of --model.autoencoder gives all images the same code; train it again, a VAE with a"
                " smaller --model.beta"
            )
        self.shift.copy_(shift)
        self.scale.copy_(deviation / self.std)
        self.scaled.fill_(True)


def data_space(image_shape: ImageShape, autoencoder: str | None, config: str | None, std: float) -> DataSpace:
    """The space of x_0: that of the codes of an autoencoder, or of pixels if there is none; see `LatentSpace`."""
    if autoencoder in (None, NO_CHECKPOINT):
        return PixelSpace(image_shape)
    return LatentSpace(autoencoder, image_shape, config, std)


@torch.no_grad()
def _code_width(autoencoder: Any, image_shape: ImageShape) -> int | None:
    """Width of the codes of an autoencoder; None if it does not give back images of that shape."""
    try:
        codes = autoencoder.encode(torch.zeros(1, *image_shape))
        fits = autoencoder.decode(codes).shape[1:] == torch.Size(image_shape)
    except RuntimeError:
        return None
    return codes.shape[1] if fits else None
