import math

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.encoder_decoders import Networks
from lit_models.common.module import ImageShape
from lit_models.losses.penalty import estimated_contraction, sigmoid_layer_contraction
from lit_models.networks.one_layer import SigmoidLayer, TransposedLayer


class ContractiveAutoencoder(AutoencoderBase):
    """Autoencoder whose code resists small changes: minimises H(x, x') + lambda ||dh/dx||_F^2, averaged over images.

    H is the cross-entropy in nats, summed over pixels (Rifai, Vincent, Muller, Glorot and Bengio 2011, ICML). Without
    `networks` this is the paper's: h = sigmoid(W x + c), x' = sigmoid(W^T h + b), the penalty in closed form. With
    networks of any depth, h = f(x), the penalty is estimated by random vector-Jacobian products, unbiased; as nothing
    ties their weights, small codes and large decoder weights would escape it: give the optimizer a weight decay.

    Logs `cross_entropy`, `mse`, `penalty` (without lambda) and, of sigmoid units, `active`: the share of those between
    0.05 and 0.95, which still answer to a change.

    Args:
        latent_dim: width d of the code.
        penalty_weight: lambda.
        networks: encoder and decoder; one sigmoid layer and its transpose by default.
        probes: random vectors for the estimate, for each image.
        image_shape: channels, height, width; given by the data when run through train.py.
        optimizer: makes the optimizer from the parameters.

    Raises:
        ValueError: `latent_dim` or `probes` is below one, or `penalty_weight` negative.
    """

    monitor = ("val/loss", "min")

    def __init__(
        self,
        latent_dim: int = 128,
        penalty_weight: float = 0.1,
        networks: Networks | None = None,
        probes: int = 1,
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1 or probes < 1 or penalty_weight < 0:
            raise ValueError(
                f"latent_dim is {latent_dim} and probes {probes}, at least 1, and penalty_weight {penalty_weight},"
                " not negative"
            )
        self.save_hyperparameters()
        self.latent_dim = latent_dim
        self.penalty_weight = penalty_weight
        self.networks = networks
        self.probes = probes
        self.encoder: nn.Module
        self.decoder: nn.Module
        if networks is None:
            layer = SigmoidLayer(math.prod(image_shape), latent_dim)
            self.encoder, self.decoder = layer, TransposedLayer(layer.linear, image_shape)
        else:
            self.encoder = networks.encoder(image_shape, latent_dim)
            self.decoder = networks.decoder(image_shape, latent_dim)

    def contraction(self, images: Tensor, codes: Tensor) -> Tensor:
        """||dh/dx||_F^2 of images, N x C x H x W, with their codes, N x d: N, exact for one layer, else estimated."""
        if isinstance(self.encoder, SigmoidLayer):
            return sigmoid_layer_contraction(codes, self.encoder.linear.weight)
        return estimated_contraction(self.encoder, images, self.probes)

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images = batch[0]
        codes = self.encode(images)
        logits = self.decoder(codes).float()
        cross_entropy = (
            F.binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).sum(dim=1).mean()
        )
        penalty = self.contraction(images, codes).mean()
        terms = {
            "loss": cross_entropy + self.penalty_weight * penalty,
            "cross_entropy": cross_entropy,
            "mse": F.mse_loss(logits.sigmoid(), images),
            "penalty": penalty,
        }
        if isinstance(self.encoder, SigmoidLayer):
            terms["active"] = ((codes - 0.5).abs() < 0.45).float().mean()
        return terms
