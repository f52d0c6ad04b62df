import math

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.encoder_decoders import Networks
from lit_models.common.module import ImageShape
from lit_models.losses.penalty import estimated_contraction, sigmoid_layer_contraction
from lit_models.networks.one_layer import SigmoidEncoder, TiedDecoder


class ContractiveAutoencoder(AutoencoderBase):
    """Contractive autoencoder: minimises H(x, x') + lambda ||dh/dx||_F^2, averaged over images.

    H is the cross-entropy in nats, summed over pixels (Rifai, Vincent, Muller, Glorot and Bengio 2011, ICML). Without
    `networks`, the model is that of the paper, h = sigmoid(W x + c), x' = sigmoid(W^T h + b), with the penalty in
    closed form. With `networks`, h = f(x), and random vector-Jacobian products estimate the penalty without bias. As
    their weights are not tied, small codes with large decoder weights would avoid the penalty: give the optimizer a
    weight decay.

    Logs `cross_entropy`, `mse`, `penalty` (without lambda) and, for sigmoid units, `active`: the fraction of units
    between 0.05 and 0.95, which are not saturated.

    Args:
        latent_dim: Width d of the latent code h.
        penalty_weight: Weight lambda of the penalty.
        networks: Encoder and decoder; by default one sigmoid layer and its transpose.
        probes: Number of random vectors for each image that estimate the penalty.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: `latent_dim` or `probes` is below one, or `penalty_weight` negative.

    Examples:
        >>> model, images = ContractiveAutoencoder(latent_dim=8), torch.rand(2, 1, 28, 28)
        >>> model.contraction(images, model.encode(images)).shape
        torch.Size([2])
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
                f"latent_dim is {latent_dim}, probes {probes} and penalty_weight {penalty_weight};"
                " they must be at least 1, 1 and 0"
            )
        self.save_hyperparameters()
        self.latent_dim = latent_dim
        self.penalty_weight = penalty_weight
        self.networks = networks
        self.probes = probes
        self.set_code_shape(networks, image_shape, latent_dim)
        self.encoder: nn.Module
        self.decoder: nn.Module
        if networks is None:
            layer = SigmoidEncoder(math.prod(image_shape), latent_dim)
            self.encoder, self.decoder = layer, TiedDecoder(layer.linear, image_shape)
        else:
            self.encoder = networks.build_encoder(image_shape, latent_dim)
            self.decoder = networks.build_decoder(image_shape, latent_dim)

    def contraction(self, images: Tensor, codes: Tensor) -> Tensor:
        """||dh/dx||_F^2, N, of images, N x C x H x W, with codes, N x d: exact for a sigmoid layer, else estimated."""
        if isinstance(self.encoder, SigmoidEncoder):
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
        if isinstance(self.encoder, SigmoidEncoder):
            terms["active"] = ((codes - 0.5).abs() < 0.45).float().mean()
        return terms
