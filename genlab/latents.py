"""Latent codes of many images: encoding, decoding, what their columns mean, and new codes."""

import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor
from torch.nn import functional as F

from genlab.devices import float64_device
from lit_models.common.capabilities import Decodes, HasLatentBlocks, LatentBlock
from lit_models.common.priors import Normal


@torch.no_grad()
def encode_all(model: Any, images: Tensor, batch_size: int = 500) -> Tensor:
    """Codes of many images, batch by batch: N x d, float32."""
    return torch.cat([model.encode(batch.to(model.device, model.dtype)).float() for batch in images.split(batch_size)])


@torch.no_grad()
def decode_all(model: Any, codes: Tensor, batch_size: int = 500) -> Tensor:
    """Images of many codes, N x d, batch by batch: N x C x H x W, float32, on the CPU."""
    batches = codes.split(batch_size)
    return torch.cat([model.decode(batch.to(model.device, model.dtype)).float().cpu() for batch in batches])


def encode_test_images(trainer: Trainer, model: Any, n: int) -> Tensor:
    """Codes of this process' share of n test images, always the same ones, where there is float64: N x d, float32."""
    images, _ = trainer.datamodule.examples("test", n)  # type: ignore[attr-defined]
    codes = encode_all(model, images[trainer.global_rank :: trainer.world_size])
    return codes.to(float64_device(codes.device))


def latent_blocks(model: object, width: int) -> list[LatentBlock]:
    """What the columns of a model's codes mean: real numbers, unless it says otherwise."""
    return model.latent_blocks() if isinstance(model, HasLatentBlocks) else [LatentBlock("continuous", 0, width)]


def has_normal_prior(model: object) -> bool:
    """Whether the real numbers of a model's codes are standard normal a priori; they are unless it says otherwise."""
    return isinstance(model, HasLatentBlocks) and isinstance(getattr(model, "prior", None), Normal | None)


def class_block(model: object) -> LatentBlock | None:
    """The one-hot class at the end of a model's codes; None where they end in no class that it can be asked for."""
    classes = getattr(model, "num_classes", None)
    if classes is None or not isinstance(model, HasLatentBlocks) or not isinstance(model, Decodes):
        return None
    last = model.latent_blocks()[-1]
    return last if (last.kind, last.variables, last.categories) == ("categorical", 1, classes) else None


def with_class(codes: Tensor, part: LatentBlock, classes: Tensor) -> Tensor:
    """Copies of codes, N x d, that end in these classes, int64, N."""
    one_hot = F.one_hot(classes.to(codes.device), part.categories).to(codes)
    return torch.cat([codes[:, : part.start], one_hot], dim=1)


def with_every_class(codes: Tensor, part: LatentBlock) -> Tensor:
    """Each code, N x d, with each of the K classes in turn: N K x d."""
    classes = torch.arange(part.categories).repeat(len(codes))
    return with_class(codes.repeat_interleave(part.categories, dim=0), part, classes)


def sample_gaussian_mixture(codes: Tensor, parts: list[LatentBlock], components: int, n: int, seed: int = 0) -> Tensor:
    """n draws, n x d, on the CPU, of a mixture of Gaussians with full covariances fitted to codes, N x d; seeded.

    Columns are brought to one scale before, so that dimensions of any size are fitted alike. One-hot columns are fitted
    along, and the largest of a block is taken.
    """
    from sklearn.exceptions import ConvergenceWarning  # a second of imports
    from sklearn.mixture import GaussianMixture

    codes = codes.cpu()
    mean, scale = codes.mean(dim=0), codes.std(dim=0, correction=0).clamp(min=1e-6)
    mixture: Any = GaussianMixture(min(components, len(codes)), reg_covar=1e-5, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(((codes - mean) / scale).double().numpy())
    by_component = torch.from_numpy(mixture.sample(n)[0]).float()
    drawn = by_component[torch.randperm(n, generator=torch.Generator().manual_seed(seed))] * scale + mean
    for part in parts:
        if part.kind == "categorical":
            blocks = drawn[:, part.start : part.stop].unflatten(1, (-1, part.categories))
            chosen = torch.nn.functional.one_hot(blocks.argmax(dim=2), part.categories)
            drawn[:, part.start : part.stop] = chosen.flatten(1).float()
    return drawn


def enumerate_codes(
    parts: list[LatentBlock], batch_size: int = 1000, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """Codes of all combinations of categories, one-hot, in batches: at most batch_size x d, float32, on `device`.

    The last variable changes fastest, as in a number's digits; columns of real numbers are 0. No more than a batch is
    ever in memory.

    Raises:
        ValueError: no part is categorical, or there are more combinations than int64 counts.
    """
    sizes = category_counts(parts)
    total = math.prod(sizes)
    if not sizes or total >= 2**63:
        raise ValueError(f"{len(sizes)} categorical variables have {total} combinations, which cannot be enumerated")
    for start in range(0, total, batch_size):
        numbers = torch.arange(start, min(start + batch_size, total), device=device)
        yield one_hot_codes(parts, combinations(numbers, sizes))


def random_codes(
    parts: list[LatentBlock], count: int, batch_size: int = 1000, device: torch.device | str = "cpu", seed: int = 0
) -> Iterator[Tensor]:
    """Codes of `count` random combinations of categories, as `enumerate_codes` makes them; repeats may occur."""
    generator = torch.Generator(device).manual_seed(seed)
    sizes = torch.tensor(category_counts(parts), device=device)
    for start in range(0, count, batch_size):
        number = min(batch_size, count - start)
        uniform = torch.rand(number, len(sizes), generator=generator, device=device, dtype=torch.float32)
        yield one_hot_codes(parts, (uniform * sizes).long().minimum(sizes - 1))


def category_counts(parts: list[LatentBlock]) -> list[int]:
    """The number of categories of each categorical variable, in the order of the code's columns."""
    return [part.categories for part in parts if part.kind == "categorical" for _ in range(part.variables)]


def combinations(numbers: Tensor, sizes: list[int]) -> Tensor:
    """The digits of numbers, N, in the mixed radix `sizes`, most significant first: int64 N x len(sizes)."""
    digits = []
    for size in reversed(sizes):
        digits.append(numbers % size)
        numbers = numbers // size
    return torch.stack(digits[::-1], dim=1)


def one_hot_codes(parts: list[LatentBlock], categories: Tensor) -> Tensor:
    """Codes, N x d, float32, of categories, int64 N x variables: one-hot; columns of real numbers are 0."""
    columns, variable = [], 0
    for part in parts:
        if part.kind == "continuous":
            columns.append(torch.zeros(len(categories), part.variables, device=categories.device))
            continue
        chosen = categories[:, variable : variable + part.variables]
        columns.append(F.one_hot(chosen, part.categories).flatten(1).float())
        variable += part.variables
    return torch.cat(columns, dim=1)
