"""Losses and errors of angles, which are periodic."""

import torch
from torch import Tensor

ORIGIN = 1e-12
"""Squared length below which a point counts as the origin, which has no direction."""


def circular_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Returns 1 - cos(a - b) of angles in radians, N, in [0, 2]: periodic, symmetric and smooth everywhere.

    Computed as 2 sin((a - b) / 2)^2, which keeps small differences that 1 - cos would round to 0; the gradient is
    sin(a - b). Up to scale and a constant it is the negative log-density of a von Mises distribution (Mardia and Jupp
    2000, section 3.5.4), as the squared error is that of a normal distribution.
    """
    return 2 * ((predicted - target) / 2).sin().square()


def angle_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Returns the smaller angle between two directions, N, in [0, 180]; all angles are in degrees."""
    return ((predicted - target + 180) % 360 - 180).abs()


def points_to_angles(points: Tensor) -> Tensor:
    """Returns the direction atan2(y, x) of points (x, y), N x 2: N, radians in [-pi, pi], at least float32.

    The origin has no direction: it gets 0 and no gradient, where the gradient of atan2 is infinite.
    """
    points = points.to(torch.promote_types(points.dtype, torch.float32))
    origin = (points.square().sum(dim=1) < ORIGIN)[:, None]
    x, y = torch.where(origin, points.new_tensor([1.0, 0.0]), points).unbind(dim=1)
    return torch.atan2(y, x)
