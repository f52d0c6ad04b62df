"""Traces of the Jacobian of a vector field, for score matching."""

import torch
from torch import Tensor


def jacobian_trace(field: Tensor, points: Tensor) -> Tensor:
    """Returns sum_i dF_i / dx_i of a field at N points, with one derivative per dimension: N.

    Args:
        field: F(x), N x ..., each row a function of the same row of `points` only.
        points: x, N x ..., which require a gradient.
    """
    rows = field.flatten(1)
    total = torch.zeros(len(rows), device=rows.device, dtype=rows.dtype)
    for i in range(rows.shape[1]):
        (gradient,) = torch.autograd.grad(rows[:, i].sum(), points, create_graph=True)
        total = total + gradient.flatten(1)[:, i]
    return total


def estimated_jacobian_trace(field: Tensor, points: Tensor, slices: int = 1) -> Tensor:
    """Returns v' (dF/dx) v for random signs v, an unbiased estimate of the trace (Hutchinson 1989): N.

    Args:
        field: F(x), N x ..., each row a function of the same row of `points` only.
        points: x, N x ..., which require a gradient.
        slices: Number of vectors v to average over.
    """
    total = torch.zeros(len(field), device=field.device, dtype=field.dtype)
    for _ in range(slices):
        v = torch.randint(0, 2, field.shape, device=field.device).to(field.dtype) * 2 - 1
        (gradient,) = torch.autograd.grad((field * v).sum(), points, create_graph=True)
        total = total + (gradient * v).flatten(1).sum(dim=1) / slices
    return total
