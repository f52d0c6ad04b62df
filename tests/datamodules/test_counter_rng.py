"""The hash of (seed, epoch, image, column) as a source of uniform numbers.

Each p-value is held above 1e-6, so that a test of a perfect source would fail once in a million seeds; the seeds are
fixed, so these either always pass or always fail.
"""

import numpy as np
import pytest
import torch
from scipy import stats

from datamodules.counter_rng import integers, uniform

LEAST_P = 1e-6
IMAGES = torch.arange(2000)


def independent(a: torch.Tensor, b: torch.Tensor) -> float:
    """The p-value of a chi-squared test on a table of 16 x 16 cells."""
    table = np.histogram2d(a.flatten().numpy(), b.flatten().numpy(), bins=16, range=[[0, 1], [0, 1]])[0]
    return float(stats.chisquare(table.flatten()).pvalue)


def draws(**changed: int) -> torch.Tensor:
    """float32, 2000 x 100."""
    return uniform(**{"seed": 3, "epoch": 5, "count": 100, **changed}, index=IMAGES)


@pytest.mark.parametrize("seed", [0, 1, -4, 2**40])
@pytest.mark.parametrize("epoch", [0, 1, 1000])
def test_they_are_uniform(seed: int, epoch: int):
    assert stats.kstest(draws(seed=seed, epoch=epoch).flatten().numpy(), "uniform").pvalue > LEAST_P
    assert stats.kstest(draws(seed=seed, epoch=epoch, count=1).flatten().numpy(), "uniform").pvalue > LEAST_P


def test_each_image_and_each_column_is_uniform_by_itself():
    """The smallest of n p-values is above LEAST_P with the chance 1 - n * LEAST_P."""
    x = uniform(3, 5, IMAGES[:300], 300).numpy()
    for rows in (x, x.T):
        assert min(stats.kstest(row, "uniform").pvalue for row in rows) > LEAST_P


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("next epoch", lambda x: draws(epoch=6)),
        ("next seed", lambda x: draws(seed=4)),
        ("seed and epoch swapped", lambda x: draws(seed=5, epoch=3)),
        ("next image", lambda x: x.roll(1, 0)),
        ("image 128 further", lambda x: x.roll(128, 0)),
        ("next column", lambda x: x.roll(1, 1)),
        ("column 28 further", lambda x: x.roll(28, 1)),
        ("both", lambda x: x.roll((1, 1), (0, 1))),
        ("both, the other way", lambda x: x.roll((1, -1), (0, 1))),
    ],
)
def test_neighbours_are_independent(what: str, other):
    x = draws()
    assert independent(x, other(x)) > LEAST_P, what


def test_every_bit_is_fair_and_independent_of_every_other():
    bits = (draws() * 2**24).long().flatten()[:, None] >> torch.arange(24) & 1
    signs = bits.double() * 2 - 1
    correlation = (signs.T @ signs / len(signs)).fill_diagonal_(0)
    largest = max(float(correlation.abs().max()), float(signs.mean(dim=0).abs().max()))
    assert largest < 5.5 / len(signs) ** 0.5  # for 300 normal numbers, a chance of 1e-5


def test_no_two_images_share_their_numbers():
    keys = uniform(0, 0, torch.arange(60_000), 3)
    assert len(keys.unique(dim=0)) == 60_000


def test_range_and_type():
    x = uniform(0, 0, torch.arange(4000), 784)
    assert x.dtype == torch.float32 and x.shape == (4000, 784)
    assert 0 <= x.min() < 1e-5 and 1 - 1e-5 < x.max() < 1  # of 3 million: either end empty has a chance of 1e-13
    assert torch.equal(x * 2**24, (x * 2**24).floor())


def test_more_columns_do_not_change_the_first_ones():
    assert torch.equal(draws(count=100)[:, :7], draws(count=7))


def test_each_image_has_its_own_numbers_wherever_it_stands():
    order = torch.randperm(len(IMAGES), generator=torch.Generator().manual_seed(0))
    assert torch.equal(uniform(3, 5, IMAGES[order], 4), uniform(3, 5, IMAGES, 4)[order])


def test_the_numbers_equal_a_reference_implementation():
    """Compares with the same formula in Python's integers."""

    def mix(x: int) -> int:
        x = (x * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64
        x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) % 2**64
        x = ((x ^ x >> 27) * 0x94D049BB133111EB) % 2**64
        return x ^ x >> 31

    def number(seed: int, epoch: int, image: int, column: int) -> float:
        key = mix((mix(mix(seed) + epoch) + image) % 2**64)
        x = (key + mix(column)) % 2**32
        x = ((x ^ x >> 16) * 0x85EBCA6B + (key >> 32)) % 2**32
        x = ((x ^ x >> 13) * 0xC2B2AE35) % 2**32
        top = 0xFFFF if x >> 31 else 0
        return ((x ^ (x >> 16 | top << 16)) % 2**24) / 2**24

    x = uniform(7, 2, torch.tensor([0, 41, 59_999]), 5)
    expected = [[number(7, 2, image, column) for column in range(5)] for image in (0, 41, 59_999)]
    assert torch.equal(x, torch.tensor(expected))


def test_integers_are_uniform_too():
    counts = integers(3, 0, torch.arange(36_000), high=360).bincount()
    assert len(counts) == 360 and stats.chisquare(counts.numpy()).pvalue > LEAST_P
