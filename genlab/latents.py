"""Latent codes: encoding and decoding many images, the meaning of a code's columns, and ways to make codes."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules import ImageDataModule
from datamodules.base import Split
from genlab.finite import check_finite
from genlab.mixtures import fit_gaussian_mixture
from lit_models.common.capabilities import Decodes, HasLatentBlocks, LatentBlock
from lit_models.common.prior_distributions import NormalDistribution
from lit_models.common.priors import Normal
from lit_models.losses.classification import class_of

MAX_BATCH = 500
MAX_BATCH_PIXELS = 2**21
"""Largest number of pixels, without channels, of a batch of more than one image: 512 images of 64 x 64."""


def batch_size_of(model: Any) -> int:
    """Number of images that a model makes or encodes at once; fewer where they are large."""
    _, height, width = getattr(model, "hparams", {}).get("image_shape", (1, 1, 1))
    return max(1, min(MAX_BATCH, MAX_BATCH_PIXELS // (height * width)))


@torch.no_grad()
def encode_all(model: Any, images: Tensor) -> Tensor:
    """Encodes many images in batches: N x C x H x W -> N x d, float32."""
    batches = images.split(batch_size_of(model))
    return torch.cat([model.encode(batch.to(model.device, model.dtype)).float() for batch in batches])


@torch.no_grad()
def decode_all(model: Any, codes: Tensor) -> Tensor:
    """Decodes many codes in batches: N x d -> N x C x H x W, float32, on the CPU."""
    batches = codes.split(batch_size_of(model))
    return torch.cat([model.decode(batch.to(model.device, model.dtype)).float().cpu() for batch in batches])


def encode_examples(
    model: Any, data: ImageDataModule, split: Split, n: int, part: slice = slice(None), label: int | None = None
) -> Tensor:
    """Encodes `n` images of a split, or all if it has fewer, of which only a batch is in memory: N x d, float32.

    Args:
        model: A model that encodes.
        data: The images, those of `data.examples(split, n)`.
        split: Split of the images.
        n: Number of images.
        part: Part of the `n` images to encode, such as one process's share.
        label: Class of the images to encode; all classes by default.
    """
    codes = []
    for images, labels in data.example_batches(split, n, batch_size_of(model), part):
        chosen = images if label is None else images[class_of(labels) == label]
        if len(chosen):
            codes.append(encode_all(model, chosen))
    return torch.cat(codes) if codes else torch.empty(0, 0)


def dimension_name(column: int) -> str:
    """The name of a column of a model's codes in all pictures: z1 is the first."""
    return f"z{column + 1}"


def latent_blocks(model: object, width: int) -> list[LatentBlock]:
    """The blocks of a model's codes; a single block of real numbers for a model that does not tell."""
    return model.latent_blocks() if isinstance(model, HasLatentBlocks) else [LatentBlock("continuous", 0, width)]


def has_normal_prior(model: object) -> bool:
    """Whether the real numbers of a model's codes have a standard normal prior."""
    return isinstance(model, HasLatentBlocks) and isinstance(
        getattr(model, "prior", None), Normal | NormalDistribution | None
    )


def class_block(model: object) -> LatentBlock | None:
    """The one-hot class at the end of a class-conditional model's codes; None for other models."""
    block, num_classes = category_block(model), getattr(model, "num_classes", None)
    return block if block is not None and block.categories == num_classes else None


def category_block(model: object) -> LatentBlock | None:
    """The last columns of a model's codes if they are a single categorical variable beside others, else None."""
    if not isinstance(model, HasLatentBlocks) or not isinstance(model, Decodes):
        return None
    last = model.latent_blocks()[-1]
    return last if last.kind == "categorical" and last.num_variables == 1 and last.start > 0 else None


def with_class(codes: Tensor, block: LatentBlock, classes: Tensor) -> Tensor:
    """Copies codes, N x d, whose last block is a class, and sets these classes, int64, N."""
    one_hot = F.one_hot(classes.to(codes.device), block.categories).to(codes)
    return torch.cat([codes[:, : block.start], one_hot], dim=1)


def with_every_class(codes: Tensor, block: LatentBlock) -> Tensor:
    """Copies each code, N x d, once for each of the K classes: N K x d, the class changing fastest."""
    classes = torch.arange(block.categories).repeat(len(codes))
    return with_class(codes.repeat_interleave(block.categories, dim=0), block, classes)


def sample_gaussian_mixture(codes: Tensor, blocks: list[LatentBlock], components: int, n: int, seed: int = 0) -> Tensor:
    """Fits a mixture of Gaussians with full covariances to codes, N x d, and samples n codes of it, n x d, on the CPU.

    Columns are standardized first, so that dimensions of any scale are fitted equally well. One-hot columns are fitted
    as real numbers; in a sample, the largest column of a one-hot block becomes 1 and the others 0.

    Raises:
        NotFiniteError: A code is NaN or infinite.
    """
    codes = check_finite(codes.cpu(), "codes")
    mean, scale = codes.mean(dim=0), codes.std(dim=0, correction=0).clamp(min=1e-6)
    standardized = ((codes - mean) / scale).double().numpy()
    mixture = fit_gaussian_mixture(standardized, min(components, len(codes)), reg_covar=1e-5, random_state=seed)
    by_component = torch.from_numpy(mixture.sample(n)[0]).float()
    sampled = by_component[torch.randperm(n, generator=torch.Generator().manual_seed(seed))] * scale + mean
    for block in blocks:
        if block.kind == "categorical":
            columns = sampled[:, block.start : block.stop].unflatten(1, (-1, block.categories))
            one_hot = F.one_hot(columns.argmax(dim=2), block.categories)
            sampled[:, block.start : block.stop] = one_hot.flatten(1).float()
    return sampled


def enumerate_codes(
    blocks: list[LatentBlock], batch_size: int = 1000, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """Yields the codes of all combinations of categories in batches: at most batch_size x d, float32, on `device`.

    The last variable changes fastest, like the last digit of a number. Columns of real numbers are 0. Only one batch is
    in memory at a time.

    Raises:
        ValueError: No block is categorical, or there are more combinations than int64 holds.
    """
    sizes = category_counts(blocks)
    total = math.prod(sizes)
    if not sizes or total >= 2**63:
        raise ValueError(f"{len(sizes)} categorical variables have {total} combinations, which cannot be enumerated")
    for start in range(0, total, batch_size):
        numbers = torch.arange(start, min(start + batch_size, total), device=device)
        yield one_hot_codes(blocks, mixed_radix_digits(numbers, sizes))


def random_codes(
    blocks: list[LatentBlock], count: int, batch_size: int = 1000, device: torch.device | str = "cpu", seed: int = 0
) -> Iterator[Tensor]:
    """Yields codes of `count` random combinations of categories, as `enumerate_codes` does; some may repeat."""
    generator = torch.Generator(device).manual_seed(seed)
    sizes = torch.tensor(category_counts(blocks), device=device)
    for start in range(0, count, batch_size):
        number = min(batch_size, count - start)
        uniform = torch.rand(number, len(sizes), generator=generator, device=device, dtype=torch.float32)
        yield one_hot_codes(blocks, (uniform * sizes).long().minimum(sizes - 1))


def category_counts(blocks: list[LatentBlock]) -> list[int]:
    """The number of categories of each categorical variable, in the order of the code's columns."""
    return [block.categories for block in blocks if block.kind == "categorical" for _ in range(block.num_variables)]


def mixed_radix_digits(numbers: Tensor, sizes: list[int]) -> Tensor:
    """The digits of numbers, N, in the mixed radix `sizes`, most significant first: int64 N x len(sizes)."""
    digits = []
    for size in reversed(sizes):
        digits.append(numbers % size)
        numbers = numbers // size
    return torch.stack(digits[::-1], dim=1)


def one_hot_codes(blocks: list[LatentBlock], categories: Tensor) -> Tensor:
    """Codes, N x d, float32, of categories, int64 N x variables. Columns of real numbers are 0."""
    columns, variable = [], 0
    for block in blocks:
        if block.kind == "continuous":
            columns.append(torch.zeros(len(categories), block.num_variables, device=categories.device))
            continue
        chosen = categories[:, variable : variable + block.num_variables]
        columns.append(F.one_hot(chosen, block.categories).flatten(1).float())
        variable += block.num_variables
    return torch.cat(columns, dim=1)
