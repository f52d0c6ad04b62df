"""Samples of a hue."""

import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from genlab.metrics import ColorAgreement, ColorCount, hue_distance
from lit_models.common.capabilities import LatentBlock


class Cells(Protocol):
    """One part of the codes, cut into C cells."""

    cell: Tensor
    """The cell of each code, int64, N."""

    def draw(self, cells: Tensor) -> Tensor:
        """The part's columns of a new code out of each of these cells, int64, n: n x width."""


class ClusterCells:
    """Real numbers in the clusters of a Gaussian mixture of the first half of the codes, whose components draw."""

    def __init__(self, codes: Tensor, clusters: int, seed: int) -> None:
        from sklearn.exceptions import ConvergenceWarning  # a second of imports
        from sklearn.mixture import GaussianMixture

        self.scale = codes.double().std(dim=0).max().clamp(min=1e-12)  # the mixture's least variance is relative to it
        scaled = (codes / self.scale).double().numpy()
        fitted = scaled[: len(scaled) // 2]
        components = max(1, min(clusters, len(fitted) // 10))
        # Roughly fitted clusters do: they only cut the space, and each draws from its own mean and covariance.
        mixture = GaussianMixture(components, init_params="k-means++", max_iter=10, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(fitted)
        self.cell = torch.from_numpy(mixture.predict(scaled))
        self.means = torch.from_numpy(mixture.means_)
        self.factors = torch.linalg.cholesky(torch.from_numpy(mixture.covariances_))

    def draw(self, cells: Tensor) -> Tensor:
        noise = torch.randn(len(cells), self.means.shape[1], 1, dtype=self.means.dtype)
        return (self.scale * (self.means[cells] + (self.factors[cells] @ noise)[..., 0])).float()


class CombinationCells:
    """Categorical variables in the combinations that occur."""

    def __init__(self, codes: Tensor, categories: int) -> None:
        self.categories = categories
        picked = codes.unflatten(1, (-1, categories)).argmax(dim=2)  # (N, variables)
        self.combinations, self.cell = picked.unique(dim=0, return_inverse=True)

    def draw(self, cells: Tensor) -> Tensor:
        return F.one_hot(self.combinations[cells], self.categories).flatten(1).float()


@dataclass
class Region:
    """Where in the latent space a hue is asked for."""

    part: LatentBlock
    cells: Cells
    weights: Tensor
    """How often each cell is drawn, in proportion, C."""
    purity: Tensor
    """Share of its training images that have the hue."""

    def draw(self, model: Any, n: int) -> Tensor:
        """Codes for `model.decode`, n x d; columns of other parts are the prior's."""
        codes = model.sample_prior(n)
        drawn = self.cells.draw(torch.multinomial(self.weights, n, replacement=True))
        codes[:, self.part.start : self.part.stop] = drawn.to(codes)
        return codes


@dataclass
class ColorControlResult:
    """What became of the hues asked for."""

    count: ColorCount
    purity: Tensor
    """Share of the regions' training images that have the hue, a mean over the hues."""
    images: Tensor
    """The first few samples of each hue, K x columns x 3 x H x W, on the CPU."""


def choose_regions(
    codes: Tensor,
    hues: Tensor,
    parts: list[LatentBlock],
    references: Tensor,
    *,
    clusters: int = 200,
    mass: float = 0.02,
    tolerance: float = 20.0,
    seed: int = 0,
) -> list[Region]:
    """The region of each reference hue, K, by codes in random order, N x d, and their images' hues, N."""
    near = hue_distance(hues[:, None], references) <= tolerance  # (N, K)
    chance = min(1.0, 2 * tolerance / 360)
    candidates = []
    for part in parts:
        columns = codes[:, part.start : part.stop]
        cells: Cells = (
            ClusterCells(columns, clusters, seed)
            if part.kind == "continuous"
            else CombinationCells(columns, part.categories)
        )
        weights, purity = best_cells(cells.cell, near, chance, mass)
        candidates.append([Region(part, cells, weights[k], purity[k]) for k in range(len(references))])
    return [max(of_hue, key=lambda region: float(region.purity)) for of_hue in zip(*candidates, strict=True)]


def best_cells(cell: Tensor, near: Tensor, chance: float, mass: float) -> tuple[Tensor, Tensor]:
    """The cells that are best at each hue, chosen by the first half of the codes and rated by the second.

    Args:
        cell: of each code, int64, N.
        near: whether its image has the hue, bool, N x K.
        chance: share of images that have a hue.
        mass: share of the codes that the cells chosen for a hue hold together, at least.

    Returns:
        weights: codes in each cell that was chosen, and 0 in the others, K x C.
        purity: share of codes that have the hue among those in chosen cells, K; chance where there are none.
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
    """Asks the model for `samples` images out of each hue's region."""
    metric = ColorAgreement(references.tolist(), tolerance).to(model.device)
    shown = []
    for region, hue in zip(regions, references, strict=True):
        images = model.decode(region.draw(model, samples).to(model.device, model.dtype)).float()
        metric.update(images, hue.to(model.device).expand(samples))
        shown.append(images[:columns].cpu())
    purity = torch.stack([region.purity for region in regions]).mean()
    return ColorControlResult(metric.compute(), purity, torch.stack(shown))
