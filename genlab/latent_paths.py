"""Paths through the latent space: interpolation between codes, and traversals of single dimensions of a code."""

from collections.abc import Callable

import torch
from torch import Tensor

from genlab.latents import has_normal_prior
from lit_models.common.capabilities import HasLatentBlocks, LatentBlock

CodePath = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Interpolates codes: starts, N x d, ends, N x d, and fractions of the way, A -> N x A x d."""


def linear_path(starts: Tensor, ends: Tensor, fractions: Tensor) -> Tensor:
    """(1 - a) z0 + a z1."""
    a = fractions[:, None]
    return (1 - a) * starts[:, None] + a * ends[:, None]


def spherical_path(starts: Tensor, ends: Tensor, fractions: Tensor) -> Tensor:
    """sin((1 - a) w) / sin(w) z0 + sin(a w) / sin(w) z1, w the angle between z0 and z1 (White 2016, arXiv 1609.04468).

    Samples of a normal distribution in many dimensions lie near a sphere, and so do the interpolated codes; the middle
    of a straight line is nearer to the origin than any sample. Codes in the same direction, or in opposite directions
    (between which the arc is not unique), are interpolated linearly.
    """
    w = _angle(starts, ends)[:, None, None]  # (N, 1, 1)
    a = fractions[:, None]  # (A, 1)
    has_arc = w.sin() > 1e-3
    sine = torch.where(has_arc, w.sin(), 1)
    arc = ((1 - a) * w).sin() / sine * starts[:, None] + (a * w).sin() / sine * ends[:, None]
    return torch.where(has_arc, arc, linear_path(starts, ends, fractions))


def prior_path(model: object) -> CodePath:
    """The path between samples of a model's prior: spherical for real numbers with a normal prior, else linear."""
    if not isinstance(model, HasLatentBlocks) or not has_normal_prior(model):
        return linear_path
    blocks = model.latent_blocks()

    def path(starts: Tensor, ends: Tensor, fractions: Tensor) -> Tensor:
        columns = []
        for block in blocks:
            path_of_block = spherical_path if block.kind == "continuous" else linear_path
            span = slice(block.start, block.stop)
            columns.append(path_of_block(starts[:, span], ends[:, span], fractions))
        return torch.cat(columns, dim=2)

    return path


def interpolate_codes(starts: Tensor, ends: Tensor, steps: int, path: CodePath = linear_path) -> Tensor:
    """Interpolates in `steps` equal steps, both ends included: N x d and N x d -> N x steps x d."""
    return path(starts, ends, torch.linspace(0, 1, steps).to(starts))


def closed_paths(waypoints: Tensor, steps: int, path: CodePath = linear_path) -> Tensor:
    """Interpolates from each waypoint to the next and from the last to the first: K x N x d -> (K * steps) x N x d."""
    fractions = torch.arange(steps).to(waypoints) / steps
    pairs = zip(waypoints, waypoints.roll(-1, dims=0), strict=True)
    return torch.cat([path(start, end, fractions).transpose(0, 1) for start, end in pairs])


def traverse_dimensions(code: Tensor, mean: Tensor, deviation: Tensor, dimensions: Tensor, steps: int) -> Tensor:
    """Copies of a code, d, each with one dimension set to mean + a * deviation, a from -3 to 3.

    Args:
        code: The code to change.
        mean, deviation: Of each dimension, d.
        dimensions: The dimensions to traverse, int64, R.
        steps: Values of each dimension.

    Returns:
        R * steps x d.
    """
    a = torch.linspace(-3, 3, steps, device=code.device, dtype=code.dtype)
    codes = code.repeat(len(dimensions), steps, 1)
    for k, dimension in enumerate(dimensions.tolist()):
        codes[k, :, dimension] = mean[dimension] + a * deviation[dimension]
    return codes.flatten(0, 1)


def traverse_categories(code: Tensor, block: LatentBlock) -> Tensor:
    """Copies of a code, d, each with one variable of `block` set to one category: variables * categories x d."""
    codes = code.repeat(block.num_variables, block.categories, 1)
    for row in range(block.num_variables):
        start = block.start + row * block.categories
        codes[row, :, start : start + block.categories] = torch.eye(block.categories).to(code)
    return codes.flatten(0, 1)


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """The angle in radians between vectors, N x d and N x d: N; exact for small angles too (Kahan)."""
    a, b = (z / z.norm(dim=1, keepdim=True).clamp(min=1e-12) for z in (a, b))
    return 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))
