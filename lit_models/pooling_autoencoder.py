import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.module import ImageShape
from lit_models.networks.pooling import PoolingDecoder, PoolingEncoder


class PoolingAutoencoder(AutoencoderBase):
    """Convolutional autoencoder with max pooling: z = f(x), x' = sigmoid(g(z)); minimises the mean of (x - x')^2.

    After Masci et al. 2011, doi 10.1007/978-3-642-21735-7_7, with fully connected layers in the decoder. For images of
    28 x 28, the last layer of the encoder takes feature maps of 16 x 4 x 4.

    Args:
        latent_dim: Width d of the latent code z.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: `latent_dim` is below one, or the image is too small to be pooled three times.

    Examples:
        >>> model = PoolingAutoencoder(latent_dim=2)
        >>> model.reconstruct(torch.rand(3, 1, 28, 28)).shape
        torch.Size([3, 1, 28, 28])
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
