import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.adversarial import DCGANAdam, Recipe, not_negative
from lit_models.common.discriminators import DCGANDiscriminator, Discriminator
from lit_models.common.image_to_image_gan import ImageToImageGAN
from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.common.objectives import NonSaturating, Objective
from lit_models.common.perceptual import PerceptualFeatures, perceptual_distance
from lit_models.common.upscalers import SRResNet, Upscaler
from lit_models.networks.conditional_discriminators import Critic


class SRGAN(ImageToImageGAN, GenerativeModule):
    """Super-resolution: an image twice or four times as large as the one that is given, of which several could be true.

    Ledig et al. 2016, arXiv 1609.04802, eq. 3: the generator minimises pixel_weight mean|H - G(L)|^2 +
    perceptual_weight times the distance of the features of a fixed network (eq. 5) + adversarial_weight times its
    objective. The discriminator sees H, or G(L), beside L enlarged by nearest neighbours. With `noise_channels` the
    generator takes z ~ N(0, 1) at each pixel of L too, and draws one of the images that L may be of.

    Args:
        generator: the enlarging network; a small SRResNet by default.
        discriminator: its network.
        objective: what each minimises; NonSaturating by default.
        perceptual: the fixed network of the perceptual loss, one trained here or VGG-19; none for no such loss.
        pixel_weight: of the mean squared error of pixels.
        perceptual_weight: of the mean squared difference of features.
        adversarial_weight: of the generator's objective, 1e-3 in the paper.
        noise_channels: of z; 0 for an image that follows from L alone.
        ema_decay, clip, micro_batches, discriminator_lr_factor: as in GAN.
        source_shape, image_shape: channels, height, width of L and H; given by the data when run through train.py.
        optimizer: makes both optimizers from the parameters.

    Raises:
        ValueError: a weight or number out of range, H is no enlargement of L, or parts that do not go together.
        CheckpointError, ValueError: from `prepare_fit`, when the perceptual network cannot be had.
    """

    def __init__(
        self,
        generator: Upscaler | None = None,
        discriminator: Discriminator | None = None,
        objective: Objective | None = None,
        perceptual: PerceptualFeatures | None = None,
        pixel_weight: float = 1.0,
        perceptual_weight: float = 0.1,
        adversarial_weight: float = 1e-3,
        noise_channels: int = 0,
        ema_decay: float = 0.0,
        clip: float | None = None,
        micro_batches: int = 1,
        discriminator_lr_factor: float = 1.0,
        source_shape: ImageShape = (1, 14, 14),
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: DCGANAdam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        not_negative(
            pixel_weight=pixel_weight,
            perceptual_weight=perceptual_weight,
            adversarial_weight=adversarial_weight,
            noise_channels=noise_channels,
        )
        self.save_hyperparameters()
        channels = image_shape[0]
        self.image_shape = image_shape
        self.factor = _factor(source_shape, image_shape)
        self.channels = channels
        self.noise_channels = noise_channels
        self.pixel_weight = pixel_weight
        self.perceptual_weight = perceptual_weight
        self.adversarial_weight = adversarial_weight
        self.perceptual = perceptual
        self._judging: list[nn.Module] = []  # in a list: no part of the model's own weights
        discriminator = discriminator or DCGANDiscriminator(32)
        features = discriminator.network((2 * channels, *image_shape[1:]))
        self.oppose(
            (generator or SRResNet()).network(channels + noise_channels, channels, self.factor),
            Critic(features, discriminator.head(features.out_dim, 1)),
            objective or NonSaturating(),
            Recipe(1, ema_decay, clip, micro_batches, discriminator_lr_factor),
        )

    def prepare_fit(self) -> None:
        if self.perceptual is not None and self.perceptual_weight and not self._judging:
            self._judging = [self.perceptual.load(self.image_shape)]

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.prepare_fit()
        self._judging = [network.to(self.device) for network in self._judging]

    def prepared(self, source: Tensor) -> Tensor:
        """L, and behind it z by torch's global generator: N x (C + noise_channels) x h x w."""
        if not self.noise_channels:
            return source
        n, _, height, width = source.shape
        noise = torch.randn(n, self.noise_channels, height, width, device=source.device, dtype=source.dtype)
        return torch.cat([source, noise], dim=1)

    def shown(self, source: Tensor, target: Tensor) -> Tensor:
        small = F.interpolate(source[:, : self.channels], scale_factor=self.factor, mode="nearest")
        return torch.cat([small, target.to(small.dtype)], dim=1)

    def penalties(self, source: Tensor, target: Tensor, made: Tensor) -> dict[str, tuple[float, Tensor]]:
        found = {"mse": (self.pixel_weight, F.mse_loss(made, target))}
        for network in self._judging:
            found["perceptual"] = (self.perceptual_weight, perceptual_distance(network, made, target))
        return found


def _factor(source_shape: ImageShape, image_shape: ImageShape) -> int:
    """How many times as large the image is as the source.

    Raises:
        ValueError: it is none such.
    """
    factor = image_shape[1] // max(1, source_shape[1])
    if factor < 2 or (source_shape[0], factor * source_shape[1], factor * source_shape[2]) != tuple(image_shape):
        raise ValueError(
            f"SRGAN enlarges by a whole factor of at least 2, which images of {image_shape} are not of those of"
            f" {source_shape}; use --data LowResolutionMNISTDataModule or LowResolutionCIFAR10DataModule"
        )
    return factor
