import math

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.module import ImageShape
from lit_models.common.schedules import Schedule


class LinearAutoencoder(AutoencoderBase):
    """Linear autoencoder with tied weights: h = W (x - b), x' = W^T h + b, minimising the mean of (x - x')^2.

    At the minimum b is the mean image up to a vector in the span of W's rows, and these rows are an orthonormal basis
    of the first d principal directions, in any rotation (Bourlard and Kamp 1988, doi 10.1007/BF00332918; Baldi and
    Hornik 1989, doi 10.1016/0893-6080(89)90014-2, for untied weights, whose basis need not be orthonormal).

    The error is that of x' as it is; `decode` and `reconstruct` clamp it to [0, 1].

    Args:
        latent_dim: width d of the code, at most the number of pixels.
        schedule: how the learning rate goes: as it is, or one cycle over the whole training, which ends near zero.
        image_shape: channels, height, width; given by the data when run through train.py.
        optimizer: makes the optimizer from the parameters.

    Raises:
        ValueError: `latent_dim` is below one or above the number of pixels.
    """

    encoder: "CentredLinear"

    def __init__(
        self,
        latent_dim: int = 10,
        schedule: Schedule = "one_cycle",
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-2),
    ) -> None:
        super().__init__(optimizer)
        pixels = math.prod(image_shape)
        if not 1 <= latent_dim <= pixels:
            raise ValueError(f"latent_dim is {latent_dim}; images of {pixels} pixels allow 1 to {pixels}")
        self.save_hyperparameters()
        self.latent_dim = latent_dim
        self.schedule = schedule
        self.image_shape = image_shape
        self.encoder = CentredLinear(pixels, latent_dim)

    def decode(self, codes: Tensor) -> Tensor:
        return self._image(codes).clamp(0, 1)  # (N, C, H, W)

    def subspace(self) -> Tensor:
        """Vectors that span what the decoder can reach from b: d x CHW."""
        return self.encoder.weight.detach()

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {"mse": F.mse_loss(self._image(self.encode(batch[0])), batch[0])}

    def _image(self, codes: Tensor) -> Tensor:
        flat = codes @ self.encoder.weight + self.encoder.centre  # (N, CHW)
        return flat.unflatten(1, self.image_shape)


class CentredLinear(nn.Module):
    """h = W (x - b): N x C x H x W -> N x out_dim."""

    def __init__(self, pixels: int, out_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, pixels) / math.sqrt(pixels))  # rows of length 1 or so
        self.centre = nn.Parameter(torch.zeros(pixels))

    def forward(self, images: Tensor) -> Tensor:
        return F.linear(images.flatten(1) - self.centre, self.weight)
