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
    """Wasserstein autoencoder: minimises E[-log p(x|f(x))] + lambda MMD^2(f(x), z), with z from the prior N(0, I).

    WAE-MMD of Tolstikhin et al. 2017, arXiv 1711.01558, algorithm 2. The code is deterministic, and the unbiased MMD
    compares all codes of a batch with the prior, rather than each code. Their cost is a squared distance, which is
    `likelihood` gaussian; bernoulli makes the model comparable with the VAE. Their lambda refers to another scale of
    the cost.

    Args:
        latent_dim: Width d of the latent code z.
        networks: Encoder and decoder; MLPNetworks by default.
        kernel: Kernel of the MMD: inverse multiquadratic (imq) or Gaussian (rbf).
        regularization: Weight lambda of the MMD, in nats.
        likelihood: Distribution of a pixel given its mean.
        likelihood_scale: Standard deviation of a gaussian, or scale b of a laplace likelihood; bernoulli has none.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: a size, weight or scale is too small.

    Examples:
        >>> model = WAE(latent_dim=2)
        >>> model.decode(model.sample_prior(4)).shape
        torch.Size([4, 1, 28, 28])
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
        self.set_code_shape(self.networks, image_shape, latent_dim)
        self.encoder = self.networks.build_encoder(image_shape, latent_dim)
        self.decoder = self.networks.build_decoder(image_shape, latent_dim)

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
        """MMD^2 between codes, N x d, and N samples of the prior; 0 for N = 1, where it is undefined."""
        if len(codes) < 2:
            return torch.zeros((), device=codes.device)
        return mmd(self.kernel, codes, self.sample_prior(len(codes)))
