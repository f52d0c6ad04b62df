"""Planes of the latent space."""

from typing import NamedTuple

import torch
from torch import Tensor

from genlab.latents import has_normal_prior
from lit_models.common.capabilities import HasLatentBlocks


class Plane(NamedTuple):
    """A plane of the latent space."""

    centre: Tensor
    """d."""
    directions: Tensor
    """To the right and upwards, each a standard deviation long, 2 x d."""
    names: tuple[str, str]
    """What they are."""


PRIOR_PLANE = Plane(torch.zeros(2), torch.eye(2), ("z1", "z2"))


def principal_axes(codes: Tensor) -> tuple[Tensor, Tensor]:
    """The first two principal axes of codes, N x d: 2 x d, float64, on the CPU, and the share of variance of each, 2.

    The sign of an axis is arbitrary; it is chosen so that the axis' largest entry is positive.
    """
    _, spread, axes = torch.linalg.svd((codes - codes.mean(dim=0)).cpu().double(), full_matrices=False)
    axes = axes[:2]
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    variance = spread.square()
    return axes * largest.sign(), variance[:2] / variance.sum().clamp(min=1e-30)


def project_to_plane(
    codes: Tensor, categorical: bool = False, basis: Tensor | None = None
) -> tuple[Tensor, tuple[str, str]]:
    """Codes, N x d, as points of a plane, N x 2, on the CPU, and what its axes are.

    Args:
        categorical: codes are one-hot: noise of a fiftieth of the spread shows how many fall on one point.
        basis: the codes that determine the principal components; these codes themselves by default.
    """
    if codes.shape[1] == 2:
        return codes.cpu(), ("z1", "z2")
    basis = codes if basis is None else basis
    axes, shares = principal_axes(basis)
    points = (codes - basis.mean(dim=0)).cpu().double() @ axes.T
    noise = ""
    if categorical:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(points.shape, generator=generator, dtype=points.dtype)
        points = points + 0.02 * points.std(dim=0, correction=0) * drawn
        noise = ", with noise"
    first, second = (f"principal component {k + 1} ({shares[k]:.0%} of the variance{noise})" for k in range(2))
    return points.float(), (first, second)


def normal_quantiles(steps: int) -> Tensor:
    """The standard normal's quantiles at the middles of `steps` equal shares, rising."""
    shares = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    return torch.special.ndtri(shares).float()


def has_prior_plane(model: object) -> bool:
    """Whether a model's codes are two numbers of a standard normal law."""
    if not isinstance(model, HasLatentBlocks) or not has_normal_prior(model):
        return False
    return [(part.kind, part.variables) for part in model.latent_blocks()] == [("continuous", 2)]


def principal_plane(codes: Tensor) -> Plane:
    """The plane to draw codes, N x d, on: their own where d is 2, else that of their first two principal components."""
    centre = codes.mean(dim=0)
    if codes.shape[1] == 2:
        names = ("z1, in standard deviations", "z2, in standard deviations")
        return Plane(centre, torch.diag(codes.std(dim=0, correction=0)), names)
    axes, shares = principal_axes(codes)
    deviation = ((codes - centre).cpu().double() @ axes.T).std(dim=0, correction=0)
    first, second = (f"principal component {k + 1} ({shares[k]:.0%}), in standard deviations" for k in range(2))
    return Plane(centre, (axes * deviation[:, None]).to(codes), (first, second))


def plane_grid(centre: Tensor, directions: Tensor, along: Tensor) -> Tensor:
    """Codes of a grid, row by row from the top left: the first direction grows to the right, the second upwards.

    Args:
        centre, directions: of the plane, d and 2 x d.
        along: where the nodes lie on each axis, S, rising.

    Returns:
        S * S x d.
    """
    along = along.to(centre)
    upwards, right = torch.meshgrid(along.flip(0), along, indexing="ij")
    return centre + right.reshape(-1, 1) * directions[0] + upwards.reshape(-1, 1) * directions[1]
