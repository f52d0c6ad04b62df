import torch
from torch import Tensor

LEAST_STEPS = 3


def detrended_std(values: Tensor) -> Tensor:
    """The standard deviation of N equidistant values about their least-squares line; NaN for fewer than three.

    With t the steps counted from their middle, the line's slope is sum(t y) / sum(t^2), and the squares of the
    residuals are divided by their N - 2 degrees of freedom, which makes short windows comparable with long ones.
    """
    n = len(values)
    if n < LEAST_STEPS:
        return values.new_full((), torch.nan)
    steps = torch.arange(n, device=values.device, dtype=values.dtype) - (n - 1) / 2
    centred = values - values.mean()
    residuals = centred - steps * (steps @ centred) * (12 / (n * (n * n - 1)))  # sum(t^2) in closed form
    return (residuals.square().sum() / (n - 2)).sqrt()
