"""Planes of the latent space, on which codes are drawn and decoded."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from genlab.finite import check_finite
from genlab.latents import dimension_name, has_normal_prior
from lit_models.common.capabilities import HasLatentBlocks


class Plane(NamedTuple):
    """A plane of the latent space."""

    centre: Tensor
    """The code in the middle, d."""
    directions: Tensor
    """The directions to the right and upwards, each one standard deviation long, 2 x d."""
    names: tuple[str, str]
    """Labels of the two axes."""


TWO_DIMENSIONS = (dimension_name(0), dimension_name(1))
PRIOR_PLANE = Plane(torch.zeros(2), torch.eye(2), TWO_DIMENSIONS)
"""The plane of two-dimensional codes with a standard normal prior."""


def principal_axes(codes: Tensor) -> tuple[Tensor, Tensor]:
    """The first two principal axes of codes, N x d, and the share of the variance on each.

    The sign of an axis is arbitrary; it is chosen so that the entry of largest absolute value is positive. A single
    code, or codes of one number, have one axis only; the other one is zero.

    Returns:
        The axes, 2 x d, float64, and the shares, 2; both on the CPU.

    Raises:
        NotFiniteError: A code is NaN or infinite.
    """
    check_finite(codes, "codes")
    _, spread, axes = torch.linalg.svd((codes - codes.mean(dim=0)).cpu().double(), full_matrices=False)
    axes = axes[:2]
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    variance = spread.square()
    missing = 2 - len(axes)
    shares = variance[:2] / variance.sum().clamp(min=1e-30)
    return F.pad(axes * largest.sign(), (0, 0, 0, missing)), F.pad(shares, (0, missing))


def project_to_plane(
    codes: Tensor, categorical: bool = False, basis: Tensor | None = None
) -> tuple[Tensor, tuple[str, str]]:
    """Projects codes to the plane of their first two principal components; two-dimensional codes stay as they are.

    Args:
        codes: N x d.
        categorical: The codes are one-hot. Noise of 2% of the standard deviation then separates equal points.
        basis: The codes that determine the principal components; `codes` by default.

    Returns:
        The points, N x 2, on the CPU, and the labels of the two axes.

    Raises:
        NotFiniteError: A code is NaN or infinite.
    """
    check_finite(codes, "codes")
    if codes.shape[1] == 2:
        return codes.cpu(), TWO_DIMENSIONS
    basis = codes if basis is None else basis
    axes, shares = principal_axes(basis)
    points = (codes - basis.mean(dim=0)).cpu().double() @ axes.T
    noise = ""
    if categorical:
        generator = torch.Generator().manual_seed(0)
        gaussian = torch.randn(points.shape, generator=generator, dtype=points.dtype)
        points = points + 0.02 * points.std(dim=0, correction=0) * gaussian
        noise = ", with noise"
    first, second = (f"principal component {k + 1} ({shares[k]:.0%} of the variance{noise})" for k in range(2))
    return points.float(), (first, second)


def normal_quantiles(steps: int) -> Tensor:
    """The quantiles of the standard normal distribution at the middles of `steps` equal shares, in rising order."""
    shares = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    return torch.special.ndtri(shares).float()


def has_prior_plane(model: object) -> bool:
    """Whether a model's codes are two real numbers with a standard normal prior."""
    if not isinstance(model, HasLatentBlocks) or not has_normal_prior(model):
        return False
    return [(block.kind, block.num_variables) for block in model.latent_blocks()] == [("continuous", 2)]


def principal_plane(codes: Tensor) -> Plane:
    """The plane of the first two principal components of codes, N x d; for d = 2 the plane of the two dimensions."""
    centre = codes.mean(dim=0)
    if codes.shape[1] == 2:
        first, second = (f"{name}, in standard deviations" for name in TWO_DIMENSIONS)
        return Plane(centre, torch.diag(codes.std(dim=0, correction=0)), (first, second))
    axes, shares = principal_axes(codes)
    deviation = ((codes - centre).cpu().double() @ axes.T).std(dim=0, correction=0)
    first, second = (f"principal component {k + 1} ({shares[k]:.0%}), in standard deviations" for k in range(2))
    return Plane(centre, (axes * deviation[:, None]).to(codes), (first, second))


def plane_grid(centre: Tensor, directions: Tensor, along: Tensor) -> Tensor:
    """Codes at the nodes of a grid on a plane, row by row from the top left.

    The first direction grows to the right, the second upwards.

    Args:
        centre, directions: Those of the plane, d and 2 x d.
        along: Positions of the nodes on each axis, in units of the directions, S, in rising order.

    Returns:
        S * S x d.
    """
    along = along.to(centre)
    upwards, right = torch.meshgrid(along.flip(0), along, indexing="ij")
    return centre + right.reshape(-1, 1) * directions[0] + upwards.reshape(-1, 1) * directions[1]
