"""Codebooks: from maps of real numbers to tokens and back."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

BOUND = 1 - 1e-3
"""Share of its range that a bounded channel takes, so that no end of it is half a step away from a level."""


class Codebook(nn.Module, ABC):
    """K codes of c numbers. A map of c x h x w becomes h x w tokens, the number of a code for each position.

    Args:
        size: Number K of codes.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    @abstractmethod
    def tokens(self, maps: Tensor) -> Tensor:
        """Number of the code at each position: N x c x h x w -> int64 in [0, K), N x h x w."""

    @abstractmethod
    def lookup(self, tokens: Tensor) -> Tensor:
        """Codes of tokens: int64, N x h x w -> N x c x h x w."""

    def continuous(self, maps: Tensor) -> Tensor:
        """What quantisation changes as little as possible, and whose gradient it has: N x c x h x w."""
        return maps

    def quantize(self, maps: Tensor, tokens: Tensor) -> Tensor:
        """Codes of the tokens of maps, with the gradient of `continuous` (straight-through): N x c x h x w."""
        continuous = self.continuous(maps)
        return self.lookup(tokens) + (continuous - continuous.detach())

    def renew(self, maps: Tensor) -> None:
        """Replaces unused codes, before the maps of a training batch are quantised."""

    def update(self, maps: Tensor, tokens: Tensor) -> None:
        """Learns from the maps of a training batch and their tokens."""


class EMACodebook(Codebook):
    """Learned codes: each is the EMA of the encoder's outputs that are nearest to it.

    With N_k the EMA of the number n_k of outputs in a batch whose nearest code is e_k, and s_k their sum,

        N_k <- decay N_k + (1 - decay) n_k,    e_k <- e_k + (1 - decay) (s_k - n_k e_k) / N_k,

    which is e_k = m_k / N_k with the EMA m_k of s_k (van den Oord et al. 2017, arXiv 1711.00937, appendix A.1). Under
    DDP, the sums are those of all processes, so that all have the same codes.

    A code with N_k of at most `renewal` times the mean is replaced by an output of the batch, drawn at random, and its
    N_k becomes the mean (Dhariwal et al. 2020, arXiv 2005.00341, section 3.1). As N_k is 0 at first, the first batch
    sets the whole codebook.

    Args:
        size: Number K of codes.
        channels: Width c of a code.
        decay: Decay of the EMAs.
        renewal: Share of the mean use at which a code is replaced.
    """

    codes: Tensor
    """K x c."""
    counts: Tensor
    """EMAs N_k, K."""

    def __init__(self, size: int, channels: int, decay: float, renewal: float) -> None:
        super().__init__(size)
        self.decay = decay
        self.renewal = renewal
        self.register_buffer("codes", torch.randn(size, channels))
        self.register_buffer("counts", torch.zeros(size))

    @torch.no_grad()
    def tokens(self, maps: Tensor) -> Tensor:
        with torch.autocast(maps.device.type, enabled=False):
            distances = self.codes.square().sum(dim=1) - 2 * self._rows(maps) @ self.codes.T  # (N h w, K)
        return distances.argmin(dim=1).view(len(maps), *maps.shape[2:])

    def lookup(self, tokens: Tensor) -> Tensor:
        return self.codes[tokens].permute(0, 3, 1, 2)

    @torch.no_grad()
    def renew(self, maps: Tensor) -> None:
        rows, mean = self._rows(maps), self.counts.mean()
        drawn = rows[torch.randint(len(rows), (self.size,), device=rows.device)]  # (K, c)
        if dist.is_available() and dist.is_initialized():  # each process gives every n-th code
            own = torch.arange(self.size, device=rows.device) % dist.get_world_size() == dist.get_rank()
            dist.all_reduce(drawn := drawn * own[:, None])
        unused = self.counts <= self.renewal * mean
        self.codes.copy_(torch.where(unused[:, None], drawn, self.codes))
        self.counts.copy_(torch.where(unused, mean, self.counts))

    @torch.no_grad()
    def update(self, maps: Tensor, tokens: Tensor) -> None:
        rows = self._rows(maps)
        nearest = rows.new_zeros(len(rows), self.size).scatter_(1, tokens.view(-1, 1), 1.0)  # one-hot
        with torch.autocast(maps.device.type, enabled=False):
            sums = torch.cat([nearest.T @ rows, nearest.sum(dim=0)[:, None]], dim=1)  # (K, c + 1)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        total, number = sums[:, :-1], sums[:, -1]
        self.counts.lerp_(number, 1 - self.decay)
        step = (total - number[:, None] * self.codes) / self.counts.clamp(min=1e-12)[:, None]
        self.codes.add_(step, alpha=1 - self.decay)

    def _rows(self, maps: Tensor) -> Tensor:
        """One row for each position: N x c x h x w -> N h w x c."""
        return maps.detach().permute(0, 2, 3, 1).flatten(0, 2).to(self.codes.dtype)


class ScalarCodebook(Codebook):
    """Fixed codes, all combinations of a few levels in each channel.

    Channel i, with L levels, is bounded to about L steps, round(tanh(z + shift) (L - 1) / 2 - offset), and divided by
    floor(L / 2), so that levels are in [-1, 1] and 0 is one of them (Mentzer et al. 2023, arXiv 2309.15505, appendix
    A.1). For an even L, the offset is 1/2 and the levels reach from -1 to 1 - 2 / L. The first channel changes fastest
    with the token.

    Args:
        levels: Number L of levels of each channel.
    """

    levels: Tensor
    """int64, c x 1 x 1."""
    strides: Tensor
    """Difference of two tokens whose codes are one level of a channel apart: int64, c x 1 x 1."""

    def __init__(self, levels: Sequence[int]) -> None:
        numbers = torch.tensor(levels)
        super().__init__(int(numbers.prod()))
        strides = torch.cat([torch.ones(1, dtype=torch.int64), numbers[:-1].cumprod(dim=0)])
        self.register_buffer("levels", numbers[:, None, None], persistent=False)
        self.register_buffer("strides", strides[:, None, None], persistent=False)

    def continuous(self, maps: Tensor) -> Tensor:
        half = (self.levels - 1) * BOUND / 2
        offset = (self.levels + 1) % 2 / 2
        bounded = (maps.float() + (offset / half).tan()).tanh() * half - offset
        return bounded / (self.levels // 2)

    @torch.no_grad()
    def tokens(self, maps: Tensor) -> Tensor:
        middle = self.levels // 2
        digits = (self.continuous(maps) * middle).round().long() + middle  # (N, c, h, w), each in [0, L)
        return (digits * self.strides).sum(dim=1)

    def lookup(self, tokens: Tensor) -> Tensor:
        middle = self.levels // 2
        return (tokens[:, None] // self.strides % self.levels - middle) / middle


class QuantizedEncoder(nn.Module):
    """Encoder followed by the quantisation of its maps.

    Args:
        network: Images, N x C x H x W -> flattened maps, N x (c h w).
        codebook: Codes of the positions of a map.
        code_shape: Channels c, height h and width w of a map.
    """

    def __init__(self, network: nn.Module, codebook: Codebook, code_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.network = network
        self.codebook = codebook
        self.code_shape = code_shape

    def maps(self, images: Tensor) -> Tensor:
        """Maps before the quantisation: N x C x H x W -> N x c x h x w."""
        return self.network(images).unflatten(1, self.code_shape)

    def forward(self, images: Tensor) -> Tensor:
        """Quantised maps, flattened: N x C x H x W -> N x (c h w)."""
        maps = self.maps(images)
        return self.codebook.quantize(maps, self.codebook.tokens(maps)).flatten(1).to(images.dtype)


def token_counts(tokens: Tensor, size: int) -> Tensor:
    """Number of each token, of `size` different ones: int64 of any shape -> int64, size."""
    flat = tokens.flatten()
    return flat.new_zeros(size).scatter_add_(0, flat, torch.ones_like(flat))


def perplexity(counts: Tensor) -> Tensor:
    """exp(-sum_k p_k log p_k) of the shares p_k of tokens: the number of codes that are used, were all used equally.

    Args:
        counts: Number of each token, K.
    """
    shares = counts / counts.sum()
    return torch.special.entr(shares).sum().exp()
