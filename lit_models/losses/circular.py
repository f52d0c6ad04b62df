"""Angles, which come back to themselves after a full turn."""

import torch
from torch import Tensor

ORIGIN = 1e-12
"""The squared length below which a point is taken for the origin, and has no direction."""


def circular_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - cos(a - b), N, of angles in radians, N: between 0 and 2, blind to sign and full turns, smooth everywhere.

    Computed as 2 sin((a - b) / 2)^2, which keeps small differences that 1 - cos would round away; its gradient is
    sin(a - b). It is the negative log-density of a von Mises law (Mardia and Jupp 2000, section 3.5.4) up to its
    concentration and a constant, as the squared error is that of a normal law.
    """
    return 2 * ((predicted - target) / 2).sin().square()


def angle_error(predicted: Tensor, target: Tensor) -> Tensor:
    """The smaller angle between two directions, N, in [0, 180]: all in degrees."""
    return ((predicted - target + 180) % 360 - 180).abs()


def angle_of(points: Tensor) -> Tensor:
    """The direction atan2(y, x) of points, N x 2, as (x, y): N, radians in [-pi, pi], float32 at least.

    The origin has none: it is given 0, and no gradient where atan2 has an infinite one.
    """
    points = points.to(torch.promote_types(points.dtype, torch.float32))
    origin = (points.square().sum(dim=1) < ORIGIN)[:, None]
    x, y = torch.where(origin, points.new_tensor([1.0, 0.0]), points).unbind(dim=1)
    return torch.atan2(y, x)
