"""Each corruption against its closed form; tolerances are five standard errors or more."""

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter

from lit_models.common.corruptions import Blur, ColoredBlob, Corruption, GaussianNoise, LaplaceNoise, Masking

EACH = [GaussianNoise, LaplaceNoise, Blur, Masking, ColoredBlob]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 8, shape: tuple[int, int, int] = (3, 20, 28)) -> torch.Tensor:
    return torch.rand(n, *shape, generator=seeded(9))


@pytest.mark.parametrize("kind", EACH)
def test_the_result_is_images_and_the_input_stays(kind: type[Corruption]):
    for x in (pictures(), pictures(5, (1, 7, 9))):
        before = x.clone()
        y = kind(0.5)(x)
        assert y.shape == x.shape and y.dtype == x.dtype and y.min() >= 0 and y.max() <= 1
        assert torch.equal(x, before) and not torch.equal(x, y)


@pytest.mark.parametrize("kind", EACH)
def test_strength_zero_changes_nothing(kind: type[Corruption]):
    assert torch.equal(kind(0.0)(pictures()), pictures())


@pytest.mark.parametrize("kind", EACH)
def test_more_strength_is_more_error(kind: type[Corruption]):
    x = pictures(200)
    errors = [(kind(strength)(x, seeded()) - x).square().mean() for strength in (0.1, 0.3, 0.6)]
    assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("kind", EACH)
def test_draws_follow_from_the_generator_or_torchs_own(kind: type[Corruption]):
    corrupt, x = kind(0.5), pictures()
    assert torch.equal(corrupt(x, seeded(1)), corrupt(x, seeded(1)))
    torch.manual_seed(3)
    first = corrupt(x)
    state = torch.get_rng_state()
    corrupt(x, seeded())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(3)
    assert torch.equal(corrupt(x), first)


@pytest.mark.parametrize("kind", [GaussianNoise, LaplaceNoise, Masking, ColoredBlob])
def test_images_of_a_batch_are_corrupted_apart(kind: type[Corruption]):
    y = kind(0.5)(torch.full((4, 1, 28, 28), 0.5))
    assert not any(torch.equal(y[i], y[j]) for i in range(4) for j in range(i))


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize("strength", [-0.1, 1.5])
def test_a_strength_out_of_range_is_refused(kind: type[Corruption], strength: float):
    if strength > kind.max_strength or strength < 0:
        with pytest.raises(ValueError, match=f"strength is {strength}; {kind.__name__} takes 0 to"):
            kind(strength)
    else:
        assert kind(strength)(pictures()).isfinite().all()


@pytest.mark.parametrize(("kind", "kurtosis"), [(GaussianNoise, 3.0), (LaplaceNoise, 6.0)])
def test_noise_has_its_mean_deviation_and_shape(kind: type[Corruption], kurtosis: float):
    """Around grey, where a deviation of 0.05 does not reach the ends of the range: a million pixels."""
    noise = kind(0.05)(torch.full((1000, 1, 32, 32), 0.5), seeded()).double() - 0.5
    sd = noise.std()
    assert abs(noise.mean()) < 5 * 0.05 / 1000
    assert sd.item() == pytest.approx(0.05, rel=0.006)
    assert (noise / sd).pow(4).mean().item() == pytest.approx(kurtosis, rel=0.02 * kurtosis / 3)
    assert (noise[:, :, :, 1:] * noise[:, :, :, :-1]).mean().abs() < 5 * 0.05**2 / 1000


def test_noise_on_black_is_cut_off_at_black():
    """max(0, s e) has the mean s / sqrt(2 pi) for a normal e; for a Laplace one of scale b, b / 2."""
    black = torch.zeros(1000, 1, 32, 32)
    assert GaussianNoise(0.1)(black, seeded()).mean().item() == pytest.approx(0.1 / math.sqrt(2 * math.pi), rel=0.01)
    assert LaplaceNoise(0.1)(black, seeded()).mean().item() == pytest.approx(0.1 / math.sqrt(2) / 2, rel=0.01)


def test_the_likelihood_that_goes_with_laplace_noise_is_laplaces():
    assert [kind.likelihood for kind in EACH] == ["gaussian", "laplace", "gaussian", "gaussian", "gaussian"]


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_blur_is_scipys(strength: float):
    x = pictures().double()
    sigma = strength * 20 / 8
    by_scipy = gaussian_filter(
        x.numpy(), (0, 0, sigma, sigma), mode="nearest", radius=(0, 0, *[math.ceil(4 * sigma)] * 2)
    )
    assert Blur(strength)(x).numpy() == pytest.approx(by_scipy, abs=1e-6)


def test_masking_blackens_whole_pixels_at_its_rate():
    x = torch.rand(400, 3, 28, 28).clamp(min=0.01)
    y = Masking(0.3)(x, seeded())
    gone = y == 0
    assert torch.equal(gone[:, 0], gone[:, 1]) and torch.equal(gone[:, 0], gone[:, 2])
    assert torch.equal(y[~gone], x[~gone])
    rate = gone[:, 0].float().mean().item()
    assert rate == pytest.approx(0.3, abs=5 * math.sqrt(0.3 * 0.7 / (400 * 784)))
    assert not Masking(1.0)(x).any()


def test_a_blob_is_one_disc_of_its_size_within_the_image():
    black = torch.zeros(500, 3, 28, 40)
    y = ColoredBlob(0.5)(black, seeded())  # radius 7
    colour = y.flatten(2).amax(dim=2)
    alpha = (y / colour[:, :, None, None]).amax(dim=1)  # (N, H, W)
    assert alpha.sum(dim=(1, 2)).numpy() == pytest.approx(math.pi * 49, rel=0.02)
    assert ((alpha == 0) | (alpha > 0.999)).float().mean() > 0.9  # opaque, but for the edge
    assert ((colour.amax(dim=1) >= 0.5) & (colour.amax(dim=1) <= 1)).all()
    rows, columns = torch.meshgrid(torch.arange(28) + 0.5, torch.arange(40) + 0.5, indexing="ij")
    weight = alpha / alpha.sum(dim=(1, 2), keepdim=True)
    centres = torch.stack([(weight * rows).sum(dim=(1, 2)), (weight * columns).sum(dim=(1, 2))], dim=1)
    # Uniform on [7, 21] x [7, 33]: its mean, its ends and its standard deviation, range / sqrt(12).
    assert centres.mean(dim=0).numpy() == pytest.approx([14, 20], abs=1.8)
    assert centres.std(dim=0).numpy() == pytest.approx([14 / math.sqrt(12), 26 / math.sqrt(12)], rel=0.12)
    assert (centres.amin(dim=0) > 6.9).all() and (centres.amax(dim=0) < torch.tensor([21.1, 33.1])).all()


def test_outside_its_blob_an_image_stays():
    x = pictures(20)
    y = ColoredBlob(0.4)(x, seeded())
    assert 0.75 < (x == y).float().mean() < 0.95  # a disc of a fifth of 20 in radius covers 9% of 20 x 28
