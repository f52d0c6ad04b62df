"""Each p-value must exceed 1e-6, so that a correct distribution fails once in a million seeds; the seeds are fixed."""

from pathlib import Path

import pytest
import torch
from scipy import stats

from datamodules import MNISTDataModule, NoisyMNISTDataModule, counter_rng
from lit_models.common.corruptions import GaussianNoise

LEAST_P = 1e-6


def noisy(value: float, strength: float, epoch: int = 0, n: int = 200) -> torch.Tensor:
    """Sources of images of one grey."""
    images = torch.full((n, 1, 28, 28), value)
    transform = NoisyMNISTDataModule(seed=0, noise=strength).batch_transform("train")
    return transform(images, torch.zeros(n, dtype=torch.int64), torch.arange(n), epoch)[0]


def test_noise_is_normal_where_nothing_is_clipped():
    e = (noisy(0.5, 0.05) - 0.5) / 0.05
    assert stats.kstest(e.flatten().numpy(), "norm").pvalue > LEAST_P
    assert e.shape == (200, 1, 28, 28)


def test_each_pixel_has_noise_of_its_own_and_another_in_each_epoch():
    a, b = ((noisy(0.5, 0.05, epoch) - 0.5) / 0.05 for epoch in (0, 1))
    for other in (b, a.roll(1, 0), a.roll(1, 2), a.roll(1, 3)):
        assert stats.pearsonr(a.flatten().numpy(), other.flatten().numpy()).pvalue > LEAST_P


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_the_distribution_is_that_of_the_denoising_models_corruption(value: float):
    """The shares of 0 and 1 from clipping are compared with the normal distribution, the rest by a two-sample test."""
    n = 200 * 784
    ours = noisy(value, 0.5).flatten()
    theirs = GaussianNoise(0.5)(torch.full((n,), value), torch.Generator().manual_seed(0))
    assert ours.min() == 0 and ours.max() == 1
    assert stats.ks_2samp(ours.numpy(), theirs.numpy()).pvalue > LEAST_P
    for count, share in (
        ((ours == 0).sum(), stats.norm.cdf(-value / 0.5)),
        ((ours == 1).sum(), stats.norm.sf((1 - value) / 0.5)),
    ):
        assert stats.binomtest(int(count), n, float(share)).pvalue > LEAST_P


def test_normal_numbers_are_finite_for_all_uniform_numbers(monkeypatch: pytest.MonkeyPatch):
    """Of all multiples of 2^-24 below 1 the first and the last give the largest numbers, one the other's negative."""
    ends = torch.tensor([[0.0, 1 - 2.0**-24, 0.5 - 2.0**-24, 0.5]])
    monkeypatch.setattr(counter_rng, "uniform", lambda *_: ends.clone())
    low, high, below, above = counter_rng.normal(0, 0, torch.arange(1), 4)[0].tolist()
    assert low == -high and high == pytest.approx(stats.norm.isf(2.0**-25), rel=1e-5)
    assert below == -above and above == pytest.approx(stats.norm.isf(0.5 - 2.0**-25), rel=1e-5)


def test_targets_are_the_images_and_the_baseline_is_the_source(data_root: Path):
    options = {"root": str(data_root), "val_size": 50, "seed": 0}
    data = NoisyMNISTDataModule(**options)
    for split in ("train", "val", "test"):
        source, target, labels = data.pairs(split, 100)
        clean, digits = MNISTDataModule(**options).examples(split, 100)
        assert torch.equal(target, clean) and labels is not None and torch.equal(labels, digits)
        assert data.baseline(source) is source and data.source_shape == data.image_shape


def test_no_noise_leaves_images_as_they_are(data_root: Path):
    source, target, _ = NoisyMNISTDataModule(str(data_root), val_size=50, noise=0).pairs("test", 100)
    assert torch.equal(source, target)


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
def test_impossible_noise_is_refused(strength: float):
    with pytest.raises(ValueError, match="data.noise is .*; give a finite number of at least 0"):
        NoisyMNISTDataModule(noise=strength)
