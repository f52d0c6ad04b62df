"""Traces of the Jacobian of a field, for score matching."""

import torch
from torch import Tensor


def trace(field: Tensor, points: Tensor) -> Tensor:
    """sum_i dF_i / dx_i of a field at each of N points, by a derivative for each dimension: N.

    Args:
        field: F(x), N x ..., each row a function of the same row of `points` alone.
        points: x, N x ..., with a gradient.
    """
    rows = field.flatten(1)
    total = torch.zeros(len(rows), device=rows.device, dtype=rows.dtype)
    for i in range(rows.shape[1]):
        (gradient,) = torch.autograd.grad(rows[:, i].sum(), points, create_graph=True)
        total = total + gradient.flatten(1)[:, i]
    return total


def sliced_trace(field: Tensor, points: Tensor, slices: int = 1) -> Tensor:
    """v' (dF/dx) v, v of random signs, which is the trace on average (Hutchinson 1989): N, mean over so many v.

    Args:
        field, points: as in `trace`.
    """
    total = torch.zeros(len(field), device=field.device, dtype=field.dtype)
    for _ in range(slices):
        v = torch.randint(0, 2, field.shape, device=field.device).to(field.dtype) * 2 - 1
        (gradient,) = torch.autograd.grad((field * v).sum(), points, create_graph=True)
        total = total + (gradient * v).flatten(1).sum(dim=1) / slices
    return total
