import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.capabilities import LatentBlock, refuse_label
from lit_models.common.encoder_decoders import MLPNetworks, Networks
from lit_models.common.module import ImageShape
from lit_models.losses.likelihood import LikelihoodKind, log_likelihood
from lit_models.losses.mmd import KernelKind, mmd


class WAE(AutoencoderBase):
    """Wasserstein autoencoder: minimises E[-log p(x|f(x))] + lambda MMD^2(f(x), z), z of the prior N(0, I).

    WAE-MMD of Tolstikhin et al. 2017, arXiv 1711.01558, algorithm 2: a code without noise, and the prior asked of all
    codes of a batch together instead of each one, by the unbiased MMD. Their cost is a squared distance, which is
    `likelihood` gaussian; bernoulli makes it comparable with the VAE. Their lambda is for another scale of the cost.

    Args:
        latent_dim: width d of the code.
        networks: encoder and decoder, fully connected ones by default.
        kernel: of the MMD, inverse multiquadratic or Gaussian.
        regularization: lambda, in nats.
        likelihood: of a pixel, given its mean.
        likelihood_scale: of a gaussian or laplace likelihood.
        image_shape: channels, height, width; given by the data when run through train.py.
        optimizer: makes the optimizer from the parameters.

    Raises:
        ValueError: a size, weight or scale that is too small.
    """

    monitor = ("val/loss", "min")

    def __init__(
        self,
        latent_dim: int = 20,
        networks: Networks | None = None,
        kernel: KernelKind = "imq",
        regularization: float = 100.0,
        likelihood: LikelihoodKind = "bernoulli",
        likelihood_scale: float = 0.1,
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1 or not (likelihood_scale > 0 and regularization >= 0):
            raise ValueError(
                f"latent_dim is {latent_dim} and likelihood_scale {likelihood_scale}, which must be positive,"
                f" and regularization {regularization}, which may not be negative"
            )
        self.save_hyperparameters()
        self.latent_dim = latent_dim
        self.networks = networks or MLPNetworks()
        self.kernel: KernelKind = kernel
        self.regularization = regularization
        self.likelihood: LikelihoodKind = likelihood
        self.likelihood_scale = likelihood_scale
        self.encoder = self.networks.encoder(image_shape, latent_dim)
        self.decoder = self.networks.decoder(image_shape, latent_dim)

    def latent_blocks(self) -> list[LatentBlock]:
        return [LatentBlock("continuous", 0, self.latent_dim)]

    def sample_prior(self, n: int) -> Tensor:
        return torch.randn(n, self.latent_dim, device=self.device).to(self.dtype)

    def sample(self, n: int, label: int | None = None) -> Tensor:
        refuse_label(self, label)
        return self.decode(self.sample_prior(n))

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images = batch[0]
        codes = self.encoder(images)  # (N, d)
        logits = self.decoder(codes)
        reconstruction = -log_likelihood(self.likelihood, logits, images, self.likelihood_scale).mean()
        distance = self._distance_to_prior(codes)
        return {
            "loss": reconstruction + self.regularization * distance,
            "reconstruction": reconstruction,
            "mmd": distance,
            "mse": F.mse_loss(logits.float().sigmoid(), images),
        }

    def _distance_to_prior(self, codes: Tensor) -> Tensor:
        """MMD^2 of the batch's codes and as many draws of the prior; 0 of a last batch of one image, which has none."""
        if len(codes) < 2:
            return torch.zeros((), device=codes.device)
        return mmd(self.kernel, codes, self.sample_prior(len(codes)))
