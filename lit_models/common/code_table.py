"""Codes of training images that are learned themselves, in the place of an encoder."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

Projection = Literal["ball", "none"]
CHUNK = 2**16
"""Codes whose products are summed up at a time."""


class CodeTable(nn.Module):
    """A code for each training image, and the Gaussian fitted to all codes.

    The codes are a buffer and no parameter: no gradient and no optimizer's state of the table's size exists. The rows
    of a batch are taken out, learn, and are put back. It takes as many rows as a checkpoint has.

    Args:
        dim: d, of a code.
        projection: codes stay in the unit ball, or go anywhere.
    """

    codes: Tensor
    """N x d; none before `fill`."""
    mean: Tensor
    """d, of the Gaussian."""
    root: Tensor
    """d x d, symmetric; its square is the Gaussian's covariance."""

    def __init__(self, dim: int, projection: Projection) -> None:
        super().__init__()
        self.dim = dim
        self.projection = projection
        self.register_buffer("codes", torch.empty(0, dim))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("root", torch.eye(dim) / (dim**0.5 if projection == "ball" else 1))

    def __len__(self) -> int:
        return len(self.codes)

    def projected(self, codes: Tensor) -> Tensor:
        """Codes outside the ball, if there is one, at the nearest place on it."""
        return codes / codes.norm(dim=1, keepdim=True).clamp(min=1) if self.projection == "ball" else codes

    def initial(self, n: int) -> Tensor:
        """Draws of the law of codes before training, standard normal and projected: n x d."""
        return self.projected(torch.randn(n, self.dim, device=self.mean.device, dtype=self.mean.dtype))

    def gaussian(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws of the Gaussian fitted to the codes, projected as they are: n x d.

        Args:
            generator: on the CPU; torch's global one of the table's device by default.
        """
        device = self.mean.device if generator is None else "cpu"
        noise = torch.randn(n, self.dim, device=device, dtype=self.mean.dtype, generator=generator)
        with torch.autocast(self.mean.device.type, enabled=False):
            return self.projected(self.mean + noise.to(self.mean) @ self.root)

    def fill(self, n: int) -> None:
        """Draws n codes of the initial law, on the CPU, so that they are the same on any device."""
        drawn = self.projected(torch.randn(n, self.dim))
        self.codes = drawn.to(self.codes)

    def rows(self, index: Tensor) -> Tensor:
        """Codes, N x d, by their numbers, int64 N, to be learned."""
        return self.codes.index_select(0, index).requires_grad_()

    @torch.no_grad()
    def put(self, index: Tensor, codes: Tensor, most: int) -> None:
        """Takes codes back, N x d, projected, by their numbers; those of all processes in all of their tables.

        Args:
            most: as many as any process can have. It hands over so many, its first one more than once.
        """
        codes = self.projected(codes.detach())
        if dist.is_available() and dist.is_initialized():
            fill = max(most - len(index), 0)
            index = _of_all_processes(torch.cat([index, index[:1].expand(fill)]))
            codes = _of_all_processes(torch.cat([codes, codes[:1].expand(fill, -1)]))
        self.codes.index_copy_(0, index, codes)

    @torch.no_grad()
    def fit(self) -> None:
        """Fits the Gaussian to the codes: their mean, and the root of their covariance, in double precision."""
        if len(self) < 2:
            return
        device = torch.device("cpu") if self.codes.device.type == "mps" else self.codes.device
        parts = [part.to(device) for part in self.codes.split(CHUNK)]
        mean = torch.stack([part.double().sum(dim=0) for part in parts]).sum(dim=0) / len(self)
        covariance = mean.new_zeros(self.dim, self.dim)
        for part in parts:
            centred = part.double() - mean
            covariance += centred.T @ centred / (len(self) - 1)
        variances, axes = torch.linalg.eigh(covariance)
        self.mean.copy_(mean)
        self.root.copy_(axes * variances.clamp(min=0).sqrt() @ axes.T)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        stored = state_dict.get(f"{prefix}codes")
        if stored is not None:
            self.codes = self.codes.new_empty(len(stored), self.dim)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _of_all_processes(rows: Tensor) -> Tensor:
    """Rows of each process, of which all have as many, by its rank."""
    joined = rows.new_empty(dist.get_world_size() * len(rows), *rows.shape[1:])
    dist.all_gather_into_tensor(joined, rows.contiguous())
    return joined
