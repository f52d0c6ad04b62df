"""Learned latent codes of the training images, in place of an encoder."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

Projection = Literal["ball", "none"]
CHUNK = 2**16
"""Number of codes that are processed at a time when the Gaussian is fitted."""


class CodeTable(nn.Module):
    """Table of a code for each training image, and a Gaussian fitted to all codes.

    The codes are a buffer, not a parameter, so that neither a gradient nor an optimizer state of the table's size
    exists: the rows of a batch are looked up, optimized and written back. When a checkpoint is loaded, the table takes
    the checkpoint's number of rows.

    Args:
        dim: Width d of a code.
        projection: `ball` projects codes to the unit ball; `none` leaves them unconstrained.
    """

    codes: Tensor
    """N x d; empty before `initialize`."""
    mean: Tensor
    """Mean of the Gaussian, d."""
    covariance_sqrt: Tensor
    """Symmetric square root of the Gaussian's covariance, d x d."""

    def __init__(self, dim: int, projection: Projection) -> None:
        super().__init__()
        self.dim = dim
        self.projection = projection
        self.register_buffer("codes", torch.empty(0, dim))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("covariance_sqrt", torch.eye(dim) / (dim**0.5 if projection == "ball" else 1))

    def __len__(self) -> int:
        return len(self.codes)

    def project(self, codes: Tensor) -> Tensor:
        """Projects codes, N x d, to the unit ball, if `projection` is `ball`."""
        return codes / codes.norm(dim=1, keepdim=True).clamp(min=1) if self.projection == "ball" else codes

    def sample_initial(self, n: int) -> Tensor:
        """Draws n codes from the distribution of initial codes, a projected standard normal: n x d."""
        return self.project(torch.randn(n, self.dim, device=self.mean.device, dtype=self.mean.dtype))

    def sample_gaussian(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws n codes from the Gaussian fitted to the codes, and projects them: n x d.

        Args:
            n: Number of codes.
            generator: Random generator on the CPU; by default torch's global generator of the table's device.
        """
        device = self.mean.device if generator is None else "cpu"
        noise = torch.randn(n, self.dim, device=device, dtype=self.mean.dtype, generator=generator)
        with torch.autocast(self.mean.device.type, enabled=False):
            return self.project(self.mean + noise.to(self.mean) @ self.covariance_sqrt)

    def initialize(self, n: int) -> None:
        """Draws n initial codes, on the CPU, so that they are the same on any device."""
        drawn = self.project(torch.randn(n, self.dim))
        self.codes = drawn.to(self.codes)

    def lookup(self, index: Tensor) -> Tensor:
        """Returns a copy of the codes with these indices, int64 N, that takes a gradient: N x d."""
        return self.codes.index_select(0, index).requires_grad_()

    @torch.no_grad()
    def update(self, index: Tensor, codes: Tensor, max_rows: int) -> None:
        """Projects codes and writes them to the table; under DDP, those of all processes to the tables of all.

        Args:
            index: Indices of the codes, int64, N.
            codes: New codes, N x d.
            max_rows: Largest N of any process. Each process sends as many rows, and repeats its first row if N is less.
        """
        codes = self.project(codes.detach())
        if dist.is_available() and dist.is_initialized():
            padding = max(max_rows - len(index), 0)
            index = _all_gather_rows(torch.cat([index, index[:1].expand(padding)]))
            codes = _all_gather_rows(torch.cat([codes, codes[:1].expand(padding, -1)]))
        self.codes.index_copy_(0, index, codes)

    @torch.no_grad()
    def fit_gaussian(self) -> None:
        """Fits the Gaussian to the codes, in double precision."""
        if len(self) < 2:
            return
        device = torch.device("cpu") if self.codes.device.type == "mps" else self.codes.device
        chunks = [chunk.to(device) for chunk in self.codes.split(CHUNK)]
        mean = torch.stack([chunk.double().sum(dim=0) for chunk in chunks]).sum(dim=0) / len(self)
        covariance = mean.new_zeros(self.dim, self.dim)
        for chunk in chunks:
            centred = chunk.double() - mean
            covariance += centred.T @ centred / (len(self) - 1)
        variances, axes = torch.linalg.eigh(covariance)
        self.mean.copy_(mean)
        self.covariance_sqrt.copy_(axes * variances.clamp(min=0).sqrt() @ axes.T)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        stored = state_dict.get(f"{prefix}codes")
        if stored is not None:
            self.codes = self.codes.new_empty(len(stored), self.dim)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _all_gather_rows(rows: Tensor) -> Tensor:
    """Concatenates the rows of all processes, in order of rank. All have the same number of rows."""
    joined = rows.new_empty(dist.get_world_size() * len(rows), *rows.shape[1:])
    dist.all_gather_into_tensor(joined, rows.contiguous())
    return joined
