import math
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_models.common.capabilities import LatentBlock, refuse_label
from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.common.processes import of_all_processes
from lit_models.common.schedules import Schedule
from lit_models.networks.flows import MultiScaleFlow

BITS = 8


class Glow(GenerativeModule):
    """Glow: maximises the exact likelihood log p(y) = log N(f(y); 0, I) + log |det df/dy| of an invertible network f.

    Kingma and Dhariwal 2018, arXiv 1807.03039. y = (255 x + u) / 256, u uniform in [0, 1), is the image with its 256
    levels made continuous (Theis et al. 2015, arXiv 1511.01844), and f is a logit, then on each level a squeeze of
    2 x 2 pixels into channels, steps of actnorm, invertible 1x1 convolution and affine coupling, and a split. What is
    minimised is -log2 p(y) / D + 8 bits a dimension, an upper bound of -log2 P(x) / D.

    Actnorms start from the first batch, that of all processes together, once: a model that was loaded or is resumed
    keeps what it has. The half that is split off has mean and deviation given by the other half, both counted in f, so
    that codes are standard normal. Under autocast the couplings' convolutions alone run in half precision: the bits are
    a difference of sums over D dimensions, each of which a rounding to 8 bits would move by more than what is learned.

    Departures from the paper: the couplings' networks have biases in the place of actnorms, and the scale of a coupling
    is exp(m tanh(r / m)), bounded by the learned m, in the place of sigmoid(r + 2).

    Args:
        levels: how often the sides are halved; 2 for 28 x 28 pixels.
        steps: K, on each level.
        width: channels within the couplings' networks.
        lu: learn the 1x1 convolutions by their LU decomposition, whose determinant costs nothing.
        margin: of the logit of margin + (1 - 2 margin) y, which keeps it finite at 0 and 1. The 0.05 of Dinh et al.
            2016, arXiv 1605.08803, squeezes black pixels together, and digits are then learned far more slowly.
        temperature: the standard deviation of codes that are sampled; below 1, likelier images that differ less.
        schedule: how the learning rate goes: as it is, or one cycle over the whole training.
        image_shape: channels, height, width; given by the data when run through train.py.
        optimizer: makes the optimizer from the parameters.

    Raises:
        ValueError: a size that is too small, sides that cannot be halved, a margin outside (0, 0.5), a negative
            temperature.
    """

    monitor = ("val/bits_per_dim", "min")
    initialised: Tensor

    def __init__(
        self,
        levels: int = 2,
        steps: int = 8,
        width: int = 64,
        lu: bool = True,
        margin: float = 1e-5,
        temperature: float = 1.0,
        schedule: Schedule = "constant",
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
    ) -> None:
        super().__init__(optimizer)
        if levels < 1 or steps < 1 or width < 1:
            raise ValueError(f"levels is {levels}, steps {steps}, width {width}; all must be at least 1")
        if not 0 < margin < 0.5 or not temperature >= 0:
            raise ValueError(
                f"margin is {margin}, temperature {temperature}; the one must lie between 0 and 0.5, the other may not"
                " be negative"
            )
        self.save_hyperparameters()
        self.temperature = temperature
        self.schedule = schedule
        self.dim = math.prod(image_shape)
        self.flow = MultiScaleFlow(image_shape, levels, steps, width, lu, margin)
        self.register_buffer("initialised", torch.tensor(False))
        self._starts = False

    def on_train_start(self) -> None:
        self._starts = not bool(self.initialised)

    def on_train_batch_start(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        if self._starts:
            self._start(batch[0])
            self._starts = False

    @torch.no_grad()
    def _start(self, mine: Tensor) -> None:
        """Actnorms from the batch of all processes together, the same in each, with noise that is always the same."""
        images = torch.cat([images.to(mine) for images in of_all_processes(mine.cpu())])
        noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
        self.flow(dequantised(images, noise), initialise=True)
        self.initialised.fill_(True)

    def forward(self, images: Tensor) -> Tensor:
        return self.encode(images)

    def encode(self, images: Tensor) -> Tensor:
        return self.flow(dequantised(images, 0.5))[0]  # (N, D)

    def encoder_network(self) -> nn.Module:
        return _Code(self.flow)

    def decode(self, codes: Tensor) -> Tensor:
        """The inverse of `encode`, within the range of images."""
        return ((2**BITS * self.flow.inverse(codes) - 0.5) / (2**BITS - 1)).clamp(0, 1)

    def latent_blocks(self) -> list[LatentBlock]:
        return [LatentBlock("continuous", 0, self.dim)]

    def sample_prior(self, n: int) -> Tensor:
        return self.temperature * torch.randn(n, self.dim, device=self.device).to(self.dtype)

    def sample(self, n: int, label: int | None = None) -> Tensor:
        refuse_label(self, label)
        return self.decode(self.sample_prior(n))

    def log_prob(self, images: Tensor) -> Tensor:
        """log p(y) of y = (255 x + 1/2) / 256, in the middle of the level that x is: exact, in nats, N."""
        return self._log_density(dequantised(images, 0.5))

    def _log_density(self, y: Tensor) -> Tensor:
        """log p(y), N, of y in [0, 1], N x C x H x W."""
        codes, log_det = self.flow(y)
        return log_det - 0.5 * (codes.square().sum(dim=1) + self.dim * math.log(2 * math.pi))

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images = batch[0]
        log_prob = self._log_density(dequantised(images, torch.rand_like(images))).mean()
        return {"bits_per_dim": BITS - log_prob / (self.dim * math.log(2)), "log_prob": log_prob}

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Any]:
        return {"codes": self.encode(batch[0]), "labels": batch[1]}


class _Code(nn.Module):
    """A flow as what makes codes of images."""

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, images: Tensor) -> Tensor:
        return self.flow(dequantised(images, 0.5))[0]


def dequantised(images: Tensor, noise: Tensor | float) -> Tensor:
    """y = (255 x + noise) / 256 of images x in [0, 1]: each of 256 levels as an interval, noise in [0, 1)."""
    return ((2**BITS - 1) * images + noise) / 2**BITS
