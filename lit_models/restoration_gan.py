from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_models.common.adversarial import AdversarialRecipe, DCGANAdam
from lit_models.common.adversarial_recipe import check_not_negative
from lit_models.common.discriminators import DCGANDiscriminator, Discriminator
from lit_models.common.image_to_image_gan import ImageToImageGAN
from lit_models.common.module import ImageShape
from lit_models.common.objectives import NonSaturating, Objective
from lit_models.common.translators import Translator, UNetTranslator
from lit_models.losses.spectrum import spectrum_penalty
from lit_models.networks.discriminators import UnconditionalDiscriminator


class RestorationGAN(ImageToImageGAN):
    """Image restoration without pairs: no damaged image is seen together with its clean version.

    The generator turns damaged images into images that the discriminator cannot distinguish from clean ones. Two
    penalties keep the content of the image: residual_weight E|G(x) - x|^2, a mean over pixels, and spectrum_weight
    times the mean squared difference between the logarithms of the mean power spectra of generated and of clean images.
    A batch is (damaged, clean), of different images: `--data NoisyMNISTDataModule` with `--data.paired false`.

    Args:
        generator: Network of the generator; UNetTranslator by default.
        discriminator: Network of the discriminator; DCGANDiscriminator with 32 channels by default.
        objective: Losses of discriminator and generator; NonSaturating by default.
        residual_weight: Weight of the mean squared change in the generator's loss.
        spectrum_weight: Weight of the difference of spectra in the generator's loss. Each spectrum is the mean over a
            batch, or over a part of it if accumulate_grad_batches is above 1, and of one process alone.
        adversarial_weight: Weight of the objective in the generator's loss.
        recipe: Settings of adversarial training.
        source_shape: Channels, height, width of the damaged images; train.py sets it from the data.
        image_shape: Channels, height, width of the clean images, as source_shape; train.py sets it from the data.
        optimizer: Function that makes each of the two optimizers from its parameters.

    Raises:
        ValueError: a number is out of range, the two shapes differ, or the arguments do not fit together.

    Examples:
        >>> import torch
        >>> model = RestorationGAN(image_shape=(1, 28, 28), source_shape=(1, 28, 28))
        >>> model.translate(torch.rand(4, 1, 28, 28)).shape
        torch.Size([4, 1, 28, 28])
    """

    def __init__(
        self,
        generator: Translator | None = None,
        discriminator: Discriminator | None = None,
        objective: Objective | None = None,
        residual_weight: float = 10.0,
        spectrum_weight: float = 0.1,
        adversarial_weight: float = 1.0,
        recipe: AdversarialRecipe = AdversarialRecipe(),
        source_shape: ImageShape = (1, 28, 28),
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: DCGANAdam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        check_not_negative(
            residual_weight=residual_weight, spectrum_weight=spectrum_weight, adversarial_weight=adversarial_weight
        )
        if tuple(source_shape) != tuple(image_shape):
            raise ValueError(
                f"RestorationGAN restores images of one shape, not {source_shape} to {image_shape}; use other data"
            )
        self.save_hyperparameters()
        self.residual_weight = residual_weight
        self.spectrum_weight = spectrum_weight
        self.adversarial_weight = adversarial_weight
        discriminator = discriminator or DCGANDiscriminator(32)
        features = discriminator.build_features(image_shape)
        self.setup_networks(
            (generator or UNetTranslator()).build(source_shape, image_shape[0]),
            UnconditionalDiscriminator(features, discriminator.build_head(features.out_dim, 1)),
            objective or NonSaturating(),
            recipe,
        )

    def generator_penalties(self, source: Tensor, target: Tensor, generated: Tensor) -> dict[str, tuple[float, Tensor]]:
        return {
            "residual": (self.residual_weight, (generated - source).square().mean()),
            "spectrum": (self.spectrum_weight, spectrum_penalty(generated, target)),
        }
