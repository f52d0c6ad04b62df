import numpy as np
import pytest
import torch

from genlab.metrics import SpectrumDistance


def images(n: int, height: int = 12, width: int = 10, channels: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed))


def spectrum(x: torch.Tensor) -> np.ndarray:
    """In dB, of the whole plane of frequencies, H x W."""
    power = np.abs(np.fft.fft2(x.double().numpy(), norm="ortho")) ** 2
    return 10 * np.log10(np.maximum(power.mean(axis=(0, 1)), 1e-8))


def distance(real: torch.Tensor, fake: torch.Tensor, batch: int = 100) -> float:
    metric = SpectrumDistance((real.shape[2], real.shape[3]))
    for x, is_real in ((real, True), (fake, False)):
        for part in x.split(batch):
            metric.update(part, real=is_real)
    return metric.compute().item()


@pytest.mark.parametrize(("height", "width", "channels"), [(12, 10, 3), (9, 7, 1), (6, 11, 3)])
def test_distance_equals_numpy_over_all_frequencies(height: int, width: int, channels: int):
    real, fake = images(7, height, width, channels), 0.6 * images(5, height, width, channels, seed=1) ** 3
    expected = np.sqrt(np.mean((spectrum(real) - spectrum(fake)) ** 2))
    assert distance(real, fake) == pytest.approx(expected, rel=1e-4)
    assert distance(real, fake, batch=2) == pytest.approx(expected, rel=1e-4)
    turned = distance(real.transpose(2, 3), fake.transpose(2, 3))
    assert turned == pytest.approx(expected, rel=1e-4)  # whichever axis is cut in half


def test_half_the_amplitude_is_six_decibels_at_each_frequency():
    real = images(20)
    assert distance(real, 0.5 * real) == pytest.approx(20 * np.log10(2), rel=1e-5)
    assert distance(real, real.flip(0)) == pytest.approx(0, abs=1e-4)


def test_one_frequency_counts_as_one_out_of_all():
    """A wave of one frequency and its conjugate, on a grey ground: one set has it, the other has 10 dB less of it."""
    wave = torch.cos(2 * torch.pi * torch.arange(8) * 2 / 8).expand(1, 1, 8, 8)
    found = distance(0.5 + 0.4 * wave, 0.5 + 0.4 * 10**-0.5 * wave)
    assert found == pytest.approx(np.sqrt(2 * 10**2 / 64), rel=1e-4)


def test_blur_has_a_large_distance_although_its_error_is_small():
    sharp = images(50, 16, 16, 1)
    blurred = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(sharp, (1, 1, 1, 1), mode="circular"), 3, 1)
    assert distance(sharp, blurred) > 10


def test_black_images_have_the_distance_of_the_floor():
    white = torch.ones(3, 1, 4, 4)
    found = distance(white, torch.zeros(3, 1, 4, 4))
    assert found == pytest.approx(np.sqrt((10 * np.log10(16) + 80) ** 2 / 16), rel=1e-5)  # all at frequency zero


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_images_that_are_not_finite_have_infinite_distance(bad: float):
    fake = images(4)
    fake[2, 0, 3, 3] = bad
    assert distance(images(4), fake) == np.inf


def test_processes_merge_to_the_whole():
    real, fake = images(9), images(8, seed=1) ** 2
    parts = [SpectrumDistance((12, 10)) for _ in range(2)]
    for k, part in enumerate(parts):
        part.update(real[k::2], real=True)
        part.update(fake[k::2], real=False)
    parts[0].merge_state(parts[1])
    assert parts[0].compute().item() == pytest.approx(distance(real, fake), rel=1e-6)


def test_a_reset_keeps_the_real_ones():
    metric = SpectrumDistance((12, 10))
    metric.update(images(5), real=True)
    for power in (1, 2):
        metric.update(images(5, seed=2) ** power, real=False)
        assert metric.compute().item() == pytest.approx(distance(images(5), images(5, seed=2) ** power), rel=1e-6)
        metric.reset()
