import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.adversarial import AdversarialRecipe, DCGANAdam
from lit_models.common.adversarial_recipe import check_not_negative
from lit_models.common.discriminators import DCGANDiscriminator, Discriminator
from lit_models.common.image_to_image_gan import ImageToImageGAN
from lit_models.common.module import ImageShape
from lit_models.common.objectives import NonSaturating, Objective
from lit_models.common.perceptual import PerceptualFeatures, perceptual_distance
from lit_models.common.upscalers import SRResNet, Upscaler
from lit_models.networks.discriminators import UnconditionalDiscriminator


class SRGAN(ImageToImageGAN):
    """Super-resolution by a factor of two or four: a large image H from a small one L.

    Ledig et al. 2016, arXiv 1609.04802, eq. 3: the generator minimises pixel_weight mean|H - G(L)|^2 +
    perceptual_weight times the distance between features of a fixed network (eq. 5) + adversarial_weight times its
    objective. The discriminator takes H or G(L) together with the nearest-neighbour upsampling of L. With
    `noise_channels` the generator also takes z ~ N(0, 1) at each pixel of L, and makes one of the many images that L
    may come from.

    Args:
        generator: Network of the generator; SRResNet with 32 channels and 4 blocks by default.
        discriminator: Network of the discriminator; DCGANDiscriminator with 32 channels by default.
        objective: Losses of discriminator and generator; NonSaturating by default.
        perceptual: Fixed network of the perceptual loss: a classifier that was trained here, or VGG-19. No perceptual
            loss by default.
        pixel_weight: Weight of the mean squared error of pixels in the generator's loss.
        perceptual_weight: Weight of the perceptual loss, a mean squared difference of features.
        adversarial_weight: Weight of the objective in the generator's loss, 1e-3 in the paper.
        noise_channels: Channels of the noise z at each pixel of the low-resolution image; 0 for none.
        recipe: Settings of adversarial training.
        source_shape: Channels, height, width of L; train.py sets it from the data.
        image_shape: Channels, height, width of H; train.py sets it from the data.
        optimizer: Function that makes each of the two optimizers from its parameters.

    Raises:
        ValueError: a number is out of range, H is not larger than L by a whole factor, or the arguments do not fit
            together.
        CheckpointError, ValueError: from `prepare_fit`, the perceptual network cannot be loaded.

    Examples:
        >>> import torch
        >>> model = SRGAN(source_shape=(1, 14, 14), image_shape=(1, 28, 28))
        >>> model.translate(torch.rand(4, 1, 14, 14)).shape
        torch.Size([4, 1, 28, 28])
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
        recipe: AdversarialRecipe = AdversarialRecipe(),
        source_shape: ImageShape = (1, 14, 14),
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: DCGANAdam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        check_not_negative(
            pixel_weight=pixel_weight,
            perceptual_weight=perceptual_weight,
            adversarial_weight=adversarial_weight,
            noise_channels=noise_channels,
        )
        self.save_hyperparameters()
        channels = image_shape[0]
        self.image_shape = image_shape
        self.factor = _upscaling_factor(source_shape, image_shape)
        self.channels = channels
        self.noise_channels = noise_channels
        self.pixel_weight = pixel_weight
        self.perceptual_weight = perceptual_weight
        self.adversarial_weight = adversarial_weight
        self.perceptual = perceptual
        self._perceptual_networks: list[nn.Module] = []  # a list keeps its weights out of the model's state
        discriminator = discriminator or DCGANDiscriminator(32)
        features = discriminator.build_features((2 * channels, *image_shape[1:]))
        self.setup_networks(
            (generator or SRResNet()).build(channels + noise_channels, channels, self.factor),
            UnconditionalDiscriminator(features, discriminator.build_head(features.out_dim, 1)),
            objective or NonSaturating(),
            recipe,
        )

    def prepare_fit(self) -> None:
        if self.perceptual is not None and self.perceptual_weight and not self._perceptual_networks:
            self._perceptual_networks = [self.perceptual.build(self.image_shape)]

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.prepare_fit()
        self._perceptual_networks = [network.to(self.device) for network in self._perceptual_networks]

    def generator_input(self, source: Tensor) -> Tensor:
        """L followed by z, drawn from torch's global generator: N x (C + noise_channels) x h x w."""
        if not self.noise_channels:
            return source
        n, _, height, width = source.shape
        noise = torch.randn(n, self.noise_channels, height, width, device=source.device, dtype=source.dtype)
        return torch.cat([source, noise], dim=1)

    def discriminator_input(self, source: Tensor, image: Tensor) -> Tensor:
        upsampled = F.interpolate(source[:, : self.channels], scale_factor=self.factor, mode="nearest")
        return torch.cat([upsampled, image.to(upsampled.dtype)], dim=1)

    def generator_penalties(self, source: Tensor, target: Tensor, generated: Tensor) -> dict[str, tuple[float, Tensor]]:
        penalties = {"mse": (self.pixel_weight, F.mse_loss(generated, target))}
        for network in self._perceptual_networks:
            penalties["perceptual"] = (self.perceptual_weight, perceptual_distance(network, generated, target))
        return penalties


def _upscaling_factor(source_shape: ImageShape, image_shape: ImageShape) -> int:
    """The factor between the sides of source and image.

    Raises:
        ValueError: it is not a whole number of at least 2, or the channels differ.
    """
    factor = image_shape[1] // max(1, source_shape[1])
    if factor < 2 or (source_shape[0], factor * source_shape[1], factor * source_shape[2]) != tuple(image_shape):
        raise ValueError(
            f"SRGAN enlarges by a whole factor of at least 2, which {image_shape} is not of {source_shape};"
            " use --data LowResolutionMNISTDataModule or LowResolutionCIFAR10DataModule"
        )
    return factor
