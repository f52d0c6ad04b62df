import math
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_models.common.capabilities import LatentBlock, refuse_label
from lit_models.common.lr_schedules import LRSchedule
from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.common.processes import all_gather_objects
from lit_models.losses.likelihood import BITS, bits_per_dim, dequantise
from lit_models.networks.flows import MultiScaleFlow


class Glow(GenerativeModule):
    """Glow: maximises the exact likelihood log p(y) = log N(f(y); 0, I) + log |det df/dy| of an invertible network f.

    Kingma and Dhariwal 2018, arXiv 1807.03039. The dequantised image is y = (255 x + u) / 256, with u uniform in [0, 1)
    (Theis et al. 2015, arXiv 1511.01844). f is a logit, then on each level a squeeze of 2 x 2 pixels into channels,
    steps of actnorm, invertible 1x1 convolution and affine coupling, and a split. The loss is -log2 p(y) / D + 8 bits
    per dimension, an upper bound of -log2 P(x) / D.

    Actnorms are initialized once, by the first batch, gathered from all processes; a loaded or resumed model keeps its
    values. The half that is split off is normalised by a mean and a deviation that the other half determines, as a part
    of f, so that codes are standard normal. Under autocast, only the convolutions of the couplings run in half
    precision: the loss is a small difference of sums over D dimensions, which 8 bits of precision would not resolve.

    Departures from the paper: the networks of the couplings have biases instead of actnorms, and the scale of a
    coupling is exp(m tanh(r / m)), with a learned bound m, instead of sigmoid(r + 2).

    Args:
        levels: Number of levels; each halves the height and width. By default as often as both sides can be halved
            evenly, but at most 2 for 28 and 32 pixels, 3 for 64, 4 for 128.
        steps: Number K of steps of flow on each level.
        width: Hidden channels of the networks in the couplings.
        lu: Parametrises the 1x1 convolutions by their LU decomposition, which makes the determinant cheap.
        margin: Margin of the logit of margin + (1 - 2 margin) y, which keeps it finite at y = 0 and 1. With 0.05, as in
            Dinh et al. 2016, arXiv 1605.08803, black pixels are squeezed together, and MNIST is learned much more
            slowly.
        temperature: Standard deviation of sampled codes. Below 1, samples are more likely and less diverse.
        lr_schedule: Learning-rate schedule: `constant`, or `one_cycle` over the whole training.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: a size is too small, the sides cannot be halved so often, the margin is outside (0, 0.5), or the
            temperature is negative.

    Examples:
        >>> model = Glow(levels=1, steps=1, width=4)
        >>> model.log_prob(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2])
    """

    monitor = ("val/bits_per_dim", "min")
    initialized: Tensor

    def __init__(
        self,
        levels: int | None = None,
        steps: int = 8,
        width: int = 64,
        lu: bool = True,
        margin: float = 1e-5,
        temperature: float = 1.0,
        lr_schedule: LRSchedule = "constant",
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
    ) -> None:
        super().__init__(optimizer)
        if (levels is not None and levels < 1) or steps < 1 or width < 1:
            raise ValueError(f"levels is {levels}, steps {steps}, width {width}; all must be at least 1")
        if not 0 < margin < 0.5 or not temperature >= 0:
            raise ValueError(
                f"margin is {margin} and temperature {temperature}; they must be in (0, 0.5) and at least 0"
            )
        self.save_hyperparameters()
        self.temperature = temperature
        self.lr_schedule = lr_schedule
        self.dim = math.prod(image_shape)
        self.flow = MultiScaleFlow(image_shape, levels, steps, width, lu, margin)
        self.register_buffer("initialized", torch.tensor(False))
        self._initialize_next = False

    def on_train_start(self) -> None:
        self._initialize_next = not bool(self.initialized)

    def on_train_batch_start(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        if self._initialize_next:
            self._initialize_actnorms(batch[0])
            self._initialize_next = False

    @torch.no_grad()
    def _initialize_actnorms(self, own: Tensor) -> None:
        """Initialises actnorms with the images of all processes and a fixed noise, so that all processes agree."""
        images = torch.cat([images.to(own) for images in all_gather_objects(own.cpu())])
        noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
        self.flow(dequantise(images, noise), initialize=True)
        self.initialized.fill_(True)

    def forward(self, images: Tensor) -> Tensor:
        return self.encode(images)

    def encode(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x D."""
        return self.flow(dequantise(images, 0.5))[0]

    def encoder_network(self) -> nn.Module:
        return FlowEncoder(self.flow)

    def decode(self, codes: Tensor) -> Tensor:
        """Inverse of `encode`, clipped to [0, 1]: N x D -> N x C x H x W."""
        return ((2**BITS * self.flow.inverse(codes) - 0.5) / (2**BITS - 1)).clamp(0, 1)

    def latent_blocks(self) -> list[LatentBlock]:
        return [LatentBlock("continuous", 0, self.dim)]

    def sample_prior(self, n: int) -> Tensor:
        return self.temperature * torch.randn(n, self.dim, device=self.device).to(self.dtype)

    def sample(self, n: int, label: int | None = None) -> Tensor:
        refuse_label(self, label)
        return self.decode(self.sample_prior(n))

    def log_prob(self, images: Tensor) -> Tensor:
        """Exact log p(y) in nats, N, of y = (255 x + 1/2) / 256, the middle of the bin of each pixel."""
        return self._log_density(dequantise(images, 0.5))

    def _log_density(self, y: Tensor) -> Tensor:
        """log p(y) in nats, N, of y in [0, 1], N x C x H x W."""
        codes, log_det = self.flow(y)
        return log_det - 0.5 * (codes.square().sum(dim=1) + self.dim * math.log(2 * math.pi))

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images = batch[0]
        log_prob = self._log_density(dequantise(images, torch.rand_like(images))).mean()
        return {"bits_per_dim": bits_per_dim(log_prob, self.dim), "log_prob": log_prob}

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Any]:
        return {"codes": self.encode(batch[0]), "labels": batch[1]}


class FlowEncoder(nn.Module):
    """The flow as an encoder.

    Args:
        flow: Dequantised images, N x C x H x W -> codes, N x D, and log-determinants, N.
    """

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x D."""
        return self.flow(dequantise(images, 0.5))[0]
