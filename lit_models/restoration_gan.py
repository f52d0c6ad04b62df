from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_models.common.adversarial import DCGANAdam, Recipe, not_negative
from lit_models.common.discriminators import DCGANDiscriminator, Discriminator
from lit_models.common.image_to_image_gan import ImageToImageGAN
from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.common.objectives import NonSaturating, Objective
from lit_models.common.translators import Translator, UNetTranslator
from lit_models.losses.spectrum import spectrum_penalty
from lit_models.networks.conditional_discriminators import Critic


class RestorationGAN(ImageToImageGAN, GenerativeModule):
    """Restores images without ever seeing one both damaged and whole.

    The generator turns damaged images into such as the discriminator cannot tell from whole ones. Two penalties keep
    it to its task: residual_weight E|G(x) - x|^2, a mean over pixels, so that it changes no more than it must, and
    spectrum_weight times the mean squared difference of the logarithms of the mean power spectra of what it makes and
    of whole images. A batch is (damaged, whole), of different images: `--data NoisyMNISTDataModule` with `--data.paired
    false`.

    Args:
        generator: the translator's network; a U-Net by default.
        discriminator: its network.
        objective: what each minimises; NonSaturating by default.
        residual_weight: of the size of the change.
        spectrum_weight: of the difference of spectra, each the mean of a batch; of a part of it under `micro_batches`,
            and of each process's own.
        adversarial_weight: of the generator's objective.
        ema_decay, clip, micro_batches, discriminator_lr_factor: as in GAN.
        source_shape, image_shape: channels, height, width of damaged and whole images, the same; given by the data
            when run through train.py.
        optimizer: makes both optimizers from the parameters.

    Raises:
        ValueError: a weight or number out of range, images of two shapes, or parts that do not go together.
    """

    def __init__(
        self,
        generator: Translator | None = None,
        discriminator: Discriminator | None = None,
        objective: Objective | None = None,
        residual_weight: float = 10.0,
        spectrum_weight: float = 0.1,
        adversarial_weight: float = 1.0,
        ema_decay: float = 0.0,
        clip: float | None = None,
        micro_batches: int = 1,
        discriminator_lr_factor: float = 1.0,
        source_shape: ImageShape = (1, 28, 28),
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: DCGANAdam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        not_negative(
            residual_weight=residual_weight, spectrum_weight=spectrum_weight, adversarial_weight=adversarial_weight
        )
        if tuple(source_shape) != tuple(image_shape):
            raise ValueError(f"RestorationGAN restores images of one shape, not {source_shape} to {image_shape}")
        self.save_hyperparameters()
        self.residual_weight = residual_weight
        self.spectrum_weight = spectrum_weight
        self.adversarial_weight = adversarial_weight
        discriminator = discriminator or DCGANDiscriminator(32)
        features = discriminator.network(image_shape)
        translator = generator or UNetTranslator()
        translator.check(source_shape)
        self.oppose(
            translator.network(source_shape[0], image_shape[0]),
            Critic(features, discriminator.head(features.out_dim, 1)),
            objective or NonSaturating(),
            Recipe(1, ema_decay, clip, micro_batches, discriminator_lr_factor),
        )

    def penalties(self, source: Tensor, target: Tensor, made: Tensor) -> dict[str, tuple[float, Tensor]]:
        return {
            "residual": (self.residual_weight, (made - source).square().mean()),
            "spectrum": (self.spectrum_weight, spectrum_penalty(made, target)),
        }
