"""Autoregressive normalizing flows on vectors, built by zuko."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

FlowKind = Literal["affine", "spline"]


class AutoregressiveFlow(nn.Module):
    """Invertible map y = f(x; c) of vectors, a sequence of autoregressive maps in alternating order of the dimensions.

    In each map, y_i = g(x_i; a_i), and a masked network (Germain et al. 2015, arXiv 1502.03509) computes a_i from
    x_1 ... x_{i-1} and from the context c. `forward` evaluates all dimensions at once, `inverse` one after the other.

    - affine: g scales and shifts. From noise to codes it is an inverse autoregressive flow (Kingma et al. 2016, arXiv
      1606.04934), from codes to noise a masked autoregressive flow (Papamakarios et al. 2017, arXiv 1705.07057).
    - spline: g is a monotonic rational-quadratic spline of 8 bins on [-5, 5] and the identity elsewhere (Durkan et al.
      2019, arXiv 1906.04032).

    All is computed in the precision of the weights, also under autocast.

    Args:
        kind: Kind of the maps g.
        dim: Number d of dimensions.
        context_dim: Width of the context; 0 for none.
        maps: Number of autoregressive maps.
        hidden_dims: Widths of the hidden layers of each masked network.

    Raises:
        ValueError: a number is below 1.
    """

    def __init__(self, kind: FlowKind, dim: int, context_dim: int, maps: int, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        check_flow(maps, hidden_dims)
        from zuko.flows import MAF, NSF  # zuko turns off the validation of torch.distributions when it is imported

        flow = {"affine": MAF, "spline": NSF}[kind]
        self.transform = flow(dim, context_dim, transforms=maps, hidden_features=tuple(hidden_dims)).transform

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """... x d, and context ... x context_dim, which is broadcast -> f(x; c), ... x d, and log |det df/dx|, ..."""
        with torch.autocast(x.device.type, enabled=False):
            x, context = self._cast(x), None if context is None else self._cast(context)
            y, log_det = self.transform(context).call_and_ladj(x)
        return y.float(), log_det.float()

    def inverse(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """The x with f(x; c) = y: ... x d -> ... x d."""
        with torch.autocast(y.device.type, enabled=False):
            y, context = self._cast(y), None if context is None else self._cast(context)
            return self.transform(context).inv(y).float()

    def _cast(self, values: Tensor) -> Tensor:
        return values.to(next(self.parameters()).dtype)


def check_flow(maps: int, hidden_dims: Sequence[int]) -> None:
    """Raises an error if a flow cannot have these sizes.

    Raises:
        ValueError: a number is below 1.
    """
    if maps < 1 or any(width < 1 for width in hidden_dims):
        raise ValueError(f"maps is {maps} and hidden_dims {list(hidden_dims)}; each number must be at least 1")
