"""Images as float and as uint8 tensors."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lit_models import CheckpointError


def to_uint8(images: Tensor) -> Tensor:
    """Converts images in [0, 1] to uint8, on the CPU.

    Raises:
        CheckpointError: The images are not finite.
    """
    if not torch.isfinite(images).all():
        raise CheckpointError("the model's images are not finite; train it again")
    return images.float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu()


def to_float(images: Tensor) -> Tensor:
    """Converts uint8 images to floats in [0, 1]; floats stay as they are."""
    return images if images.is_floating_point() else images.float().div(255)


def to_picture(image: Tensor) -> Image.Image:
    """Converts an image, uint8 C x H x W with C 1 or 3, to a picture."""
    return Image.fromarray(np.ascontiguousarray(image[0] if len(image) == 1 else image.movedim(0, 2)))


def describe_shape(shape: Sequence[int]) -> str:
    """A shape in words, such as `3 x 32 x 32`."""
    return " x ".join(map(str, shape))
