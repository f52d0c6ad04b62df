"""Measures how well a model's latent code controls the colour of its samples."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from genlab.metrics import ColorAgreement, ColorCount, hue_distance
from genlab.mixtures import fit_gaussian_mixture
from lit_models.common.capabilities import LatentBlock


class Cells(Protocol):
    """A partition of one block of the codes into C cells."""

    cell: Tensor
    """The cell of each code, int64, N."""

    def sample(self, cells: Tensor) -> Tensor:
        """Samples the block's columns of a new code in each of these cells, int64, n: n x width."""


class ClusterCells:
    """Clusters of real numbers: the components of a Gaussian mixture fitted to the first half of the codes.

    Args:
        codes: The block's columns of the codes, N x width.
        clusters: Number of components; fewer if there are less than ten codes for each.
        seed: Seed of the fit.
    """

    def __init__(self, codes: Tensor, clusters: int, seed: int) -> None:
        self.scale = codes.double().std(dim=0).max().clamp(min=1e-12)  # the mixture's least variance is relative to it
        scaled = (codes / self.scale).double().numpy()
        fitted = scaled[: len(scaled) // 2]
        components = max(1, min(clusters, len(fitted) // 10))
        # A rough fit suffices: the clusters only partition the space, and each is sampled from its own mean and
        # covariance.
        mixture = fit_gaussian_mixture(fitted, components, init_params="k-means++", max_iter=10, random_state=seed)
        self.cell = torch.from_numpy(mixture.predict(scaled))
        self.means = torch.from_numpy(mixture.means_)
        self.factors = torch.linalg.cholesky(torch.from_numpy(mixture.covariances_))

    def sample(self, cells: Tensor) -> Tensor:
        noise = torch.randn(len(cells), self.means.shape[1], 1, dtype=self.means.dtype)
        return (self.scale * (self.means[cells] + (self.factors[cells] @ noise)[..., 0])).float()


class CombinationCells:
    """Combinations of categories that occur in the codes.

    Args:
        codes: The block's columns of the codes, N x width.
        categories: Categories of each variable.
    """

    def __init__(self, codes: Tensor, categories: int) -> None:
        self.categories = categories
        chosen = codes.unflatten(1, (-1, categories)).argmax(dim=2)  # (N, variables)
        self.combinations, self.cell = chosen.unique(dim=0, return_inverse=True)

    def sample(self, cells: Tensor) -> Tensor:
        return F.one_hot(self.combinations[cells], self.categories).flatten(1).float()


@dataclass
class Region:
    """The region of the latent space from which codes of a hue are sampled."""

    block: LatentBlock
    cells: Cells
    weights: Tensor
    """The relative frequency at which each cell is sampled, C."""
    purity: Tensor
    """The share of the training images in the region that have the hue, a scalar."""

    def sample(self, model: Any, n: int) -> Tensor:
        """Samples codes for `model.decode`, n x d. The columns of other blocks are sampled from the prior."""
        codes = model.sample_prior(n)
        columns = self.cells.sample(torch.multinomial(self.weights, n, replacement=True))
        codes[:, self.block.start : self.block.stop] = columns.to(codes)
        return codes


@dataclass
class ColorControlResult:
    """Samples of each requested hue, and how many have it."""

    count: ColorCount
    purity: Tensor
    """The share of the regions' training images that have the hue, averaged over the hues; a scalar."""
    images: Tensor
    """The first samples of each hue, K x columns x 3 x H x W, on the CPU."""


def choose_regions(
    codes: Tensor,
    hues: Tensor,
    blocks: list[LatentBlock],
    references: Tensor,
    *,
    clusters: int = 200,
    mass: float = 0.02,
    tolerance: float = 20.0,
    seed: int = 0,
) -> list[Region]:
    """Chooses the region of each reference hue.

    Args:
        codes: Codes of training images in random order, N x d.
        hues: The hues of the images in degrees, N.
        blocks: What the columns of the codes mean.
        references: The K reference hues in degrees.
        clusters, mass, tolerance, seed: The arguments of the callback ColorControl.

    Returns:
        K regions. Of several blocks, each hue has the region of highest purity.
    """
    near = hue_distance(hues[:, None], references) <= tolerance  # (N, K)
    chance = min(1.0, 2 * tolerance / 360)
    candidates = []
    for block in blocks:
        columns = codes[:, block.start : block.stop]
        cells: Cells = (
            ClusterCells(columns, clusters, seed)
            if block.kind == "continuous"
            else CombinationCells(columns, block.categories)
        )
        weights, purity = best_cells(cells.cell, near, chance, mass)
        candidates.append([Region(block, cells, weights[k], purity[k]) for k in range(len(references))])
    return [max(of_hue, key=lambda region: float(region.purity)) for of_hue in zip(*candidates, strict=True)]


def best_cells(cell: Tensor, near: Tensor, chance: float, mass: float) -> tuple[Tensor, Tensor]:
    """Chooses the best cells for each hue by the first half of the codes, and measures them on the second half.

    Args:
        cell: The cell of each code, int64, N.
        near: Whether each image has each hue, bool, N x K.
        chance: The share of images with a hue if hues were uniform.
        mass: The least share of the codes in the cells that are chosen for a hue.

    Returns:
        weights: Number of codes in each chosen cell, and 0 for the others, K x C.
        purity: The share of the codes in chosen cells whose images have the hue, K; `chance` if there are none.
    """
    half = len(cell) // 2
    count = int(cell.max()) + 1
    sizes = torch.bincount(cell[:half], minlength=count).double()  # (C,)
    hits = torch.zeros(count, near.shape[1], dtype=torch.float64).index_add_(0, cell[:half], near[:half].double())
    share = (hits + 1) / (sizes[:, None] + 1 / chance)
    order = share.argsort(dim=0, descending=True, stable=True)  # (C, K)
    ranked = sizes[order]
    kept = ranked.cumsum(dim=0) - ranked < mass * half
    weights = torch.zeros_like(share).scatter_(0, order, ranked * kept)
    member = (weights > 0)[cell[half:]]  # (N / 2, K)
    members = member.sum(dim=0)
    purity = (member & near[half:]).sum(dim=0) / members
    return weights.T, torch.where(members > 0, purity, chance)


def sample_hues(
    model: Any, regions: list[Region], references: Tensor, samples: int, tolerance: float, columns: int
) -> ColorControlResult:
    """Samples `samples` images from the region of each hue and counts those that have the hue.

    Args:
        model: A model with `sample_prior` and `decode`.
        regions: The region of each hue.
        references: The hues in degrees, K.
        samples: Samples of each hue.
        tolerance: Largest difference from a hue in degrees.
        columns: Images of each hue that are returned.
    """
    metric = ColorAgreement(references.tolist(), tolerance).to(model.device)
    first = []
    for region, hue in zip(regions, references, strict=True):
        images = model.decode(region.sample(model, samples).to(model.device, model.dtype)).float()
        metric.update(images, hue.to(model.device).expand(samples))
        first.append(images[:columns].cpu())
    purity = torch.stack([region.purity for region in regions]).mean()
    return ColorControlResult(metric.compute(), purity, torch.stack(first))
