"""Codebooks against loops of numpy, autograd, and the code in the appendix of the paper on FSQ."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from lit_models.common.quantizers import FiniteScalarQuantizer, VectorQuantizer
from lit_models.networks.quantizers import EMACodebook, ScalarCodebook, perplexity, token_counts
from tests import preloaded

LEVELS = [(8, 5, 5, 5), (2, 3), (4, 7, 6), (3,)]


def codebook(size: int = 5, channels: int = 3, decay: float = 0.9, renewal: float = 0.0) -> EMACodebook:
    """One whose codes have been used."""
    torch.manual_seed(0)
    made = EMACodebook(size, channels, decay, renewal)
    made.counts.uniform_(1, 2)
    return made


def rows(maps: Tensor) -> Tensor:
    return torch.stack([maps[n, :, i, j] for n, i, j in itertools.product(*map(range, (len(maps), *maps.shape[2:])))])


def test_a_token_is_the_nearest_code():
    learned, maps = codebook(), torch.randn(2, 3, 4, 5)
    tokens = learned.tokens(maps)
    assert tokens.shape == (2, 4, 5) and tokens.dtype == torch.int64
    nearest = [((learned.codes - row) ** 2).sum(dim=1).argmin() for row in rows(maps)]
    assert torch.equal(tokens.flatten(), torch.stack(nearest))
    assert torch.equal(rows(learned.lookup(tokens)), learned.codes[torch.stack(nearest)])


def test_codes_are_the_ratio_of_the_papers_emas():
    learned = codebook()
    count = learned.counts.double().numpy().copy()
    total = count[:, None] * learned.codes.double().numpy()
    for _ in range(4):
        maps = torch.randn(2, 3, 4, 5)
        tokens = learned.tokens(maps)
        vectors, nearest = rows(maps).double().numpy(), tokens.flatten().numpy()
        for k in range(5):
            count[k] = 0.9 * count[k] + 0.1 * (nearest == k).sum()
            total[k] = 0.9 * total[k] + 0.1 * vectors[nearest == k].sum(axis=0)
        learned.update(maps, tokens)
        np.testing.assert_allclose(learned.counts, count, rtol=1e-5)
        np.testing.assert_allclose(learned.codes, total / count[:, None], rtol=1e-4, atol=1e-6)


def test_a_code_that_was_never_used_becomes_the_mean_of_its_first_outputs():
    learned, maps = codebook(), torch.randn(2, 3, 4, 5)
    learned.counts.zero_()
    tokens, before = learned.tokens(maps), learned.codes.clone()
    tokens[tokens == 2] = 3
    learned.update(maps, tokens)
    for k in (0, 1, 3, 4):
        torch.testing.assert_close(learned.codes[k], rows(maps)[tokens.flatten() == k].mean(dim=0))
    assert torch.equal(learned.codes[2], before[2])


def test_the_gradient_passes_straight_through_the_nearest_code():
    learned, decoder = codebook(), torch.nn.Conv2d(3, 2, 3)
    maps = torch.randn(2, 3, 4, 5, requires_grad=True)
    tokens = learned.tokens(maps)
    codes = learned.lookup(tokens).requires_grad_()
    quantized = learned.quantize(maps, tokens)
    assert torch.equal(quantized, codes)
    [found] = torch.autograd.grad(decoder(quantized).sin().sum(), maps)
    [expected] = torch.autograd.grad(decoder(codes).sin().sum(), codes)
    torch.testing.assert_close(found, expected)


def test_the_first_batch_sets_the_codes():
    learned, maps = EMACodebook(6, 3, 0.9, 0.0), torch.randn(2, 3, 4, 5)
    learned.renew(maps)
    assert all((rows(maps) == code).all(dim=1).any() for code in learned.codes)
    assert len(learned.codes.unique(dim=0)) > 1


def test_unused_codes_are_renewed_and_no_others():
    learned, maps = codebook(renewal=0.1), torch.randn(2, 3, 4, 5)
    learned.counts.copy_(torch.tensor([5.0, 0.0, 0.12, 0.3, 4.58]))  # of mean 2
    before, counts = learned.codes.clone(), learned.counts.clone()
    learned.renew(maps)
    for k in (0, 3, 4):
        assert torch.equal(learned.codes[k], before[k]) and learned.counts[k] == counts[k]
    for k in (1, 2):
        assert (rows(maps) == learned.codes[k]).all(dim=1).any() and learned.counts[k].item() == pytest.approx(2)


def _learn(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    found = {}
    for name, renewal in (("joined", 0.0), ("renewed", 0.9)):
        learned = codebook(renewal=renewal)
        maps = torch.randn(4, 3, 4, 5, generator=torch.Generator().manual_seed(1))[rank::2]
        torch.manual_seed(rank)  # each process draws other outputs
        for _ in range(3):
            learned.renew(maps)
            learned.update(maps, learned.tokens(maps))
        found[name] = learned.codes
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_codes_that_one_learns_of_the_joined_batch(tmp_path: Path):
    preloaded.two_processes(_learn, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(first["joined"], second["joined"]) and torch.equal(first["renewed"], second["renewed"])
    one = codebook()
    maps = torch.randn(4, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        one.renew(maps)
        one.update(maps, one.tokens(maps))
    torch.testing.assert_close(first["joined"], one.codes)
    assert not torch.allclose(first["renewed"], one.codes)


def fsq_of_the_paper(z: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes and indices of points, N x c: Mentzer et al. 2023, appendix A.1, with numpy in the place of jax."""
    half_l = (levels - 1) * (1 - 1e-3) / 2
    offset = np.where(levels % 2 == 1, 0.0, 0.5)
    shift = np.tan(offset / half_l)
    half_width = levels // 2
    codes = np.round(np.tanh(z + shift) * half_l - offset) / half_width
    basis = np.concatenate(([1], np.cumprod(levels[:-1])))
    return codes, ((codes * half_width + half_width) * basis).sum(axis=-1)


@pytest.mark.parametrize("levels", LEVELS)
def test_scalars_are_quantised_as_in_the_paper(levels: tuple[int, ...]):
    fixed, maps = ScalarCodebook(levels), 3 * torch.randn(40, len(levels), 4, 5)
    tokens = fixed.tokens(maps)
    codes, indices = fsq_of_the_paper(rows(maps).double().numpy(), np.array(levels))
    np.testing.assert_array_equal(tokens.flatten(), indices)
    np.testing.assert_allclose(rows(fixed.quantize(maps, tokens)), codes, atol=1e-6)


@pytest.mark.parametrize("levels", LEVELS)
def test_tokens_and_combinations_of_levels_are_one_to_one(levels: tuple[int, ...]):
    fixed = ScalarCodebook(levels)
    tokens = torch.arange(fixed.size).view(-1, 1, 1)
    codes = fixed.lookup(tokens)  # (K, c, 1, 1)
    assert fixed.size == np.prod(levels) == len(codes.unique(dim=0))
    for channel, number in enumerate(levels):
        taken = codes[:, channel].unique()
        assert len(taken) == number and 0 in taken and taken.min() == -1
        assert taken.max().item() == pytest.approx(1 if number % 2 else 1 - 2 / number)
    steps = torch.tensor(levels)[:, None, None] // 2
    half, offset = (torch.tensor(levels)[:, None, None] - 1) * 0.999 / 2, (1 - torch.tensor(levels) % 2) / 2
    near = (codes * steps + offset[:, None, None]).clamp(
        -0.9999 * half, 0.9999 * half
    )  # each code is at an end or inside
    assert torch.equal(fixed.tokens((near / half).atanh() - (offset[:, None, None] / half).tan()), tokens)
    ends = torch.stack([fixed.tokens(torch.full((1, len(levels), 1, 1), end)) for end in (-1e4, 1e4)])
    assert ends.flatten().tolist() == [0, fixed.size - 1]


def test_the_gradient_of_a_scalar_is_that_of_its_bound():
    fixed = ScalarCodebook((5,))
    maps = torch.tensor([-2.0, 0.1, 0.4, 3.0]).view(4, 1, 1, 1).requires_grad_()
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0]).view(4, 1, 1, 1)
    [found] = torch.autograd.grad((weights * fixed.quantize(maps, fixed.tokens(maps))).sum(), maps)
    torch.testing.assert_close(found, weights * (1 - maps.tanh().square()) * (4 * 0.999 / 2) / 2)


def test_perplexity_is_that_of_a_known_distribution():
    assert perplexity(torch.tensor([3, 0, 3, 3, 0, 3])).item() == pytest.approx(4)
    assert perplexity(torch.tensor([2, 1, 1])).item() == pytest.approx(2**1.5)
    assert perplexity(torch.tensor([7, 0])).item() == pytest.approx(1)
    assert token_counts(torch.tensor([[1, 3], [3, 0]]), 5).tolist() == [1, 1, 0, 2, 0]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: VectorQuantizer(1), "codebook_size is 1"),
        (lambda: VectorQuantizer(channels=0), "channels 0"),
        (lambda: VectorQuantizer(beta=-1.0), "beta is -1.0"),
        (lambda: VectorQuantizer(decay=1.0), "decay 1.0"),
        (lambda: VectorQuantizer(renewal=1.0), "renewal 1.0"),
        (lambda: FiniteScalarQuantizer(()), r"levels is \[\]"),
        (lambda: FiniteScalarQuantizer((8, 1)), r"levels is \[8, 1\]"),
        (lambda: FiniteScalarQuantizer((1000, 2000)), "product at most 1048576"),
    ],
)
def test_numbers_out_of_range_are_refused(make, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        make()
