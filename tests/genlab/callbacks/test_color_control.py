import math
from collections.abc import Callable
from pathlib import Path

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
from genlab.runs.folder import read_summary
from lit_models.common.capabilities import LatentBlock
from tests.helpers import fit

REFERENCES = torch.tensor([float(hue) for hue in REFERENCE_HUES.values()])
N = 20000


class Painter:
    """Paints the hue that a function finds in the code; its prior codes are those of random training images."""

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
    """Real codes: the hue as a point of a circle, with a third number that has nothing to do with it."""
    angle = torch.deg2rad(hues)
    return torch.stack([angle.cos(), angle.sin(), 0.1 * noise(len(hues), 1)[:, 0]], dim=1)


def angle_of(codes: Tensor) -> Tensor:
    return torch.rad2deg(torch.atan2(codes[:, 1], codes[:, 0])) % 360


def in_sectors(hues: Tensor) -> Tensor:
    """Two variables of six categories, which count the hue's tens of degrees."""
    sector = (hues / 10).long()
    return torch.cat([F.one_hot(sector // 6, 6), F.one_hot(sector % 6, 6)], dim=1).float()


def sector_of(codes: Tensor) -> Tensor:
    sector = 6 * codes[:, :6].argmax(dim=1) + codes[:, 6:12].argmax(dim=1)
    return 10.0 * sector + 5


def random_categories(n: int, variables: int = 3, categories: int = 20) -> Tensor:
    random = torch.Generator().manual_seed(2)
    return F.one_hot(torch.randint(categories, (n, variables), generator=random), categories).flatten(1).float()


def measured(codes: Tensor, parts: list[LatentBlock], hue_of: Callable[[Tensor], Tensor]) -> tuple[float, list[Region]]:
    torch.manual_seed(0)
    regions = choose_regions(codes, true_hues(len(codes)), parts, REFERENCES)
    return sample_hues(Painter(codes, hue_of), regions, REFERENCES, 500, 20.0, 4).count.agreement.item(), regions


def mean_purity(regions: list[Region]) -> float:
    return float(np.mean([float(region.purity) for region in regions]))


def test_a_painter_of_the_code_is_steered():
    agreement, regions = measured(on_circle(true_hues()), [LatentBlock("continuous", 0, 3)], angle_of)
    assert agreement >= 0.95 and mean_purity(regions) >= 0.95


def test_a_model_that_ignores_its_code_agrees_by_chance():
    """Chance is 1/9; of 5,000 samples, four standard deviations are 0.018, a false alarm in 16,000 seeds."""
    hues = torch.Generator().manual_seed(3)
    agreement, regions = measured(
        on_circle(true_hues()),
        [LatentBlock("continuous", 0, 3)],
        lambda codes: 360 * torch.rand(len(codes), generator=hues),
    )
    assert agreement == pytest.approx(1 / 9, abs=0.018) and mean_purity(regions) >= 0.95


def test_combinations_that_map_to_hues_agree_wholly():
    agreement, regions = measured(in_sectors(true_hues()), [LatentBlock("categorical", 0, 12, 6)], sector_of)
    assert agreement == 1.0 and mean_purity(regions) == 1.0


@pytest.mark.parametrize("kind", ["continuous", "categorical"])
def test_codes_without_the_hue_are_pure_by_chance_however_many_cells_there_are(kind: str):
    """8,000 combinations of 2.5 codes each. Of 10 x 200 rated codes, four standard deviations are 0.028."""
    codes = noise(N, 3) if kind == "continuous" else random_categories(N)
    part = LatentBlock("continuous", 0, 3) if kind == "continuous" else LatentBlock("categorical", 0, 60, 20)
    regions = choose_regions(codes, true_hues(), [part], REFERENCES)
    assert mean_purity(regions) == pytest.approx(41 / 360, abs=0.028)


def test_of_a_joint_code_the_part_that_tells_the_hue_is_used():
    hues = true_hues()
    codes = torch.cat([in_sectors(hues), noise(N, 2)], dim=1)
    parts = [LatentBlock("categorical", 0, 12, 6), LatentBlock("continuous", 12, 14)]
    agreement, regions = measured(codes, parts, sector_of)
    assert agreement == 1.0 and {region.part for region in regions} == {parts[0]}
    codes = torch.cat([on_circle(hues), random_categories(N)], dim=1)
    parts = [LatentBlock("continuous", 0, 3), LatentBlock("categorical", 3, 63, 20)]
    agreement, regions = measured(codes, parts, angle_of)
    assert agreement >= 0.95 and {region.part for region in regions} == {parts[0]}


def test_a_region_is_the_best_cells_up_to_its_mass_and_luck_is_no_merit():
    """Codes of the first half: 3 of 3 near in cell 0, 36 of 40 in cell 1, 30 of 40 in cell 2, 1 of 17 in cell 3."""
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


def test_a_region_that_no_rated_code_is_in_is_as_pure_as_chance():
    cell = torch.tensor([0, 0, 1, 1])
    near = torch.tensor([[True], [True], [False], [False]])
    weights, purity = best_cells(cell, near, 0.25, 0.5)
    assert weights.tolist() == [[2, 0]] and purity.tolist() == [0.25]


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e6])
def test_codes_of_any_scale_and_on_few_points_are_cut(scale: float):
    """A collapsed code is one point; four points have no spread."""
    codes = scale * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).repeat(100, 1)
    clusters = ClusterCells(codes, 20, seed=0)
    assert torch.allclose(clusters.draw(clusters.cell), codes, atol=0.01 * scale + 1e-12)


def test_clusters_draw_from_their_own_normal_law():
    codes = noise(20000, 3) @ torch.diag(torch.tensor([1.0, 0.3, 2]))
    codes[::2] += 30
    clusters = ClusterCells(codes, 2, seed=0)
    torch.manual_seed(0)
    drawn = clusters.draw(clusters.cell[::2].repeat(5))
    assert np.allclose(drawn.mean(dim=0), codes[:10000:2].mean(dim=0), atol=0.05)
    assert np.allclose(np.cov(drawn.T), np.cov(codes[:10000:2].T), atol=0.06)


def test_combinations_draw_the_very_codes():
    codes = random_categories(500)
    combinations = CombinationCells(codes, 20)
    assert torch.equal(combinations.draw(combinations.cell), codes)


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


def test_a_model_whose_images_are_no_numbers_agrees_with_nothing():
    agreement, _ = measured(on_circle(true_hues(500)), [LatentBlock("continuous", 0, 3)], lambda codes: codes[:, 0] / 0)
    assert agreement == 0


VAE = ["--config=configs/vae_colored_mnist.yaml", "--model.networks.hidden_dims=[16]", "--trainer.max_epochs=1"]


@pytest.mark.parametrize("law", ["Gaussian", "GumbelSoftmax", "Joint"])
def test_a_run_on_coloured_digits_logs_it_with_pictures_or_without(law: str, data_root: Path, tmp_path: Path):
    """The numbers are the same, and so are the weights: nothing is drawn from the run's own generator."""
    found = []
    for pictures in ("true", "false"):
        extra = [f"--run.pictures={pictures}", f"--run.name={pictures}", "--data.val_size=20"]
        folder = fit(tmp_path, *VAE, *extra, f"--model.latent_distribution={law}", f"--data.root={data_root}").folder
        assert (folder / "media" / "color_control.png").is_file() == (pictures == "true")
        assert (folder / "media" / "color_confusion.png").is_file() == (pictures == "true")
        metrics = read_summary(folder)["metrics"]
        found.append([metrics["test/color_agreement"], metrics["test/color_purity"]])
    assert found[0] == found[1] and all(0 <= share <= 1 and not math.isnan(share) for share in found[0])


@pytest.mark.parametrize(
    "args",
    [
        ["--config=configs/vae_mnist.yaml", "--data.val_size=20"],
        ["--config=configs/autoencoder_mnist.yaml", "--data=ColoredMNISTDataModule", "--data.val_size=20"],
        [*VAE, "--data.val_size=20", "--color_control.num_codes=0"],
    ],
    ids=["grey", "no_prior", "unwanted"],
)
def test_other_runs_log_nothing_of_it(args: list[str], data_root: Path, tmp_path: Path):
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--run.pictures=false"]
    folder = fit(tmp_path, *args, *short, f"--data.root={data_root}").folder
    assert not [name for name in read_summary(folder)["metrics"] if "color" in name]


def test_bad_options_are_one_line(data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for option, words in (("clusters=0", "clusters is 0"), ("tolerance=0", "tolerance is 0"), ("mass=2", "mass 2")):
        with pytest.raises(Exception, match=words):
            fit(tmp_path, *VAE, f"--color_control.{option}", f"--data.root={data_root}", "--data.val_size=20")
