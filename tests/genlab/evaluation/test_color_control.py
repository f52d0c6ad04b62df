from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.colored_mnist import REFERENCE_HUES, hue_to_rgb
from genlab.callbacks.color_control import samples_figure
from genlab.evaluation.color_control import (
    ClusterCells,
    ColorControlResult,
    CombinationCells,
    Region,
    best_cells,
    choose_regions,
    sample_hues,
)
from genlab.figures import hue_confusion_figure
from genlab.media import render
from lit_models.common.capabilities import LatentBlock

REFERENCES = torch.tensor([float(hue) for hue in REFERENCE_HUES.values()])
N = 20000


class Painter:
    """Decodes a code to the hue that a function computes of it; its prior consists of given codes."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, codes: Tensor, hue_of: Callable[[Tensor], Tensor]) -> None:
        self.codes = codes
        self.hue_of = hue_of

    def sample_prior(self, n: int) -> Tensor:
        return self.codes[torch.randint(len(self.codes), (n,))]

    def decode(self, codes: Tensor) -> Tensor:
        return hue_to_rgb(self.hue_of(codes))[:, :, None, None].expand(-1, -1, 4, 4) * 0.8


def true_hues(n: int = N) -> Tensor:
    return torch.randint(360, (n,), generator=torch.Generator().manual_seed(0)).float()


def noise(n: int, width: int, seed: int = 1) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def on_circle(hues: Tensor) -> Tensor:
    """Real codes: the hue as a point on a circle, and a third number that is independent of it."""
    angle = torch.deg2rad(hues)
    return torch.stack([angle.cos(), angle.sin(), 0.1 * noise(len(hues), 1)[:, 0]], dim=1)


def angle_of(codes: Tensor) -> Tensor:
    return torch.rad2deg(torch.atan2(codes[:, 1], codes[:, 0])) % 360


def in_sectors(hues: Tensor) -> Tensor:
    """Two variables of six categories: the number of the hue's sector of ten degrees."""
    sector = (hues / 10).long()
    return torch.cat([F.one_hot(sector // 6, 6), F.one_hot(sector % 6, 6)], dim=1).float()


def sector_of(codes: Tensor) -> Tensor:
    sector = 6 * codes[:, :6].argmax(dim=1) + codes[:, 6:12].argmax(dim=1)
    return 10.0 * sector + 5


def random_categories(n: int, variables: int = 3, categories: int = 20) -> Tensor:
    random = torch.Generator().manual_seed(2)
    return F.one_hot(torch.randint(categories, (n, variables), generator=random), categories).flatten(1).float()


def measured(
    codes: Tensor, blocks: list[LatentBlock], hue_of: Callable[[Tensor], Tensor]
) -> tuple[float, list[Region]]:
    torch.manual_seed(0)
    regions = choose_regions(codes, true_hues(len(codes)), blocks, REFERENCES)
    return sample_hues(Painter(codes, hue_of), regions, REFERENCES, 500, 20.0, 4).count.agreement.item(), regions


def mean_purity(regions: list[Region]) -> float:
    return float(np.mean([float(region.purity) for region in regions]))


def test_hues_of_continuous_codes_are_controlled():
    agreement, regions = measured(on_circle(true_hues()), [LatentBlock("continuous", 0, 3)], angle_of)
    assert agreement >= 0.95 and mean_purity(regions) >= 0.95


def test_a_model_that_ignores_its_code_agrees_by_chance():
    """Chance is 1/9. Four standard deviations of 5,000 samples are 0.018: one failure in 16,000 seeds."""
    hues = torch.Generator().manual_seed(3)
    agreement, regions = measured(
        on_circle(true_hues()),
        [LatentBlock("continuous", 0, 3)],
        lambda codes: 360 * torch.rand(len(codes), generator=hues),
    )
    assert agreement == pytest.approx(1 / 9, abs=0.018) and mean_purity(regions) >= 0.95


def test_hues_of_categorical_codes_are_controlled():
    agreement, regions = measured(in_sectors(true_hues()), [LatentBlock("categorical", 0, 12, 6)], sector_of)
    assert agreement == 1.0 and mean_purity(regions) == 1.0


@pytest.mark.parametrize("kind", ["continuous", "categorical"])
def test_purity_of_codes_without_the_hue_is_chance_for_any_number_of_cells(kind: str):
    """8,000 combinations of 2.5 codes each. Four standard deviations of 10 x 200 codes are 0.028."""
    codes = noise(N, 3) if kind == "continuous" else random_categories(N)
    part = LatentBlock("continuous", 0, 3) if kind == "continuous" else LatentBlock("categorical", 0, 60, 20)
    regions = choose_regions(codes, true_hues(), [part], REFERENCES)
    assert mean_purity(regions) == pytest.approx(41 / 360, abs=0.028)


def test_the_block_that_determines_the_hue_is_used():
    hues = true_hues()
    codes = torch.cat([in_sectors(hues), noise(N, 2)], dim=1)
    blocks = [LatentBlock("categorical", 0, 12, 6), LatentBlock("continuous", 12, 14)]
    agreement, regions = measured(codes, blocks, sector_of)
    assert agreement == 1.0 and {region.block for region in regions} == {blocks[0]}
    codes = torch.cat([on_circle(hues), random_categories(N)], dim=1)
    blocks = [LatentBlock("continuous", 0, 3), LatentBlock("categorical", 3, 63, 20)]
    agreement, regions = measured(codes, blocks, angle_of)
    assert agreement >= 0.95 and {region.block for region in regions} == {blocks[0]}


def test_regions_hold_the_best_cells_up_to_their_mass():
    """In the first half, cell 0 has 3 of 3 codes with the hue, cell 1 36 of 40, cell 2 30 of 40, cell 3 1 of 17."""
    cell = torch.tensor([0] * 3 + [1] * 40 + [2] * 40 + [3] * 17)
    near = torch.tensor([1] * 3 + [1] * 36 + [0] * 4 + [1] * 30 + [0] * 10 + [1] + [0] * 16).bool()[:, None]
    rated = torch.tensor([1] * 8 + [2] * 12 + [3] * 80)
    rated_near = torch.tensor([1] * 6 + [0] * 2 + [1] * 4 + [0] * 8 + [1] * 80).bool()[:, None]
    cells, nears = torch.cat([cell, rated]), torch.cat([near, rated_near])
    for mass, weights, purity in (
        (0.02, [0, 40, 0, 0], 6 / 8),
        (0.4, [0, 40, 0, 0], 6 / 8),
        (0.5, [0, 40, 40, 0], 10 / 20),
        (0.81, [3, 40, 40, 0], 10 / 20),
    ):
        found, rate = best_cells(cells, nears, 1 / 9, mass)
        assert found.tolist() == [weights] and rate.item() == pytest.approx(purity)


def test_purity_of_a_region_without_held_out_codes_is_chance():
    cell = torch.tensor([0, 0, 1, 1])
    near = torch.tensor([[True], [True], [False], [False]])
    weights, purity = best_cells(cell, near, 0.25, 0.5)
    assert weights.tolist() == [[2, 0]] and purity.tolist() == [0.25]


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e6])
def test_clusters_of_codes_of_any_scale_and_few_points(scale: float):
    """A scale of 0 is a collapsed code, and four points have no spread."""
    codes = scale * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).repeat(100, 1)
    clusters = ClusterCells(codes, 20, seed=0)
    assert torch.allclose(clusters.sample(clusters.cell), codes, atol=0.01 * scale + 1e-12)


def test_clusters_sample_their_own_normal_distribution():
    codes = noise(20000, 3) @ torch.diag(torch.tensor([1.0, 0.3, 2]))
    codes[::2] += 30
    clusters = ClusterCells(codes, 2, seed=0)
    torch.manual_seed(0)
    drawn = clusters.sample(clusters.cell[::2].repeat(5))
    assert np.allclose(drawn.mean(dim=0), codes[:10000:2].mean(dim=0), atol=0.05)
    assert np.allclose(np.cov(drawn.T), np.cov(codes[:10000:2].T), atol=0.06)


def test_combinations_sample_the_original_codes():
    codes = random_categories(500)
    combinations = CombinationCells(codes, 20)
    assert torch.equal(combinations.sample(combinations.cell), codes)


def test_images_that_are_not_finite_agree_with_nothing():
    agreement, _ = measured(on_circle(true_hues(500)), [LatentBlock("continuous", 0, 3)], lambda codes: codes[:, 0] / 0)
    assert agreement == 0


def test_figures_show_names_and_shares():
    count = sample_hues(
        Painter(torch.zeros(1, 3), angle_of),
        choose_regions(on_circle(true_hues(2000)), true_hues(2000), [LatentBlock("continuous", 0, 3)], REFERENCES),
        REFERENCES,
        20,
        20.0,
        4,
    )
    assert isinstance(count, ColorControlResult) and count.images.shape == (10, 4, 3, 4, 4)
    figure = samples_figure(count, REFERENCE_HUES)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()][2].startswith("yellow  ")
    assert render(figure).width > 300
    labels = hue_confusion_figure(count.count, list(REFERENCE_HUES)).axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == [*REFERENCE_HUES, "none"]
