"""Small models of image-to-image translation, and image pairs for them."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules import BatchLoader
from lit_models import SRGAN, CycleGAN
from lit_models.common.discriminators import PatchDiscriminator
from lit_models.common.image_to_image_gan import ImageToImageGAN
from lit_models.common.translators import ResNetTranslator, UNetTranslator
from lit_models.common.upscalers import SRResNet
from tests.lit_models.adversaries import batches_of, sgd

ORDERS = ("joint", "alternating")
STEPS = {
    "joint": [("generator.ab", "generator.ba"), ("discriminator.a", "discriminator.b")],
    "alternating": [("discriminator.b",), ("generator.ab",), ("discriminator.a",), ("generator.ba",)],
}
"""The networks of each optimizer step on a batch."""
IMAGES, SIDE = 32, 12


def cyclegan(step_order: str = "joint", **options: Any) -> CycleGAN:
    """A small model whose networks treat each image alone."""
    torch.manual_seed(0)
    parts = {"generator": ResNetTranslator(2, 1), "discriminator": PatchDiscriminator(2, 1), "optimizer": sgd}
    shapes = {"source_shape": (1, SIDE, SIDE), "image_shape": (1, SIDE, SIDE)}
    return CycleGAN(**{**parts, **shapes, "step_order": step_order, "pool_size": 0, **options})


def one_way(kind: type[ImageToImageGAN], **options: Any) -> Any:
    """The same for the other models, except that SRGAN has batch norm."""
    torch.manual_seed(0)
    source = (1, SIDE // 2, SIDE // 2) if kind is SRGAN else (1, SIDE, SIDE)
    parts = {
        "generator": SRResNet(2, 1) if kind is SRGAN else UNetTranslator(2, 2, norm="instance"),
        "discriminator": PatchDiscriminator(2, 1),
        "optimizer": sgd,
        "source_shape": source,
        "image_shape": (1, SIDE, SIDE),
    }
    return kind(**{**parts, **options})


def loader(batch_size: int, rank: int = 0, world_size: int = 1, shrink: int = 1) -> BatchLoader:
    """Pairs of an image and its mirrored negative."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (IMAGES, 1, SIDE, SIDE), dtype=torch.uint8, generator=generator)

    def both(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        return F.avg_pool2d(images, shrink), 1 - images.flip(3)

    return batches_of(images, batch_size, rank, world_size, both)


def first_batch(precision: torch.dtype = torch.float64, shrink: int = 1) -> tuple[Tensor, Tensor]:
    a, b = next(iter(loader(8, shrink=shrink)))
    return a.to(precision), b.to(precision)
