import torch
from torch import Tensor
from torchmetrics import Metric

FLOOR = 1e-8
"""A hundredth of the power that rounding to 256 levels leaves at each frequency."""


class SpectrumDistance(Metric):
    """How far the mean power spectra of two sets of images are apart, in dB.

    sqrt(mean over frequencies of (10 log10 P - 10 log10 Q)^2), where P and Q are the means of |F x|^2 over the images
    and channels of each set and F is the orthonormal two-dimensional Fourier transform. Each of the H x W frequencies
    counts the same, so that missing detail shows however little of the brightness it holds. Powers below 1e-8 count as
    1e-8. It is infinite where an image is not finite. Sums are kept in float64, on any number of processes; `reset`
    forgets the images that are not real and keeps the real ones.

    Args:
        size: height and width in pixels.
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
        stands_for = torch.full((half,), 2.0)  # itself and the frequency of the other sign, which has the same power
        stands_for[0] = 1
        if width % 2 == 0:
            stands_for[-1] = 1
        self.register_buffer("weights", stands_for / (height * width), persistent=False)
        for name in ("real", "fake"):
            self.add_state(f"{name}_power", torch.zeros(height, half, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{name}_spectra", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, images: Tensor, real: bool) -> None:
        """images: N x C x H x W in [0, 1]. real: which of the two sets they belong to."""
        power = torch.fft.rfft2(images.float(), norm="ortho").abs().square().double().sum(dim=(0, 1))  # (H, W // 2 + 1)
        count = images.shape[0] * images.shape[1]
        if real:
            self.real_power += power
            self.real_spectra += count
        else:
            self.fake_power += power
            self.fake_spectra += count

    def compute(self) -> Tensor:
        """float32, a scalar; NaN where a set is empty."""
        real, fake = self.real_power / self.real_spectra, self.fake_power / self.fake_spectra
        difference = 10 * (real.clamp(min=FLOOR).log10() - fake.clamp(min=FLOOR).log10())
        distance = (difference.square() * self.weights).sum().sqrt()
        finite = self.real_power.isfinite().all() & self.fake_power.isfinite().all()
        return torch.where(finite, distance, torch.inf).float()

    def reset(self) -> None:
        real = self.real_power, self.real_spectra
        super().reset()
        self.real_power, self.real_spectra = real
