from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric


def foreground_hue(images: Tensor, min_saturation: float = 0.25, min_value: float = 0.2) -> Tensor:
    """Returns the hue of each image's foreground in degrees, [0, 360); NaN for a grey or black image.

    It is the HSV hue of the mean RGB colour, in which each pixel is weighted by its brightness max(R, G, B), so that a
    faint haze on the black background hardly counts. An image of several colours has the hue of their mixture.

    Args:
        images: N x 3 x H x W in [0, 1].
        min_saturation: A mean colour below this HSV saturation counts as grey and has no hue.
        min_value: A mean colour below this HSV value counts as black and has no hue.

    Returns:
        float32, N.

    Raises:
        ValueError: The images do not have three channels.

    Examples:
        >>> red, black = torch.tensor([1.0, 0, 0]), torch.zeros(3)
        >>> foreground_hue(torch.stack([red, black])[:, :, None, None].expand(-1, -1, 8, 8))
        tensor([0., nan])
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images are {tuple(images.shape)}; a hue needs N x 3 x H x W")
    images = images.detach().float()
    weights = images.amax(dim=1, keepdim=True)
    color = (images * weights).sum(dim=(2, 3)) / weights.sum(dim=(2, 3)).clamp(min=1e-12)  # (N, 3)
    value, brightest = color.max(dim=1)
    chroma = value - color.amin(dim=1)
    red, green, blue = color.unbind(dim=1)
    differences = torch.stack([green - blue, blue - red, red - green], dim=1)
    sector = differences.gather(1, brightest[:, None])[:, 0] / chroma.clamp(min=1e-12) + 2 * brightest
    hue = (60 * sector) % 360
    hue = torch.where(hue < 360, hue, 0)  # a tiny negative angle is rounded to 360 in float32
    colored = (value >= min_value) & (chroma >= min_saturation * value)
    return torch.where(colored, hue, torch.nan)


def hue_distance(a: Tensor, b: Tensor) -> Tensor:
    """Returns the smaller angle between hues in degrees, in [0, 180]; NaN if either has no hue.

    Examples:
        >>> hue_distance(torch.tensor([350.0]), torch.tensor([20.0]))
        tensor([30.])
    """
    return ((a - b + 180) % 360 - 180).abs()


class ColorCount(NamedTuple):
    """How often images have the hue that was requested."""

    agreement: Tensor
    """Share of all images whose hue is within the tolerance of the requested hue, in [0, 1]."""
    per_hue: Tensor
    """The same for each of the K reference hues; NaN for a hue that was never requested."""
    confusion: Tensor
    """Counts, K x (K + 1): rows are requested hues, columns the nearest hues obtained, the last column no hue."""


class ColorAgreement(Metric):
    """Share of images whose foreground has the requested hue, in [0, 1]; higher is better.

    Grey and black images agree with no hue. For uniformly random hues the expected value is 2 * tolerance / 360. This
    metric was defined for this project.

    Args:
        reference_hues: K different hues in degrees; a requested hue must be one of them.
        tolerance: Largest hue difference in degrees that counts as agreement.
        min_saturation: A mean colour below this HSV saturation has no hue, see `foreground_hue`.
        min_value: A mean colour below this HSV value has no hue.

    Raises:
        ValueError: There is no reference hue, or the tolerance is not in [0, 180]. From `update`: a requested hue is
            not a reference hue.

    Examples:
        >>> metric = ColorAgreement([0.0, 120.0])
        >>> red = torch.tensor([1.0, 0, 0])[:, None, None].expand(2, 3, 8, 8)
        >>> metric.update(red, torch.tensor([0.0, 120.0]))
        >>> metric.compute().agreement
        tensor(0.5000)
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
            raise ValueError(
                f"reference_hues has {len(reference_hues)} hues and tolerance is {tolerance};"
                " give at least one hue and a tolerance from 0 to 180 degrees"
            )
        self.tolerance = tolerance
        self.min_saturation = min_saturation
        self.min_value = min_value
        self.register_buffer("references", torch.tensor(reference_hues, dtype=torch.float32), persistent=False)
        k = len(reference_hues)
        self.add_state("agreed", torch.zeros(k, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("confusion", torch.zeros(k, k + 1, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, images: Tensor, requested_hue: Tensor) -> None:
        """Adds images, N x 3 x H x W in [0, 1], and the hue in degrees requested for each, N."""
        k = len(self.references)
        distance, requested = hue_distance(requested_hue.float()[:, None], self.references).min(dim=1)
        if (distance > 1e-3).any():
            raise ValueError(
                f"requested_hue has {requested_hue[distance > 1e-3][0]:g} degrees, which is not one of reference_hues"
            )
        hue = foreground_hue(images, self.min_saturation, self.min_value)
        nearest = hue_distance(hue[:, None], self.references).nan_to_num(nan=360).argmin(dim=1)
        obtained = torch.where(hue.isnan(), k, nearest)
        self.confusion += torch.bincount(requested * (k + 1) + obtained, minlength=k * (k + 1)).reshape(k, k + 1)
        agrees = hue_distance(hue, self.references[requested]) <= self.tolerance
        self.agreed += torch.bincount(requested[agrees], minlength=k)

    def compute(self) -> ColorCount:
        requested = self.confusion.sum(dim=1)
        return ColorCount(self.agreed.sum() / requested.sum(), self.agreed / requested, self.confusion)
