"""Networks that see the noise in noisy images, to be injected into diffusion and score models."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.component import Component
from lit_models.networks.init import channels_last
from lit_models.networks.mlp import mlp


class NoiseNetwork(Component, ABC):
    @abstractmethod
    def network(self, image_shape: Sequence[int], num_classes: int | None = None) -> nn.Module:
        """Noisy images, N x C x H x W, their levels, N in (0, 1], and for a number of classes labels, int64 N, of which
        `num_classes` stands for any, to the noise in the images, N x C x H x W.

        Raises:
            ValueError: it is not for images of that size.
        """


class UNet(NoiseNetwork):
    """Residual blocks at falling and again at rising sizes, with what they saw on the way down beside them.

    Ho et al. 2020, arXiv 2006.11239, appendix B, after Ronneberger et al. 2015, arXiv 1505.04597: group norm, the level
    as a shift and scale in each block (Nichol and Dhariwal 2021, 2102.09672), attention at the smallest size.

    Args:
        channels: of the maps at each size, each size half the one before.
        blocks: at each size, on the way down; one more on the way up.
        attention: each place of the smallest maps looks at all others.
        patch: side of the squares of pixels that the largest maps have in one place; 1 for single pixels.
        dropout: share of a block's maps that training leaves out.

    Raises:
        ValueError: a number out of range; from `network`, an image whose sides cannot be halved so often.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (32, 64, 64),
        blocks: int = 1,
        attention: bool = True,
        patch: int = 1,
        dropout: float = 0.0,
    ) -> None:
        if not channels or min(channels) < 1 or blocks < 1 or patch < 1 or not 0 <= dropout < 1:
            raise ValueError(
                f"channels are {list(channels)}, blocks {blocks}, patch {patch} and dropout {dropout}; there must be"
                " channels, all of them, blocks and patch at least 1, and dropout from 0 to below 1"
            )
        self.channels = channels
        self.blocks = blocks
        self.attention = attention
        self.patch = patch
        self.dropout = dropout

    def network(self, image_shape: Sequence[int], num_classes: int | None = None) -> nn.Module:
        divisor = self.patch * 2 ** (len(self.channels) - 1)
        if image_shape[1] % divisor or image_shape[2] % divisor:
            raise ValueError(
                f"images of {image_shape[1]} x {image_shape[2]} cannot be cut into patches of {self.patch} and halved"
                f" {len(self.channels) - 1} times; their sides must be multiples of {divisor}"
            )
        return channels_last(_UNet(self, image_shape[0], num_classes))


class MLPNoise(NoiseNetwork):
    """Fully connected layers of the image and of its level, for points of the plane and images of few pixels.

    Args:
        hidden_dims: widths between the two.
    """

    def __init__(self, hidden_dims: tuple[int, ...] = (128, 128, 128)) -> None:
        if not hidden_dims or min(hidden_dims) < 1:
            raise ValueError(f"hidden_dims are {list(hidden_dims)}; there must be some, all of at least 1")
        self.hidden_dims = hidden_dims

    def network(self, image_shape: Sequence[int], num_classes: int | None = None) -> nn.Module:
        return _MLP(math.prod(image_shape), self.hidden_dims, num_classes)


class Condition(nn.Module):
    """The level, and the class if there is one, as a vector: sines and cosines of 1000 t (Vaswani et al. 2017,
    1706.03762, section 3.5) through a small network.

    Args:
        dim: of the vector; even.
        num_classes: K, of labels 0 ... K - 1, and of K for any.
    """

    rates: Tensor

    def __init__(self, dim: int, num_classes: int | None) -> None:
        super().__init__()
        self.register_buffer("rates", torch.logspace(3, -1, dim // 2), persistent=False)
        self.first = nn.Linear(2 * (dim // 2), dim)
        self.second = nn.Linear(dim, dim)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes + 1, dim)

    def forward(self, levels: Tensor, labels: Tensor | None = None) -> Tensor:
        """N, N -> N x dim."""
        angles = levels.float()[:, None] * self.rates
        waves = torch.cat([angles.sin(), angles.cos()], dim=1).to(self.first.weight.dtype)
        found = self.second(F.silu(self.first(waves)))
        return found if self.embedding is None else found + self.embedding(labels)


class ResidualBlock(nn.Module):
    """Two convolutions, each after group norm and SiLU, the second norm scaled and shifted by the condition."""

    def __init__(self, c_in: int, c_out: int, condition_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm_1 = group_norm(c_in)
        self.convolution_1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.condition = nn.Linear(condition_dim, 2 * c_out)
        self.norm_2 = group_norm(c_out)
        self.dropout = nn.Dropout(dropout)
        self.convolution_2 = zeroed(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """N x c_in x H x W, N x condition_dim -> N x c_out x H x W."""
        h = self.convolution_1(F.silu(self.norm_1(x)))
        scale, shift = self.condition(F.silu(condition))[:, :, None, None].chunk(2, dim=1)
        h = self.norm_2(h) * (1 + scale) + shift
        return self.skip(x) + self.convolution_2(self.dropout(F.silu(h)))


class Attention(nn.Module):
    """Each place takes from all places what softmax(q k / sqrt(d)) says (Vaswani et al. 2017, 1706.03762), one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x C x H x W."""
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, dim=1)  # (N, C, HW) each
        weights = (q.transpose(1, 2) @ k / math.sqrt(q.shape[1])).softmax(dim=2)  # (N, HW, HW)
        return x + self.out((v @ weights.transpose(1, 2)).view_as(x))


class _UNet(nn.Module):
    def __init__(self, plan: UNet, image_channels: int, num_classes: int | None) -> None:
        super().__init__()
        channels, condition_dim = plan.channels, 4 * plan.channels[0]
        in_channels = image_channels * plan.patch**2
        self.condition = Condition(condition_dim, num_classes)
        self.fold, self.unfold = nn.PixelUnshuffle(plan.patch), nn.PixelShuffle(plan.patch)
        self.first = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, seen = channels[0], [channels[0]]
        for place, c in enumerate(channels):
            if place:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                seen.append(width)
            for _ in range(plan.blocks):
                self.down.append(ResidualBlock(width, c, condition_dim, plan.dropout))
                width = c
                seen.append(width)
        self.middle = ResidualBlock(width, width, condition_dim, plan.dropout)
        self.attention = Attention(width) if plan.attention else nn.Identity()
        for place, c in reversed(list(enumerate(channels))):
            for _ in range(plan.blocks + 1):
                self.up.append(ResidualBlock(width + seen.pop(), c, condition_dim, plan.dropout))
                width = c
            if place:
                self.up.append(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1)))
        self.last = nn.Sequential(group_norm(width), nn.SiLU(), zeroed(nn.Conv2d(width, in_channels, 3, padding=1)))

    def forward(self, noisy: Tensor, levels: Tensor, labels: Tensor | None = None) -> Tensor:
        condition = self.condition(levels, labels)
        x = self.first(self.fold(noisy))
        seen = [x]
        for layer in self.down:
            x = layer(x, condition) if isinstance(layer, ResidualBlock) else layer(x)
            seen.append(x)
        x = self.attention(self.middle(x, condition))
        for layer in self.up:
            x = layer(torch.cat([x, seen.pop()], dim=1), condition) if isinstance(layer, ResidualBlock) else layer(x)
        return self.unfold(self.last(x))


class _MLP(nn.Module):
    def __init__(self, dim: int, hidden_dims: Sequence[int], num_classes: int | None) -> None:
        super().__init__()
        self.condition = Condition(32, num_classes)
        self.layers = mlp([dim + 32, *hidden_dims, dim], "silu")

    def forward(self, noisy: Tensor, levels: Tensor, labels: Tensor | None = None) -> Tensor:
        beside = self.condition(levels, labels)
        return self.layers(torch.cat([noisy.flatten(1), beside], dim=1)).view_as(noisy)


def group_norm(channels: int) -> nn.GroupNorm:
    """In groups of eight channels at least, eight groups at most."""
    groups = next(g for g in range(max(1, min(8, channels // 8)), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with weights 0: what it is added to is at first left as it is."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
