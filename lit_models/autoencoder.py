import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.module import ImageShape
from lit_models.networks.conv import StridedDecoder, StridedEncoder, growing_channels, map_channels, strided_sizes


class Autoencoder(AutoencoderBase):
    """Strided convolutional autoencoder: z = f(x), x' = sigmoid(g(z)); minimises the mean of (x - x')^2.

    Convolutions of stride 2 replace pooling (Springenberg et al. 2014, arXiv 1412.6806). The decoder g is the mirror
    image of the encoder f. The bottleneck of width `latent_dim` is the only regulariser (Hinton and Salakhutdinov 2006,
    doi 10.1126/science.1127647).

    Args:
        latent_dim: Width d of the latent code z.
        depth: Number of convolutions. By default it follows from the size of the images: 3 for 28 and 32, 4 for 64, 5
            for 128.
        channel_factor: Layer i has channel_factor ** i channels, i = 1, 2, ..., and at most channel_factor ** 3 where
            the depth follows from the size.
        kernel_size: Kernel size of every convolution.
        hidden_dim: Width of the fully connected layer between the convolutions and the code. None: there is none, and
            the code is a map of the size that the convolutions leave, of which `latent_dim` must be a multiple.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: a width is below 1, or the image is too small for `depth` convolutions.

    Examples:
        >>> model = Autoencoder(latent_dim=2)
        >>> model.encode(torch.rand(3, 1, 28, 28)).shape
        torch.Size([3, 2])
    """

    monitor = ("val/mse", "min")

    def __init__(
        self,
        latent_dim: int = 20,
        depth: int | None = None,
        channel_factor: int = 8,
        kernel_size: int = 3,
        hidden_dim: int | None = 128,
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1 or (hidden_dim is not None and hidden_dim < 1):
            raise ValueError(f"latent_dim is {latent_dim} and hidden_dim {hidden_dim}; both must be at least 1")
        self.save_hyperparameters()
        channels = growing_channels(depth, channel_factor, image_shape[1:])
        self.latent_dim = latent_dim
        if hidden_dim is None:
            size = strided_sizes((image_shape[1], image_shape[2]), len(channels), kernel_size)[-1]
            self.code_shape = (map_channels(latent_dim, size), *size)
        self.encoder = StridedEncoder(image_shape, channels, kernel_size, hidden_dim, latent_dim)
        self.decoder = StridedDecoder(image_shape, channels, kernel_size, hidden_dim, latent_dim)

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {"mse": F.mse_loss(self.reconstruct(batch[0]), batch[0])}
