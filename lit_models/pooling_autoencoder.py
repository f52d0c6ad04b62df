import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.module import ImageShape
from lit_models.networks.pooling import PoolingDecoder, PoolingEncoder


class PoolingAutoencoder(AutoencoderBase):
    """Convolutional autoencoder with max pooling: z = f(x), x' = sigmoid(g(z)), minimising the mean of (x - x')^2.

    After Masci et al. 2011 (doi 10.1007/978-3-642-21735-7_7), with fully connected layers in the decoder. For images
    of 28 x 28 the encoder ends in 16 x 4 x 4 before its last layer.

    Args:
        latent_dim: width d of the code.
        image_shape: channels, height, width; given by the data when run through train.py.
        optimizer: makes the optimizer from the parameters.

    Raises:
        ValueError: `latent_dim` is below one, or the image is too small to be halved three times.
    """

    monitor = ("val/mse", "min")

    def __init__(
        self,
        latent_dim: int = 100,
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1:
            raise ValueError(f"latent_dim is {latent_dim}; it must be at least 1")
        self.save_hyperparameters()
        self.latent_dim = latent_dim
        self.encoder = PoolingEncoder(image_shape, latent_dim)
        self.decoder = PoolingDecoder(image_shape, latent_dim)

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {"mse": F.mse_loss(self.reconstruct(batch[0]), batch[0])}
