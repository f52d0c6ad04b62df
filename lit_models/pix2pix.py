import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from lit_models.common.adversarial import DCGANAdam, Recipe
from lit_models.common.discriminators import Discriminator, PatchDiscriminator
from lit_models.common.image_to_image_gan import ImageToImageGAN
from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.common.objectives import NonSaturating, Objective
from lit_models.common.translators import Translator, UNetTranslator
from lit_models.networks.conditional_discriminators import Critic


class Pix2Pix(ImageToImageGAN, GenerativeModule):
    """Image to image, learned from pairs: min_G max_D E[log D(x, y)] + E[log(1 - D(x, G(x)))] + l1_weight E|y - G(x)|.

    Isola et al. 2016, arXiv 1611.07004, eq. 4: the discriminator sees the source beside the target, or beside what was
    made of it, patch by patch. |.| is a mean over pixels. Of the paper's noise, dropout is left, in training alone.

    Args:
        generator: the translator's network; a U-Net by default.
        discriminator: one of patches by default.
        objective: what each minimises; NonSaturating by default.
        l1_weight: of the L1 error.
        adversarial_weight: of the generator's objective; 0 for L1 alone.
        ema_decay, clip, micro_batches, discriminator_lr_factor: as in GAN.
        source_shape, image_shape: channels, height, width of source and target; given by the data when run through
            train.py.
        optimizer: makes both optimizers from the parameters.

    Raises:
        ValueError: a weight or number out of range, images of two sizes, or parts that do not go together.
    """

    def __init__(
        self,
        generator: Translator | None = None,
        discriminator: Discriminator | None = None,
        objective: Objective | None = None,
        l1_weight: float = 100.0,
        adversarial_weight: float = 1.0,
        ema_decay: float = 0.0,
        clip: float | None = None,
        micro_batches: int = 1,
        discriminator_lr_factor: float = 1.0,
        source_shape: ImageShape = (1, 28, 28),
        image_shape: ImageShape = (3, 28, 28),
        optimizer: OptimizerCallable = lambda params: DCGANAdam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        if not l1_weight >= 0 or not adversarial_weight >= 0:
            raise ValueError(
                f"l1_weight is {l1_weight} and adversarial_weight {adversarial_weight}; neither may be negative"
            )
        if tuple(source_shape[1:]) != tuple(image_shape[1:]):
            raise ValueError(
                f"Pix2Pix goes between images of one size, not {source_shape} and {image_shape}; use --model SRGAN to"
                " enlarge, or other data"
            )
        self.save_hyperparameters()
        self.l1_weight = l1_weight
        self.adversarial_weight = adversarial_weight
        discriminator = discriminator or PatchDiscriminator()
        features = discriminator.network((source_shape[0] + image_shape[0], *image_shape[1:]))
        translator = generator or UNetTranslator()
        translator.check(source_shape)
        self.oppose(
            translator.network(source_shape[0], image_shape[0]),
            Critic(features, discriminator.head(features.out_dim, 1)),
            objective or NonSaturating(),
            Recipe(1, ema_decay, clip, micro_batches, discriminator_lr_factor),
        )

    def shown(self, source: Tensor, target: Tensor) -> Tensor:
        return torch.cat([source, target], dim=1)

    def penalties(self, source: Tensor, target: Tensor, made: Tensor) -> dict[str, tuple[float, Tensor]]:
        return {"l1": (self.l1_weight, F.l1_loss(made, target))}
