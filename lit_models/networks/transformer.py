"""Causal transformer: logits of each value of an image given the values before it in raster order."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Cache = tuple[Tensor, Tensor]
"""Keys and values of attention of all positions, N x heads x L x d each."""


class ConditionalTransformer(nn.Module):
    """Decoder-only transformer over the L = H W C values of an image, conditioned on the class if there are classes.

    Pre-norm layers and their initialisation are those of Radford et al. 2019 (GPT-2), in raster order as in Chen et al.
    2020 (image GPT). The first token of a sequence is the class, or a learned one, so that position t predicts value t.

    Args:
        image_shape: Channels C, height, width.
        num_values: Number K of different values.
        width: Width of the features.
        layers: Number of layers.
        heads: Number of heads of attention.
        dropout: Probability of dropping an activation of the embedding and of each residual branch.
        num_classes: Number of classes; None: there are no labels.
    """

    layers: Any

    def __init__(
        self,
        image_shape: Sequence[int],
        num_values: int,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        num_classes: int | None,
    ) -> None:
        super().__init__()
        self.image_shape = tuple(image_shape)
        length = math.prod(image_shape)
        self.first_token = nn.Embedding(num_classes or 1, width)
        self.embedding = nn.Embedding(num_values, width)
        self.positions = nn.Parameter(torch.empty(length, width))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(TransformerLayer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, num_values)
        self._initialize(layers)

    def _initialize(self, layers: int) -> None:
        """Draws weights from N(0, 0.02^2), and those that end a residual branch smaller by sqrt(2 layers)."""
        nn.init.normal_(self.positions, 0.0, 0.02)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                ends = name.endswith(("attention.out", "mlp.2"))
                nn.init.normal_(module.weight, 0.0, 0.02 / math.sqrt(2 * layers) if ends else 0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, values: Tensor, labels: Tensor | None = None) -> Tensor:
        """values: int64, N x C x H x W; labels: int64, N -> logits, N x C x H x W x K."""
        sequence = values.permute(0, 2, 3, 1).flatten(1)  # (N, L)
        first = self._first(len(values), labels)
        x = self.dropout(torch.cat([first, self.embedding(sequence[:, :-1])], dim=1) + self.positions)  # (N, L, width)
        for layer in self.layers:
            x = layer(x)
        channels, height, width = self.image_shape
        return self.logits(self.norm(x)).unflatten(1, (height, width, channels)).permute(0, 3, 1, 2, 4)

    def _first(self, n: int, labels: Tensor | None) -> Tensor:
        """The first token of n sequences, n x 1 x width."""
        if labels is None:
            return self.first_token.weight.expand(n, 1, -1)
        return self.first_token(labels)[:, None]

    @torch.no_grad()
    def generate(self, n: int, labels: Tensor | None, draw: Callable[[Tensor], Tensor]) -> Tensor:
        """Draws n arrays of values in raster order: int64, n x C x H x W.

        It computes each feature once, and keeps the keys and values of attention of all positions.

        Args:
            n: Number of arrays.
            labels: Classes, int64, n, if there are classes.
            draw: Logits of one value, n x K -> values, int64, n.
        """
        channels, height, width = self.image_shape
        caches = [layer.attention.empty_cache(n, len(self.positions)) for layer in self.layers]
        x, drawn = self._first(n, labels), []
        for place, position in enumerate(self.positions):
            x = x + position
            for layer, cache in zip(self.layers, caches, strict=True):
                x = layer(x, cache, place)
            drawn.append(draw(self.logits(self.norm(x[:, 0]))))
            x = self.embedding(drawn[-1])[:, None]
        return torch.stack(drawn, dim=1).unflatten(1, (height, width, channels)).permute(0, 3, 1, 2).contiguous()


class TransformerLayer(nn.Module):
    """Causal attention, then a network at each position, both on normalised features and added to them.

    Args:
        width: Width of the features.
        heads: Number of heads of attention.
        dropout: Probability of dropping an activation of both branches.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cache: Cache | None = None, place: int = 0) -> Tensor:
        """N x L x width -> N x L x width; with a cache, of one position after those that the cache holds: L = 1."""
        x = x + self.dropout(self.attention(self.norm_1(x), cache, place))
        return x + self.dropout(self.mlp(self.norm_2(x)))


class CausalAttention(nn.Module):
    """Self-attention of each position to itself and those before it.

    Args:
        width: Width of the features, a multiple of `heads`.
        heads: Number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def empty_cache(self, n: int, length: int) -> Cache:
        """A cache for n sequences of at most so many positions."""
        weight = self.out.weight
        shape = (n, self.heads, length, len(weight) // self.heads)
        return weight.new_empty(shape), weight.new_empty(shape)

    def forward(self, x: Tensor, cache: Cache | None, place: int) -> Tensor:
        """N x L x width -> N x L x width; with a cache, which it extends, of the position `place` alone: L = 1."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (N, heads, L, d) each
        if cache is not None:
            for kept, new in zip(cache, (k, v), strict=True):
                kept[:, :, place : place + 1] = new
            k, v = (kept[:, :, : place + 1] for kept in cache)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=cache is None)
        return self.out(y.transpose(1, 2).flatten(2))
