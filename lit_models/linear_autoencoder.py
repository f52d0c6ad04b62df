import math

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.lr_schedules import LRSchedule
from lit_models.common.module import ImageShape


class LinearAutoencoder(AutoencoderBase):
    """Linear autoencoder with tied weights: h = W (x - b), x' = W^T h + b; minimises the mean of (x - x')^2.

    At the minimum, the rows of W are an orthonormal basis, in any rotation, of the span of the first d principal
    components, and b is the mean image up to a vector in that span (Bourlard and Kamp 1988, doi 10.1007/BF00332918;
    Baldi and Hornik 1989, doi 10.1016/0893-6080(89)90014-2, for untied weights, whose basis need not be orthonormal).

    The loss is computed from x' itself; `decode` and `reconstruct` clip it to [0, 1].

    Args:
        latent_dim: Width d of the latent code h, at most the number of pixel values of an image.
        lr_schedule: Learning-rate schedule: `constant`, or `one_cycle` over the whole training, which ends near zero.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: `latent_dim` is below one or above the number of pixel values.

    Examples:
        >>> model = LinearAutoencoder(latent_dim=4)
        >>> model.subspace().shape
        torch.Size([4, 784])
    """

    encoder: "CenteredLinear"

    def __init__(
        self,
        latent_dim: int = 10,
        lr_schedule: LRSchedule = "one_cycle",
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-2),
    ) -> None:
        super().__init__(optimizer)
        pixels = math.prod(image_shape)
        if not 1 <= latent_dim <= pixels:
            raise ValueError(f"latent_dim is {latent_dim}; for images of {pixels} values it must be 1 to {pixels}")
        self.save_hyperparameters()
        self.latent_dim = latent_dim
        self.lr_schedule = lr_schedule
        self.image_shape = image_shape
        self.encoder = CenteredLinear(pixels, latent_dim)

    def decode(self, codes: Tensor) -> Tensor:
        """N x d -> images in [0, 1], N x C x H x W."""
        return self._decode_unclipped(codes).clamp(0, 1)

    def subspace(self) -> Tensor:
        """Vectors that span the decoder's outputs minus b, d x CHW."""
        return self.encoder.weight.detach()

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {"mse": F.mse_loss(self._decode_unclipped(self.encode(batch[0])), batch[0])}

    def _decode_unclipped(self, codes: Tensor) -> Tensor:
        """N x d -> N x C x H x W."""
        flat = codes @ self.encoder.weight + self.encoder.center  # (N, CHW)
        return flat.unflatten(1, self.image_shape)


class CenteredLinear(nn.Module):
    """h = W (x - b).

    Args:
        pixels: Number of pixel values C H W of an image.
        out_dim: Width of the output h.
    """

    def __init__(self, pixels: int, out_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, pixels) / math.sqrt(pixels))  # rows of norm 1 on average
        self.center = nn.Parameter(torch.zeros(pixels))

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x out_dim."""
        return F.linear(images.flatten(1) - self.center, self.weight)
