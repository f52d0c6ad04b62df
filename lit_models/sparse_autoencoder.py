import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.encoder_decoders import Networks
from lit_models.common.module import ImageShape
from lit_models.losses.penalty import l1_norm
from lit_models.networks.one_layer import DictionaryNetworks


class SparseAutoencoder(AutoencoderBase):
    """Autoencoder with few active code units: minimises ||x - x'||^2 + lambda sum_j |h_j|, averaged over images.

    h = relu(f(x)), x' = sigmoid(g(h)). The penalty is that of sparse coding (Olshausen and Field 1996, doi
    10.1038/381607a0), with a learned encoder in the place of a search for the code (Ng 2011, CS294A lecture notes,
    penalises mean activations instead). It can be escaped by small codes and large decoder weights, which the default
    networks forbid: their atoms have length one. With others, give the optimizer a weight decay.

    Logs `mse`, `penalty` (without lambda) and `active`, the share of code units that are not zero.

    Args:
        latent_dim: width d of the code; may well exceed what an image needs.
        penalty_weight: lambda.
        networks: encoder and decoder, a linear layer and a dictionary by default.
        image_shape: channels, height, width; given by the data when run through train.py.
        optimizer: makes the optimizer from the parameters.

    Raises:
        ValueError: `latent_dim` is below one or `penalty_weight` negative.
    """

    monitor = ("val/loss", "min")

    def __init__(
        self,
        latent_dim: int = 256,
        penalty_weight: float = 0.1,
        networks: Networks | None = None,
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1 or penalty_weight < 0:
            raise ValueError(
                f"latent_dim is {latent_dim}, at least 1, and penalty_weight {penalty_weight}, not negative"
            )
        self.save_hyperparameters()
        self.latent_dim = latent_dim
        self.penalty_weight = penalty_weight
        self.networks = networks or DictionaryNetworks()
        self.encoder = nn.Sequential(self.networks.encoder(image_shape, latent_dim), nn.ReLU())
        self.decoder = self.networks.decoder(image_shape, latent_dim)

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images = batch[0]
        codes = self.encode(images)
        errors = (self.decode(codes).float() - images).square()
        penalty = l1_norm(codes).mean()
        return {
            "loss": errors.flatten(1).sum(dim=1).mean() + self.penalty_weight * penalty,
            "mse": errors.mean(),
            "penalty": penalty,
            "active": (codes > 0).float().mean(),
        }
