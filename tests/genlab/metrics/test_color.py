import colorsys
import os

import numpy as np
import pytest
import torch
import torch.distributed as dist

from genlab.metrics import ColorAgreement, foreground_hue, hue_distance
from tests.preloaded import two_processes

REFERENCES = [36.0 * k for k in range(10)]


def painted(hues: torch.Tensor, saturation: float = 1.0, value: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Random grey figures on black in the given hues, by colorsys: N x 3 x 8 x 8."""
    random = torch.Generator().manual_seed(seed)
    grey = torch.rand(len(hues), 1, 8, 8, generator=random) * (torch.rand(8, 8, generator=random) < 0.4)
    grey[:, :, 4, 4] = 1
    colors = [colorsys.hsv_to_rgb(float(hue) / 360, saturation, value) for hue in hues]
    return grey * torch.tensor(colors)[:, :, None, None]


@pytest.mark.parametrize("saturation", [1.0, 0.4])
def test_the_hue_of_a_painted_figure_is_found(saturation: float):
    hues = torch.arange(360.0)
    found = foreground_hue(painted(hues, saturation, 0.9))
    assert found.min() >= 0 and found.max() < 360
    assert hue_distance(found, hues).max() < 0.01


def test_hue_equals_colorsys_of_the_weighted_mean():
    images = torch.rand(200, 3, 5, 5, generator=torch.Generator().manual_seed(1)) ** 8
    pixels = images.double().numpy()
    weights = pixels.max(axis=1, keepdims=True)
    means = (pixels * weights).sum(axis=(2, 3)) / weights.sum(axis=(2, 3))
    expected = []
    for mean in means:
        hue, saturation, value = colorsys.rgb_to_hsv(*mean)
        expected.append(360 * hue if saturation >= 0.25 and value >= 0.2 else np.nan)
    found = foreground_hue(images).double().numpy()
    assert 10 < np.isnan(found).sum() < 190  # both kinds are there
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_grey_black_and_broken_images_have_no_hue():
    red = torch.tensor([0.0])
    images = torch.cat(
        [
            painted(red, saturation=0.2),
            painted(red, value=0.1),
            torch.zeros(1, 3, 8, 8),
            torch.ones(1, 3, 8, 8),
            torch.full((1, 3, 8, 8), torch.nan),
            painted(red, saturation=0.3),
        ]
    )
    assert foreground_hue(images).isnan().tolist() == [True] * 5 + [False]


def test_a_faint_haze_of_another_hue_hardly_counts():
    image = torch.zeros(1, 3, 28, 28)
    image[:, 2] = 0.05  # blue everywhere
    image[:, :, 10:18, 10:18] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    assert hue_distance(foreground_hue(image), torch.tensor(0.0)).item() < 3


def test_a_hue_just_below_360_degrees_stays_below():
    image = torch.tensor([1.0, 0.0, 1e-9])[None, :, None, None].expand(1, 3, 4, 4)
    assert foreground_hue(image).tolist() == [0]


def test_images_of_one_channel_have_no_hue():
    with pytest.raises(ValueError, match="a hue needs N x 3 x H x W"):
        foreground_hue(torch.rand(2, 1, 8, 8))


def test_hue_distance_is_the_angle_between_points_on_a_circle():
    a = torch.arange(0, 360, 7.0)[:, None]
    b = torch.arange(0, 360, 11.0)
    cosine = torch.cos(torch.deg2rad((a - b).double()))
    assert torch.allclose(hue_distance(a, b).double(), torch.rad2deg(torch.acos(cosine)), atol=1e-4)


def test_agreement_counts_the_hues_within_the_tolerance():
    requested = torch.tensor(REFERENCES).repeat_interleave(41)
    offsets = torch.arange(-40.0, 41, 2).repeat(10)
    images = painted((requested + offsets) % 360)
    metric = ColorAgreement(REFERENCES, tolerance=21)
    for part in torch.arange(410).split(77):
        metric.update(images[part], requested[part])
    count = metric.compute()
    assert count.per_hue.tolist() == pytest.approx([21 / 41] * 10)  # -20, -18 .. 20
    assert count.agreement.item() == pytest.approx(21 / 41)


def test_confusion_has_the_nearest_hue_or_none():
    metric = ColorAgreement([0.0, 120.0, 240.0])
    images = torch.cat([painted(torch.tensor([350.0, 130.0, 70.0, 230.0])), torch.zeros(2, 3, 8, 8)])
    metric.update(images, torch.tensor([0, 0, 120, 120, 120, 0]))
    count = metric.compute()
    assert count.confusion.tolist() == [[1, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 0]]
    assert count.per_hue[:2].tolist() == pytest.approx([1 / 3, 0]) and count.per_hue[2].isnan()
    assert count.agreement.item() == pytest.approx(1 / 6)
    metric.reset()
    metric.update(painted(torch.tensor([240.0])), torch.tensor([240]))
    assert metric.compute().agreement == 1


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="200"):
        ColorAgreement(REFERENCES, tolerance=200)
    with pytest.raises(ValueError, match="reference_hues has 0 hues"):
        ColorAgreement([])
    with pytest.raises(ValueError, match="has 7 degrees, which is not one of reference_hues"):
        ColorAgreement(REFERENCES).update(torch.rand(2, 3, 8, 8), torch.tensor([36, 7]))


def _rank(rank: int, folder: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    images, requested = painted(torch.arange(0, 360, 6.0)), torch.tensor(REFERENCES).repeat(6)
    alone = ColorAgreement(REFERENCES)
    alone.update(images, requested)
    expected = alone.compute()
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    metric = ColorAgreement(REFERENCES)
    part = slice(0, 20) if rank == 0 else slice(20, None)
    metric.update(images[part], requested[part])
    assert all(torch.equal(a, b) for a, b in zip(metric.compute(), expected, strict=True))
    dist.destroy_process_group()


def test_two_ranks_count_together(tmp_path):
    two_processes(_rank, str(tmp_path))
