import torch
from torch import Tensor
from torchmetrics import Metric

FLOOR = 1e-8
"""Smallest power: a hundredth of the power of rounding to 256 grey levels at each frequency."""


class SpectrumDistance(Metric):
    """Distance between the mean power spectra of two sets of images in dB; at least 0, lower is better.

    sqrt(mean over frequencies of (10 log10 P - 10 log10 Q)^2), where P and Q are the means of |F x|^2 over the images
    and channels of each set and F is the orthonormal two-dimensional Fourier transform. Each of the H x W frequencies
    has the same weight, so that missing detail counts although it has little power. Powers below 1e-8 count as 1e-8.
    The distance is infinite if an image is not finite. Sums are kept in float64, on any number of processes. `reset`
    keeps the real images. This metric was defined for this project.

    Args:
        size: Height and width of the images in pixels.

    Examples:
        >>> images = torch.rand(4, 1, 8, 8)
        >>> metric = SpectrumDistance((8, 8))
        >>> metric.update(images, real=True)
        >>> metric.update(images / 10, real=False)  # a hundredth of the power
        >>> round(float(metric.compute()), 3)
        20.0
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    weights: Tensor
    real_power: Tensor
    real_spectra: Tensor
    fake_power: Tensor
    fake_spectra: Tensor

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        height, width = size
        half = width // 2 + 1
        multiplicity = torch.full((half,), 2.0)  # a frequency and its negative have the same power
        multiplicity[0] = 1
        if width % 2 == 0:
            multiplicity[-1] = 1
        self.register_buffer("weights", multiplicity / (height * width), persistent=False)
        for name in ("real", "fake"):
            self.add_state(f"{name}_power", torch.zeros(height, half, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{name}_spectra", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, images: Tensor, real: bool) -> None:
        """Adds images, N x C x H x W in [0, 1], to the set of real or of generated images."""
        power = torch.fft.rfft2(images.float(), norm="ortho").abs().square().double().sum(dim=(0, 1))  # (H, W // 2 + 1)
        count = images.shape[0] * images.shape[1]
        if real:
            self.real_power += power
            self.real_spectra += count
        else:
            self.fake_power += power
            self.fake_spectra += count

    def compute(self) -> Tensor:
        """Returns the distance as a float32 scalar; NaN if a set is empty."""
        real, fake = self.real_power / self.real_spectra, self.fake_power / self.fake_spectra
        difference = 10 * (real.clamp(min=FLOOR).log10() - fake.clamp(min=FLOOR).log10())
        distance = (difference.square() * self.weights).sum().sqrt()
        finite = self.real_power.isfinite().all() & self.fake_power.isfinite().all()
        return torch.where(finite, distance, torch.inf).float()

    def reset(self) -> None:
        real = self.real_power, self.real_spectra
        super().reset()
        self.real_power, self.real_spectra = real
