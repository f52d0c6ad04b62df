"""Paths between latent codes."""

from collections.abc import Callable

import torch
from torch import Tensor

from genlab.latents import has_normal_prior
from lit_models.common.capabilities import HasLatentBlocks, LatentBlock

CodePath = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Codes on the way from one to another: N x d and N x d, and shares of the way, A, -> N x A x d."""


def linear_path(starts: Tensor, stops: Tensor, shares: Tensor) -> Tensor:
    a = shares[:, None]
    return (1 - a) * starts[:, None] + a * stops[:, None]


def spherical_path(starts: Tensor, stops: Tensor, shares: Tensor) -> Tensor:
    """sin((1 - a) w) / sin(w) z0 + sin(a w) / sin(w) z1, w the angle between z0 and z1 (White 2016, arXiv 1609.04468).

    Draws of a normal law in many dimensions lie near a sphere, and so do the codes between them; the middle of a
    linear_path line is nearer to the origin than any draw. Codes in one direction, or in opposite ones, which many great
    circles join, are joined by a linear_path line.
    """
    w = _angle(starts, stops)[:, None, None]  # (N, 1, 1)
    a = shares[:, None]  # (A, 1)
    turning = w.sin() > 1e-3
    sine = torch.where(turning, w.sin(), 1)
    arc = ((1 - a) * w).sin() / sine * starts[:, None] + (a * w).sin() / sine * stops[:, None]
    return torch.where(turning, arc, linear_path(starts, stops, shares))


def prior_path(model: object) -> CodePath:
    """How to go between draws of a model's prior: along arcs in real numbers of a normal law, else linear_path."""
    if not isinstance(model, HasLatentBlocks) or not has_normal_prior(model):
        return linear_path
    parts = model.latent_blocks()

    def route(starts: Tensor, stops: Tensor, shares: Tensor) -> Tensor:
        blocks = []
        for part in parts:
            way = spherical_path if part.kind == "continuous" else linear_path
            blocks.append(way(starts[:, part.start : part.stop], stops[:, part.start : part.stop], shares))
        return torch.cat(blocks, dim=2)

    return route


def interpolate_codes(starts: Tensor, stops: Tensor, steps: int, route: CodePath = linear_path) -> Tensor:
    """Codes on the way, both ends included: N x d and N x d -> N x steps x d."""
    return route(starts, stops, torch.linspace(0, 1, steps).to(starts))


def closed_paths(stops: Tensor, steps: int, route: CodePath = linear_path) -> Tensor:
    """From stop to stop and back to the first: K x N x d -> (K * steps) x N x d."""
    shares = torch.arange(steps).to(stops) / steps
    legs = zip(stops, stops.roll(-1, dims=0), strict=True)
    return torch.cat([route(start, stop, shares).transpose(0, 1) for start, stop in legs])


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """Between vectors, N x d and N x d: N, in radians, exact for small angles too (Kahan)."""
    a, b = (z / z.norm(dim=1, keepdim=True).clamp(min=1e-12) for z in (a, b))
    return 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))


def traverse_dimensions(example: Tensor, mean: Tensor, deviation: Tensor, rows: Tensor, steps: int) -> Tensor:
    """Copies of a code, d, each with one dimension at mean + a * deviation, a from -3 to 3: rows * steps x d."""
    a = torch.linspace(-3, 3, steps, device=example.device, dtype=example.dtype)
    walks = example.repeat(len(rows), steps, 1)
    for k, row in enumerate(rows.tolist()):
        walks[k, :, row] = mean[row] + a * deviation[row]
    return walks.flatten(0, 1)


def traverse_categories(example: Tensor, part: LatentBlock) -> Tensor:
    """Copies of a code, d, each with one variable of `part` at one category: variables * categories x d."""
    walks = example.repeat(part.variables, part.categories, 1)
    for row in range(part.variables):
        start = part.start + row * part.categories
        walks[row, :, start : start + part.categories] = torch.eye(part.categories).to(example)
    return walks.flatten(0, 1)
