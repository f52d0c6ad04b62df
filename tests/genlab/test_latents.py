import itertools

import numpy as np
import pytest
import torch

from genlab.latents import (
    class_block,
    enumerate_codes,
    random_codes,
    sample_gaussian_mixture,
    with_class,
    with_every_class,
)
from lit_models import ACGAN, GAN, VAE, ConditionalGAN
from lit_models.common.capabilities import LatentBlock
from lit_models.common.discriminators import MLPDiscriminator
from lit_models.common.generators import MLPGenerator
from lit_models.common.latent_distributions import GumbelSoftmax


def test_codes_are_copied_with_every_class():
    part = LatentBlock("categorical", 1, 3, 2)
    codes = torch.tensor([[5.0, 0, 1], [6.0, 1, 0]])
    assert with_class(codes, part, torch.tensor([0, 0])).tolist() == [[5, 1, 0], [6, 1, 0]]
    assert with_every_class(codes, part).tolist() == [[5, 1, 0], [5, 0, 1], [6, 1, 0], [6, 0, 1]]
    assert codes[0].tolist() == [5, 0, 1]


def test_class_block_of_conditional_models():
    small = {"generator": MLPGenerator((8,)), "discriminator": MLPDiscriminator((8,))}
    for model in (ConditionalGAN(4, num_classes=3, **small), ACGAN(4, num_classes=3, **small)):
        assert class_block(model) == LatentBlock("categorical", 4, 7, 3)
    for other in (GAN(4, **small), VAE(3, latent_distribution=GumbelSoftmax(3))):
        assert class_block(other) is None


MIXED = [
    LatentBlock("continuous", 0, 2),
    LatentBlock("categorical", 2, 2 + 2 * 3, 3),
    LatentBlock("categorical", 8, 12, 4),
]


def reference_codes() -> np.ndarray:
    """All codes of MIXED, in the order of nested loops."""
    rows = []
    for a, b, c in itertools.product(range(3), range(3), range(4)):
        rows.append(np.concatenate([np.zeros(2), np.eye(3)[a], np.eye(3)[b], np.eye(4)[c]]))
    return np.stack(rows)


@pytest.mark.parametrize("batch_size", [1, 7, 36, 1000])
def test_enumeration_equals_nested_loops(batch_size: int):
    batches = list(enumerate_codes(MIXED, batch_size))
    assert max(len(batch) for batch in batches) == min(batch_size, 36)
    np.testing.assert_array_equal(torch.cat(batches).numpy(), reference_codes())


def test_enumeration_needs_memory_for_one_batch():
    batch = next(enumerate_codes([LatentBlock("categorical", 0, 240, 20)], 10))  # 20^12 combinations
    assert batch.shape == (10, 240) and batch[:, -20:].argmax(dim=1).tolist() == list(range(10))


@pytest.mark.parametrize("blocks", [[LatentBlock("continuous", 0, 3)], [LatentBlock("categorical", 0, 400, 20)]])
def test_codes_that_cannot_be_enumerated_are_refused(blocks: list[LatentBlock]):
    with pytest.raises(ValueError, match="cannot be enumerated"):
        next(enumerate_codes(blocks))


def test_random_codes_are_valid_and_reproducible():
    first, second = (torch.cat(list(random_codes(MIXED, 200, 64))) for _ in range(2))
    assert torch.equal(first, second) and first.shape == (200, 12)
    for start, stop in ((2, 5), (5, 8), (8, 12)):
        assert (first[:, start:stop].sum(dim=1) == 1).all() and (first[:, start:stop].sum(dim=0) > 10).all()


PLAIN = [LatentBlock("continuous", 0, 2)]


def clusters() -> torch.Tensor:
    """900 codes: two thirds around (100, 0) with a correlation of 0.9, one third around (0, 1)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(900, 2, generator=generator)
    noise[:600, 1] = 0.9 * noise[:600, 0] + 0.19**0.5 * noise[:600, 1]
    centres = torch.tensor([[100.0, 0.0]] * 600 + [[0.0, 1.0]] * 300)
    return centres + noise * torch.tensor([1.0, 0.01])


def test_mixture_samples_have_the_clusters_of_the_codes():
    drawn = sample_gaussian_mixture(clusters(), PLAIN, 2, 3000)
    first = drawn[:, 0] > 50
    assert first.float().mean() == pytest.approx(2 / 3, abs=0.03)
    assert drawn[first].mean(dim=0).numpy() == pytest.approx([100, 0], abs=0.1)
    assert drawn[~first].std(dim=0).numpy() == pytest.approx([1, 0.01], rel=0.1)
    assert np.corrcoef(drawn[first].T)[0, 1] == pytest.approx(0.9, abs=0.05)


def test_mixture_samples_are_reproducible_and_shuffled():
    first, second = (sample_gaussian_mixture(clusters(), PLAIN, 2, 60) for _ in range(2))
    assert torch.equal(first, second)
    changes = (first[1:, 0] > 50) != (first[:-1, 0] > 50)
    assert changes.sum() > 10


def test_mixture_samples_are_one_hot_in_categorical_blocks():
    one_hot = torch.eye(3)[torch.arange(300) % 3]
    codes = torch.cat([torch.randn(300, 1, generator=torch.Generator().manual_seed(0)), one_hot], dim=1)
    blocks = [LatentBlock("continuous", 0, 1), LatentBlock("categorical", 1, 4, 3)]
    drawn = sample_gaussian_mixture(codes, blocks, 3, 90)[:, 1:]
    assert ((drawn == 0) | (drawn == 1)).all() and (drawn.sum(dim=1) == 1).all() and (drawn.sum(dim=0) > 10).all()


def test_constant_dimensions_stay_constant_in_the_mixture():
    codes = torch.cat([clusters()[:, :1], torch.full((900, 1), 3.0)], dim=1)
    drawn = sample_gaussian_mixture(codes, PLAIN, 2, 50)
    assert drawn[:, 1].numpy() == pytest.approx(np.full(50, 3.0), abs=1e-3)
