"""Gradient penalties of a discriminator.

The gradient is of D's raw output, or of its mean if D has an output for each patch, and its norm is over all pixels of
an image. It is computed in single precision under autocast, as second derivatives overflow half precision.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """E[(|grad D(x^)| - 1)^2] at x^ = a x + (1 - a) G(z), a uniform on [0, 1] for each image.

    Gulrajani et al. 2017, arXiv 1704.00028, eq. 3.

    Args:
        discriminator: Function of images, N x C x H x W, to outputs, N or N x h x w, each of one image alone.
        real: Real images, N x C x H x W.
        fake: Generated images, N x C x H x W.
    """
    dtype = torch.float32 if torch.is_autocast_enabled(real.device.type) else real.dtype
    share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=dtype)
    between = torch.lerp(fake.detach().to(dtype), real.to(dtype), share)
    norm = _squared_norms(discriminator, between).add(1e-12).sqrt()  # the root has no slope at zero
    return (norm - 1).square().mean()


def zero_centred_gradient_penalty(discriminator: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """E[|grad D(x)|^2]: R1 on real images, R2 on generated ones (Mescheder et al. 2018, arXiv 1801.04406, eq. 9, 10).

    Args:
        discriminator: Function of images, N x C x H x W, to outputs, N or N x h x w, each of one image alone.
        images: Real or generated images, N x C x H x W.
    """
    return _squared_norms(discriminator, images).mean()


def _squared_norms(discriminator: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """|grad D(x)|^2 of each image: N x C x H x W -> N."""
    dtype = torch.float32 if torch.is_autocast_enabled(images.device.type) else images.dtype
    images = images.detach().to(dtype).requires_grad_()
    with torch.autocast(images.device.type, enabled=False), torch.enable_grad():
        outputs = discriminator(images)
        means = outputs.reshape(len(outputs), -1).mean(dim=1)
        [gradient] = torch.autograd.grad(means.sum(), images, create_graph=True)
    return gradient.flatten(1).float().square().sum(dim=1)
