import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.corruptions import Corruption
from lit_models.common.encoder_decoders import Networks, StridedNetworks
from lit_models.common.lr_schedules import LRSchedule
from lit_models.common.module import ImageShape
from lit_models.losses.distortion import psnr
from lit_models.losses.likelihood import LikelihoodKind, log_likelihood


class DenoisingAutoencoder(AutoencoderBase):
    """Denoising autoencoder: minimises E[-log p(x | f(x~))], where x~ is a corrupted x (Vincent et al. 2008, ICML).

    By default, the likelihood suits the noise: laplace, an L1 error, for Laplace noise, else gaussian, an L2 error. The
    model may also be trained on clean images and tested on corrupted ones: the code cannot represent a defect that was
    never seen, such as a blob, so that the reconstruction lacks it, though other parts of the image may suffer.

    Logs `loss`, in nats per image, and `mse` of the restored image. The test also logs, in dB and averaged over images,
    `psnr` of the restored image, `psnr_corrupted` of the corrupted image, and `psnr_gain`, their difference. Evaluation
    seeds the corruptions by the batch's number, so that they are the same for all models.

    Args:
        latent_dim: Width d of the latent code.
        corruption: Corruption of training and validation images; none to train on clean images.
        test_corruption: Corruption of test images; that of `corruption` by default.
        networks: Encoder and decoder; StridedNetworks by default.
        likelihood: Distribution of a clean pixel given its mean; by default the one that suits the corruption.
        likelihood_scale: Standard deviation of a gaussian, or scale b of a laplace likelihood; bernoulli has none.
        lr_schedule: Learning-rate schedule: `constant`, or `one_cycle` over the whole training.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: there is no corruption at all, or a size or scale is too small.

    Examples:
        >>> from lit_models.common.corruptions import GaussianNoise
        >>> model = DenoisingAutoencoder(latent_dim=8, corruption=GaussianNoise(0.3))
        >>> model.reconstruct(model.corrupt(torch.rand(2, 1, 28, 28))).shape
        torch.Size([2, 1, 28, 28])
    """

    monitor = ("val/loss", "min")

    def __init__(
        self,
        latent_dim: int = 64,
        corruption: Corruption | None = None,
        test_corruption: Corruption | None = None,
        networks: Networks | None = None,
        likelihood: LikelihoodKind | None = None,
        likelihood_scale: float = 0.1,
        lr_schedule: LRSchedule = "constant",
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1 or likelihood_scale <= 0:
            raise ValueError(f"latent_dim is {latent_dim}, likelihood_scale {likelihood_scale}; both must be positive")
        evaluation_corruption = test_corruption or corruption
        if evaluation_corruption is None:
            raise ValueError("no images are corrupted: give model.corruption, model.test_corruption or both")
        self.save_hyperparameters()
        self.latent_dim = latent_dim
        self.corruption = corruption
        self.test_corruption = test_corruption
        self.networks = networks or StridedNetworks()
        self.likelihood = likelihood
        self.likelihood_scale = likelihood_scale
        self.lr_schedule = lr_schedule
        self.likelihood_kind: LikelihoodKind = likelihood or (corruption.likelihood if corruption else "gaussian")
        self.evaluation_corruption = evaluation_corruption
        self.set_code_shape(self.networks, image_shape, latent_dim)
        self.encoder = self.networks.build_encoder(image_shape, latent_dim)
        self.decoder = self.networks.build_decoder(image_shape, latent_dim)

    def corrupt(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Corrupts images as in the test: N x C x H x W -> N x C x H x W.

        Args:
            images: Images in [0, 1].
            generator: Random generator on the images' device; torch's global one by default.
        """
        return self.evaluation_corruption(images, generator)

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        corrupted = batch[0] if self.corruption is None else self.corruption(batch[0])
        return self._restoration_terms(batch[0], corrupted)[0]

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images = batch[0]
        corrupted = images if self.corruption is None else self.corruption(images, self._generator(batch_idx))
        self.log_terms("val", self._restoration_terms(images, corrupted)[0], len(images))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images = batch[0]
        corrupted = self.corrupt(images, self._generator(batch_idx))
        terms, restored = self._restoration_terms(images, corrupted)
        after, before = psnr(restored, images).mean(), psnr(corrupted, images).mean()
        terms |= {"psnr": after, "psnr_corrupted": before, "psnr_gain": after - before}
        self.log_terms("test", terms, len(images))

    def _restoration_terms(self, images: Tensor, corrupted: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Loss terms and restored images of a batch."""
        logits = self.decoder(self.encode(corrupted))
        restored = logits.float().sigmoid()
        loss = -log_likelihood(self.likelihood_kind, logits, images, self.likelihood_scale).mean()
        return {"loss": loss, "mse": F.mse_loss(restored, images)}, restored

    def _generator(self, batch_idx: int) -> torch.Generator:
        seed = batch_idx * self.trainer.world_size + self.global_rank
        return torch.Generator(self.device).manual_seed(seed)
