"""Invertible layers of Glow. `forward` returns the output and the log-determinant of the Jacobian, N.

Feature maps are N x H x W x C, so that a layer that mixes the channels of a pixel is one matrix product.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.networks.conv import depth_of
from lit_models.networks.init import channels_last


def squeeze(x: Tensor) -> Tensor:
    """Folds blocks of 2 x 2 pixels into channels: N x H x W x C -> N x H/2 x W/2 x 4C."""
    n, h, w, c = x.shape
    return x.view(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 5, 2, 4).reshape(n, h // 2, w // 2, 4 * c)


def unsqueeze(x: Tensor) -> Tensor:
    """Inverse of `squeeze`: N x H x W x 4C -> N x 2H x 2W x C."""
    n, h, w, c = x.shape
    return x.view(n, h, w, c // 4, 2, 2).permute(0, 1, 4, 2, 5, 3).reshape(n, 2 * h, 2 * w, c // 4)


class LogitTransform(nn.Module):
    """y = logit(margin + (1 - 2 margin) x) for x in [0, 1] (Dinh et al. 2016, arXiv 1605.08803).

    Args:
        margin: Keeps y finite at x = 0 and x = 1; between 0 and 0.5.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N x H x W x C -> (N x H x W x C, N)."""
        inner = self.margin + (1 - 2 * self.margin) * x
        log, log_rest = inner.log(), (-inner).log1p()
        log_det = -(log + log_rest).flatten(1).sum(dim=1)  # (N,)
        return log - log_rest, log_det + x[0].numel() * math.log1p(-2 * self.margin)

    def inverse(self, y: Tensor) -> Tensor:
        return (y.sigmoid() - self.margin) / (1 - 2 * self.margin)


class ActNormConv1x1(nn.Module):
    """y = W (s x + b) for each pixel: actnorm, then an invertible 1x1 convolution, computed as one matrix product.

    W is initialised with a random rotation. Its LU decomposition is W = P L (U + diag(d)), where P is fixed, L has a
    unit diagonal and U a zero one. The log-determinant is then the sum of log |d| (Kingma and Dhariwal 2018, arXiv
    1807.03039, eq. 10 and 11).

    Args:
        channels: Number of channels C.
        lu: Learns the factors of the LU decomposition, with fixed signs of d, instead of W itself.
    """

    def __init__(self, channels: int, lu: bool) -> None:
        super().__init__()
        self.lu = lu
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        rotation = torch.linalg.qr(torch.randn(channels, channels)).Q
        if not lu:
            self.weight = nn.Parameter(rotation)
            return
        permutation, lower, upper = torch.linalg.lu(rotation)
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", upper.diagonal().sign())
        self.log_diagonal = nn.Parameter(upper.diagonal().abs().log())
        self.factors = nn.Parameter(lower.tril(-1) + upper.triu(1))

    permutation: Tensor
    sign: Tensor

    def matrix(self) -> tuple[Tensor, Tensor]:
        """W, C x C, and the logarithm of the absolute value of its determinant."""
        if not self.lu:
            return self.weight, torch.linalg.slogdet(self.weight).logabsdet
        diagonal = self.sign * self.log_diagonal.exp()
        lower = self.permutation + self.permutation @ self.factors.tril(-1)
        return lower @ (self.factors.triu(1) + diagonal.diag()), self.log_diagonal.sum()

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Sets s and b so that each channel of s x + b has mean 0 and variance 1. x: N x H x W x C."""
        variance, mean = torch.var_mean(x.flatten(0, -2).double(), dim=0, correction=0)
        log_scale = -0.5 * variance.clamp(min=1e-12).log()
        self.log_scale.copy_(log_scale)
        self.bias.copy_(-mean * log_scale.exp())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N x H x W x C -> (N x H x W x C, N)."""
        with torch.autocast(x.device.type, enabled=False):
            matrix, log_det = self.matrix()
            y = F.linear(x, matrix * self.log_scale.exp(), matrix @ self.bias)
            log_det = (log_det + self.log_scale.sum()) * (x[0].numel() // x.shape[-1])
        return y, log_det.expand(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        with torch.autocast(y.device.type, enabled=False):
            inverse = torch.linalg.inv(self.matrix()[0].double()).to(y.dtype)
            return (F.linear(y, inverse) - self.bias) * (-self.log_scale).exp()


class AffineCoupling(nn.Module):
    """y_a = x_a, y_b = s x_b + t with (log s, t) = network(x_a), where a and b are halves of the channels.

    The network returns r, and log s = m tanh(r / m) is bounded by m. The bound m is learned for each channel, from 1.

    Args:
        channels: Number of channels C; even.
        network: Network with C/2 input and C output channels. Its last layer is initialised with zeros, so that the
            coupling starts as the identity.
    """

    def __init__(self, channels: int, network: nn.Module) -> None:
        super().__init__()
        self.network = channels_last(network)
        self.log_bound = nn.Parameter(torch.zeros(channels // 2))

    def scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N x H x W x C/2 -> log s and t, N x H x W x C/2 each, in the precision of x."""
        out = self.network(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).to(x.dtype)
        r, shift = out.chunk(2, dim=-1)
        bound = self.log_bound.exp()
        return bound * (r / bound).tanh(), shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N x H x W x C -> (N x H x W x C, N)."""
        a, b = x.chunk(2, dim=-1)
        log_scale, shift = self.scale_and_shift(a)
        return torch.cat([a, torch.addcmul(shift, b, log_scale.exp())], dim=-1), log_scale.flatten(1).sum(dim=1)

    def inverse(self, y: Tensor) -> Tensor:
        a, b = y.chunk(2, dim=-1)
        log_scale, shift = self.scale_and_shift(a)
        return torch.cat([a, (b - shift) * (-log_scale).exp()], dim=-1)


class FlowLevel(nn.Module):
    """K steps of flow, each an `ActNormConv1x1` and an `AffineCoupling`.

    Args:
        channels: Number of channels C.
        steps: Number of steps K.
        width: Hidden channels of the coupling networks.
        lu: Parametrises the 1x1 convolutions by their LU decomposition.
    """

    def __init__(self, channels: int, steps: int, width: int, lu: bool) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(ActNormConv1x1(channels, lu) for _ in range(steps))
        self.couplings = nn.ModuleList(
            AffineCoupling(channels, coupling_network(channels, width)) for _ in range(steps)
        )

    def forward(self, x: Tensor, initialize: bool = False) -> tuple[Tensor, Tensor]:
        """N x H x W x C -> (N x H x W x C, N); with `initialize`, x sets the actnorms first."""
        total = x.new_zeros(len(x))
        for convolution, coupling in zip(self.convolutions, self.couplings, strict=True):
            if initialize:
                convolution.initialize(x)  # type: ignore[operator]
            x, log_det = convolution(x)
            x, log_det_coupling = coupling(x)
            total = total + log_det + log_det_coupling
        return x, total

    def inverse(self, y: Tensor) -> Tensor:
        for convolution, coupling in zip(reversed(self.convolutions), reversed(self.couplings), strict=True):
            y = convolution.inverse(coupling.inverse(y))  # type: ignore[operator]
        return y


class MultiScaleFlow(nn.Module):
    """Multi-scale flow from images to codes: a logit, then on each level a squeeze, a `FlowLevel` and a split.

    On every level but the last, the channels are split into halves a and b. b becomes part of the code: a coupling,
    whose network is one convolution initialised with zeros, maps it to a standard normal distribution given a. a goes
    on to the next level.

    Args:
        image_shape: Channels, height, width.
        levels: Number of levels; each halves the height and width. None: as many as `flow_levels` says.
        steps: Number of steps of flow on each level.
        width: Hidden channels of the coupling networks.
        lu: Parametrises the 1x1 convolutions by their LU decomposition.
        margin: Margin of the `LogitTransform`.

    Raises:
        ValueError: the height or width cannot be halved so often, or not at all.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], levels: int | None, steps: int, width: int, lu: bool, margin: float
    ) -> None:
        super().__init__()
        channels, rows, columns = image_shape
        levels = max(1, flow_levels((rows, columns), depth_of((rows, columns)) - 1)) if levels is None else levels
        if flow_levels((rows, columns), levels) < levels:
            raise ValueError(_refusal((rows, columns), levels))
        self.logit = LogitTransform(margin)
        self.levels = nn.ModuleList()
        self.splits = nn.ModuleList()
        self.shapes = []
        for level in range(levels):
            channels, rows, columns = 4 * channels, rows // 2, columns // 2
            self.levels.append(FlowLevel(channels, steps, width, lu))
            if level < levels - 1:
                self.splits.append(AffineCoupling(channels, zero_convolution(channels // 2, channels)))
                channels //= 2
            self.shapes.append((rows, columns, channels))

    def forward(self, images: Tensor, initialize: bool = False) -> tuple[Tensor, Tensor]:
        """Images in [0, 1], N x C x H x W -> codes, N x D, and log-determinants, N.

        With `initialize`, each actnorm first sets its scale and bias from its input.
        """
        x, total = self.logit(images.permute(0, 2, 3, 1))
        parts = []
        for index, level in enumerate(self.levels):
            x, log_det = level(squeeze(x), initialize)
            total = total + log_det
            if index < len(self.splits):
                x, log_det = self.splits[index](x)
                total = total + log_det
                x, part = x.chunk(2, dim=-1)
                parts.append(part.flatten(1))
        return torch.cat([*parts, x.flatten(1)], dim=1), total

    def inverse(self, codes: Tensor) -> Tensor:
        """Codes, N x D -> images, N x C x H x W."""
        flat = codes.split([math.prod(shape) for shape in self.shapes], dim=1)
        *parts, x = (part.view(-1, *shape) for part, shape in zip(flat, self.shapes, strict=True))
        for index, level in reversed(list(enumerate(self.levels))):
            if index < len(self.splits):
                x = self.splits[index].inverse(torch.cat([x, parts[index]], dim=-1))  # type: ignore[operator]
            x = unsqueeze(level.inverse(x))  # type: ignore[operator]
        return self.logit.inverse(x).permute(0, 3, 1, 2)


def flow_levels(size: Sequence[int], at_most: int) -> int:
    """How often both sides, height and width, can be halved without a remainder, but not more often than `at_most`."""
    return next((level for level in range(at_most) if any(side % 2 ** (level + 1) for side in size)), at_most)


def _refusal(size: Sequence[int], levels: int) -> str:
    """Says which sizes Glow takes instead of this one, and how to get there."""
    divisor, possible = 2**levels, flow_levels(size, levels)
    height, width = (math.ceil(side / divisor) * divisor for side in size)
    nearest = f"{height}" if height == width else f"'[{height}, {width}]'"
    level = "level" if levels == 1 else "levels"
    others = f"--model.levels {possible} or " if possible else ""
    return (
        f"Glow with {levels} {level} takes images whose sides are multiples of {divisor}, and these are {size[0]} x"
        f" {size[1]}: give {others}--data.size {nearest}"
    )


def coupling_network(channels: int, width: int) -> nn.Module:
    """3x3, 1x1 and 3x3 convolutions with ReLUs between, C/2 to C channels; the last one is initialised with zeros."""
    return nn.Sequential(
        nn.Conv2d(channels // 2, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 1),
        nn.ReLU(inplace=True),
        zero_convolution(width, channels),
    )


def zero_convolution(c_in: int, c_out: int) -> nn.Conv2d:
    """3x3 convolution initialised with zeros."""
    convolution = nn.Conv2d(c_in, c_out, 3, padding=1)
    nn.init.zeros_(convolution.weight)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return convolution
