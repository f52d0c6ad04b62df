"""Measures how much a loss scatters about its trend."""

import torch
from torch import Tensor

MIN_STEPS = 3
"""The fewest steps that have a scatter about a line."""


def detrended_std(values: Tensor) -> Tensor:
    """The standard deviation of N equidistant values about their least-squares line; NaN for fewer than three.

    With the steps t counted from their middle, the slope of the line is sum(t y) / sum(t^2). The sum of the squared
    residuals is divided by their N - 2 degrees of freedom, so that short windows compare with long ones.
    """
    n = len(values)
    if n < MIN_STEPS:
        return values.new_full((), torch.nan)
    steps = torch.arange(n, device=values.device, dtype=values.dtype) - (n - 1) / 2
    centred = values - values.mean()
    residuals = centred - steps * (steps @ centred) * (12 / (n * (n * n - 1)))  # sum(t^2) in closed form
    return (residuals.square().sum() / (n - 2)).sqrt()
