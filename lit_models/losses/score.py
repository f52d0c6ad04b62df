"""Traces of the Jacobian of a vector field, for score matching and for likelihoods."""

from collections.abc import Sequence

import torch
from torch import Tensor


def jacobian_trace(field: Tensor, points: Tensor, create_graph: bool = True) -> Tensor:
    """Returns sum_i dF_i / dx_i of a field at N points, with one derivative per dimension: N.

    Args:
        field: F(x), N x ..., each row a function of the same row of `points` only.
        points: x, N x ..., which require a gradient.
        create_graph: Makes the trace differentiable.
    """
    rows = field.flatten(1)
    total = torch.zeros(len(rows), device=rows.device, dtype=rows.dtype)
    for i in range(rows.shape[1]):
        (gradient,) = torch.autograd.grad(rows[:, i].sum(), points, create_graph=create_graph, retain_graph=True)
        total = total + gradient.flatten(1)[:, i]
    return total


def estimated_jacobian_trace(field: Tensor, points: Tensor, slices: int = 1) -> Tensor:
    """Returns v' (dF/dx) v for random signs v, an unbiased estimate of the trace (Hutchinson 1989): N.

    Args:
        field: F(x), N x ..., each row a function of the same row of `points` only.
        points: x, N x ..., which require a gradient.
        slices: Number of vectors v to average over.
    """
    return projected_jacobian_trace(field, points, [random_signs(field) for _ in range(slices)])


def projected_jacobian_trace(
    field: Tensor, points: Tensor, probes: Sequence[Tensor], create_graph: bool = True
) -> Tensor:
    """Returns the mean of v' (dF/dx) v over given vectors v: N.

    It is an unbiased estimate of the trace if the entries of v are independent, with mean 0 and variance 1.

    Args:
        field: F(x), N x ..., each row a function of the same row of `points` only.
        points: x, N x ..., which require a gradient.
        probes: Vectors v, N x ... each.
        create_graph: Makes the estimate differentiable.
    """
    total = torch.zeros(len(field), device=field.device, dtype=field.dtype)
    for number, v in enumerate(probes, 1):
        keep = create_graph or number < len(probes)
        (gradient,) = torch.autograd.grad(field, points, v, create_graph=create_graph, retain_graph=keep)
        total = total + (gradient * v).flatten(1).sum(dim=1) / len(probes)
    return total


def random_signs(like: Tensor) -> Tensor:
    """Independent random signs in the shape of a tensor."""
    return torch.randint(0, 2, like.shape, device=like.device).to(like.dtype) * 2 - 1
