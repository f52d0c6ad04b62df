import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.encoder_decoders import DictionaryNetworks, Networks
from lit_models.common.module import ImageShape
from lit_models.losses.penalty import l1_norm


class SparseAutoencoder(AutoencoderBase):
    """Sparse autoencoder: minimises ||x - x'||^2 + lambda sum_j |h_j|, averaged over images.

    h = relu(f(x)), x' = sigmoid(g(h)). The penalty is that of sparse coding (Olshausen and Field 1996, doi
    10.1038/381607a0), with a learned encoder instead of an optimization of each code. (Ng 2011, CS294A lecture notes,
    penalises mean activations instead.) Small codes with large decoder weights would avoid the penalty. The default
    networks prevent that by atoms of unit norm; with other networks, give the optimizer a weight decay.

    Logs `mse`, `penalty` (without lambda) and `active`, the fraction of code units that are not zero.

    Args:
        latent_dim: Width d of the latent code h; it may be larger than the image.
        penalty_weight: Weight lambda of the penalty.
        networks: Encoder f and decoder g; DictionaryNetworks by default.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: `latent_dim` is below one or `penalty_weight` negative.

    Examples:
        >>> model = SparseAutoencoder(latent_dim=300)
        >>> bool((model.encode(torch.rand(2, 1, 28, 28)) >= 0).all())
        True
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
                f"latent_dim is {latent_dim} and penalty_weight {penalty_weight}; they must be at least 1 and 0"
            )
        self.save_hyperparameters()
        self.latent_dim = latent_dim
        self.penalty_weight = penalty_weight
        self.networks = networks or DictionaryNetworks()
        self.set_code_shape(self.networks, image_shape, latent_dim)
        self.encoder = nn.Sequential(self.networks.build_encoder(image_shape, latent_dim), nn.ReLU())
        self.decoder = self.networks.build_decoder(image_shape, latent_dim)

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
