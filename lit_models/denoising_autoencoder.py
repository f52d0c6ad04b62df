import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.corruptions import Corruption
from lit_models.common.encoder_decoders import Networks, StridedNetworks
from lit_models.common.module import ImageShape
from lit_models.common.schedules import Schedule
from lit_models.losses.distortion import psnr
from lit_models.losses.likelihood import LikelihoodKind, log_likelihood


class DenoisingAutoencoder(AutoencoderBase):
    """Autoencoder that restores: minimises E_x~[-log p(x | f(x~))], x~ a corrupted x (Vincent et al. 2008, ICML).

    The likelihood follows the noise: a Laplace one, an L1 error, for Laplace noise, else a Gaussian one, an L2 error.
    It may also be trained on clean images alone and tested on corrupted ones: what it has never seen, such as a blob,
    does not fit through its code and is painted away, though it may disturb the rest of the image.

    Logs `loss`, nats an image, and `mse` of the restored image; in a test also, in dB and averaged over images, `psnr`
    of the restored image, `psnr_corrupted` of the corrupted one, and `psnr_gain`, their difference. An evaluation draws
    the same corruptions each time, by the batch's number, so that they do not depend on what was trained.

    Args:
        latent_dim: width d of the code.
        corruption: of training and validation images; none to train on clean ones.
        test_corruption: of test images; the same as `corruption` by default.
        networks: encoder and decoder, convolutional ones by default.
        likelihood: of a clean pixel; the one that goes with the corruption by default.
        likelihood_scale: of a gaussian or laplace likelihood.
        schedule: how the learning rate goes: as it is, or one cycle over the whole training.
        image_shape: channels, height, width; given by the data when run through train.py.
        optimizer: makes the optimizer from the parameters.

    Raises:
        ValueError: no corruption at all, or a size or scale that is too small.
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
        schedule: Schedule = "constant",
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1 or likelihood_scale <= 0:
            raise ValueError(f"latent_dim is {latent_dim}, likelihood_scale {likelihood_scale}; both must be positive")
        evaluated = test_corruption or corruption
        if evaluated is None:
            raise ValueError("there is nothing to restore: give model.corruption, model.test_corruption or both")
        self.save_hyperparameters()
        self.latent_dim = latent_dim
        self.corruption = corruption
        self.test_corruption = test_corruption
        self.networks = networks or StridedNetworks()
        self.likelihood = likelihood
        self.likelihood_scale = likelihood_scale
        self.schedule = schedule
        self.kind: LikelihoodKind = likelihood or (corruption.likelihood if corruption else "gaussian")
        self.evaluated = evaluated
        self.encoder = self.networks.encoder(image_shape, latent_dim)
        self.decoder = self.networks.decoder(image_shape, latent_dim)

    def corrupt(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images as the test corrupts them, N x C x H x W, by draws of `generator` or of torch's global one."""
        return self.evaluated(images, generator)

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
        """The terms of a batch, and the restored images."""
        logits = self.decoder(self.encode(corrupted))
        restored = logits.float().sigmoid()
        loss = -log_likelihood(self.kind, logits, images, self.likelihood_scale).mean()
        return {"loss": loss, "mse": F.mse_loss(restored, images)}, restored

    def _generator(self, batch_idx: int) -> torch.Generator:
        seed = batch_idx * self.trainer.world_size + self.global_rank
        return torch.Generator(self.device).manual_seed(seed)
