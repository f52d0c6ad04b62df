from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric


def foreground_hue(images: Tensor, min_saturation: float = 0.25, min_value: float = 0.2) -> Tensor:
    """Hue in degrees, [0, 360), of what stands out of a black ground; NaN where there is no colour to speak of.

    It is the HSV hue of the mean RGB over the pixels, each weighted by its brightness max(R, G, B), so that a faint
    haze around a figure hardly counts. An image of several colours has the hue of their mixture.

    Args:
        images: N x 3 x H x W in [0, 1].
        min_saturation: a mean colour below this HSV saturation is grey, and has no hue.
        min_value: a mean colour below this HSV value is black, and has no hue.

    Returns:
        float32, N.

    Raises:
        ValueError: the images have no three channels.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"a hue needs images of N x 3 x H x W, not {tuple(images.shape)}")
    images = images.detach().float()
    weights = images.amax(dim=1, keepdim=True)
    color = (images * weights).sum(dim=(2, 3)) / weights.sum(dim=(2, 3)).clamp(min=1e-12)  # (N, 3)
    value, brightest = color.max(dim=1)
    chroma = value - color.amin(dim=1)
    red, green, blue = color.unbind(dim=1)
    differences = torch.stack([green - blue, blue - red, red - green], dim=1)
    sector = differences.gather(1, brightest[:, None])[:, 0] / chroma.clamp(min=1e-12) + 2 * brightest
    hue = (60 * sector) % 360
    hue = torch.where(hue < 360, hue, 0)  # of a negative angle too small for float32 to tell from a full turn
    colored = (value >= min_value) & (chroma >= min_saturation * value)
    return torch.where(colored, hue, torch.nan)


def hue_distance(a: Tensor, b: Tensor) -> Tensor:
    """Degrees between hues the shorter way round, in [0, 180]; NaN where either has no hue."""
    return ((a - b + 180) % 360 - 180).abs()


class ColorCount(NamedTuple):
    """How often images had the hue that was asked for."""

    agreement: Tensor
    """Share of all images within the tolerance of the hue that they were asked for, in [0, 1]."""
    per_hue: Tensor
    """The same for each of the K reference hues; NaN for one that was never asked for."""
    confusion: Tensor
    """K x (K + 1), counts: rows are the hues asked for, columns the nearest ones obtained, the last one none."""


class ColorAgreement(Metric):
    """Share of images whose foreground has the hue asked for; grey and black ones agree with none.

    Chance, for hues at random, is 2 * tolerance / 360.

    Args:
        reference_hues: K different hues in degrees; the one asked for is among them.
        tolerance: an image agrees when its hue is at most this many degrees away.
        min_saturation, min_value: below them an image has no hue, see `foreground_hue`.

    Raises:
        ValueError: there is no reference hue, or the tolerance is not in [0, 180]; from `update` for a hue asked for
            that is none of them.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    references: Tensor
    agreed: Tensor
    confusion: Tensor

    def __init__(
        self, reference_hues: list[float], tolerance: float = 20.0, min_saturation: float = 0.25, min_value: float = 0.2
    ) -> None:
        super().__init__()
        if not reference_hues or not 0 <= tolerance <= 180:
            raise ValueError(f"{len(reference_hues)} reference hues with a tolerance of {tolerance} degrees")
        self.tolerance = tolerance
        self.min_saturation = min_saturation
        self.min_value = min_value
        self.register_buffer("references", torch.tensor(reference_hues, dtype=torch.float32), persistent=False)
        k = len(reference_hues)
        self.add_state("agreed", torch.zeros(k, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("confusion", torch.zeros(k, k + 1, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, images: Tensor, asked_hue: Tensor) -> None:
        """images: N x 3 x H x W in [0, 1]. asked_hue: N, degrees."""
        k = len(self.references)
        distance, asked = hue_distance(asked_hue.float()[:, None], self.references).min(dim=1)
        if (distance > 1e-3).any():
            raise ValueError(f"asked for {asked_hue[distance > 1e-3][0]:g} degrees, which is no reference hue")
        hue = foreground_hue(images, self.min_saturation, self.min_value)
        nearest = hue_distance(hue[:, None], self.references).nan_to_num(nan=360).argmin(dim=1)
        obtained = torch.where(hue.isnan(), k, nearest)
        self.confusion += torch.bincount(asked * (k + 1) + obtained, minlength=k * (k + 1)).reshape(k, k + 1)
        agrees = hue_distance(hue, self.references[asked]) <= self.tolerance
        self.agreed += torch.bincount(asked[agrees], minlength=k)

    def compute(self) -> ColorCount:
        asked = self.confusion.sum(dim=1)
        return ColorCount(self.agreed.sum() / asked.sum(), self.agreed / asked, self.confusion)
