"""A U-Net that predicts the noise in noisy images, given the noise level and, if there are classes, the class."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NoiseLevelEmbedding(nn.Module):
    """Embeds the noise level, and the class if there is one, as a vector.

    The level passes through sines and cosines (Vaswani et al. 2017, arXiv 1706.03762, section 3.5) and a small network.

    Args:
        dim: Width of the embedding; even.
        num_classes: Number K of classes. Label K stands for "any class". None: there are no labels.
    """

    rates: Tensor

    def __init__(self, dim: int, num_classes: int | None) -> None:
        super().__init__()
        self.register_buffer("rates", torch.logspace(3, -1, dim // 2), persistent=False)
        self.linear_1 = nn.Linear(2 * (dim // 2), dim)
        self.linear_2 = nn.Linear(dim, dim)
        self.class_embedding = None if num_classes is None else nn.Embedding(num_classes + 1, dim)

    def forward(self, levels: Tensor, labels: Tensor | None = None) -> Tensor:
        """levels: N, in [-2, 2]; labels: int64, N -> N x dim."""
        angles = levels.float()[:, None] * self.rates
        waves = torch.cat([angles.sin(), angles.cos()], dim=1).to(self.linear_1.weight.dtype)
        embedding = self.linear_2(F.silu(self.linear_1(waves)))
        return embedding if self.class_embedding is None else embedding + self.class_embedding(labels)


class ResidualBlock(nn.Module):
    """Two convolutions, each after group norm and SiLU. An embedding scales and shifts the second norm's output.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        embedding_dim: Width of the embedding; None for a block without one.
        dropout: Probability of dropping an activation before the second convolution.
        attention: Adds self-attention to the output.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        embedding_dim: int | None = None,
        dropout: float = 0.0,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.norm_1 = group_norm(c_in)
        self.conv_1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.scale_shift = None if embedding_dim is None else nn.Linear(embedding_dim, 2 * c_out)
        self.norm_2 = group_norm(c_out)
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = zero_init(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        self.attention = SelfAttention(c_out) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """x: N x c_in x H x W; embedding: N x embedding_dim, if the block has one -> N x c_out x H x W."""
        h = self.norm_2(self.conv_1(F.silu(self.norm_1(x))))
        if self.scale_shift is not None:
            assert embedding is not None
            scale, shift = self.scale_shift(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        return self.attention(self.skip(x) + self.conv_2(self.dropout(F.silu(h))))


class SelfAttention(nn.Module):
    """Self-attention over all positions of a feature map, with one head (Vaswani et al. 2017, arXiv 1706.03762).

    It is written out, as torch's `scaled_dot_product_attention` has no second derivative, which sliced score matching
    needs.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x C x H x W."""
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, dim=1)  # (N, C, HW) each
        weights = (q.transpose(1, 2) @ k / math.sqrt(q.shape[1])).softmax(dim=2)  # (N, HW, HW)
        return x + self.out((v @ weights.transpose(1, 2)).view_as(x))


class ConditionalUNet(nn.Module):
    """U-Net conditioned on the noise level and, if there are classes, on the class.

    It takes images of any size whose sides are multiples of `patch_size`. A side that cannot be halved evenly is
    rounded up, as 25 to 13.

    Args:
        image_channels: Channels of the images.
        channels: Channels at each resolution; each resolution is half the one before.
        blocks: Residual blocks at each resolution on the way down; one more on the way up.
        attention: Adds self-attention at the lowest resolution, between the way down and the way up.
        attention_levels: Number of resolutions, counted from the lowest, of which each residual block has
            self-attention.
        patch_size: Side of the squares of pixels that are folded into channels before the first layer.
        dropout: Dropout probability in the residual blocks.
        num_classes: Number K of classes. Label K stands for "any class". None: there are no labels.
    """

    def __init__(
        self,
        image_channels: int,
        channels: Sequence[int],
        blocks: int,
        attention: bool,
        attention_levels: int,
        patch_size: int,
        dropout: float,
        num_classes: int | None,
    ) -> None:
        super().__init__()
        embedding_dim = 4 * channels[0]
        in_channels = image_channels * patch_size**2
        self.embedding = NoiseLevelEmbedding(embedding_dim, num_classes)
        self.fold, self.unfold = nn.PixelUnshuffle(patch_size), nn.PixelShuffle(patch_size)
        self.conv_in = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, skips = channels[0], [channels[0]]
        attended = [level >= len(channels) - attention_levels for level in range(len(channels))]
        for level, c in enumerate(channels):
            if level:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                skips.append(width)
            for _ in range(blocks):
                self.down.append(ResidualBlock(width, c, embedding_dim, dropout, attended[level]))
                width = c
                skips.append(width)
        self.middle = ResidualBlock(width, width, embedding_dim, dropout)
        self.attention = SelfAttention(width) if attention else nn.Identity()
        for level, c in reversed(list(enumerate(channels))):
            for _ in range(blocks + 1):
                self.up.append(ResidualBlock(width + skips.pop(), c, embedding_dim, dropout, attended[level]))
                width = c
            if level:
                self.up.append(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1)))
        self.conv_out = nn.Sequential(
            group_norm(width), nn.SiLU(), zero_init(nn.Conv2d(width, in_channels, 3, padding=1))
        )

    def forward(self, noisy: Tensor, levels: Tensor, labels: Tensor | None = None) -> Tensor:
        """noisy: N x C x H x W; levels: N, in [-2, 2]; labels: int64, N -> predicted noise, N x C x H x W."""
        embedding = self.embedding(levels, labels)
        x = self.conv_in(self.fold(noisy))
        skips = [x]
        for layer in self.down:
            x = layer(x, embedding) if isinstance(layer, ResidualBlock) else layer(x)
            skips.append(x)
        x = self.attention(self.middle(x, embedding))
        for layer in self.up:
            if isinstance(layer, ResidualBlock):
                x = layer(torch.cat([x, skips.pop()], dim=1), embedding)
            else:
                height, width = skips[-1].shape[2:]
                x = layer(x)[:, :, :height, :width]  # an odd side was rounded up
        return self.unfold(self.conv_out(x))


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with at most eight groups, of at least eight channels each where that is possible."""
    groups = next(g for g in range(max(1, min(8, channels // 8)), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def zero_init(layer: nn.Conv2d) -> nn.Conv2d:
    """Sets all weights to zero, so that a residual branch that ends in this layer starts as the identity."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
