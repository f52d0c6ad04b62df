import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from lit_models.common.adversarial import AdversarialRecipe, DCGANAdam
from lit_models.common.adversarial_recipe import check_not_negative
from lit_models.common.discriminators import Discriminator, PatchDiscriminator
from lit_models.common.image_to_image_gan import ImageToImageGAN
from lit_models.common.module import ImageShape
from lit_models.common.objectives import NonSaturating, Objective
from lit_models.common.translators import Translator, UNetTranslator
from lit_models.networks.discriminators import UnconditionalDiscriminator


class Pix2Pix(ImageToImageGAN):
    """Image-to-image translation that is learned from pairs of images.

    min_G max_D E[log D(x, y)] + E[log(1 - D(x, G(x)))] + l1_weight E|y - G(x)|: Isola et al. 2016, arXiv 1611.07004,
    eq. 4. The discriminator takes the source x together with the target y or with the generated image, and gives a
    logit for each patch. |.| is a mean over pixels. The paper's only noise is dropout; here it acts in training only.

    Args:
        generator: Network of the generator; UNetTranslator by default.
        discriminator: Network of the discriminator; PatchDiscriminator by default.
        objective: Losses of discriminator and generator; NonSaturating by default.
        l1_weight: Weight of the L1 error in the generator's loss.
        adversarial_weight: Weight of the objective in the generator's loss; 0 for L1 alone.
        recipe: Settings of adversarial training.
        source_shape: Channels, height, width of the source images; train.py sets it from the data.
        image_shape: Channels, height, width of the target images; train.py sets it from the data.
        optimizer: Function that makes each of the two optimizers from its parameters.

    Raises:
        ValueError: a number is out of range, source and target have different sizes, or the arguments do not fit
            together.

    Examples:
        >>> import torch
        >>> model = Pix2Pix(source_shape=(1, 28, 28), image_shape=(3, 28, 28))
        >>> model.translate(torch.rand(4, 1, 28, 28)).shape
        torch.Size([4, 3, 28, 28])
    """

    def __init__(
        self,
        generator: Translator | None = None,
        discriminator: Discriminator | None = None,
        objective: Objective | None = None,
        l1_weight: float = 100.0,
        adversarial_weight: float = 1.0,
        recipe: AdversarialRecipe = AdversarialRecipe(),
        source_shape: ImageShape = (1, 28, 28),
        image_shape: ImageShape = (3, 28, 28),
        optimizer: OptimizerCallable = lambda params: DCGANAdam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        check_not_negative(l1_weight=l1_weight, adversarial_weight=adversarial_weight)
        if tuple(source_shape[1:]) != tuple(image_shape[1:]):
            raise ValueError(
                f"Pix2Pix translates between images of one size, not {source_shape} and {image_shape}; use --model"
                " SRGAN to enlarge images, or other data"
            )
        self.save_hyperparameters()
        self.l1_weight = l1_weight
        self.adversarial_weight = adversarial_weight
        discriminator = discriminator or PatchDiscriminator()
        features = discriminator.build_features((source_shape[0] + image_shape[0], *image_shape[1:]))
        self.setup_networks(
            (generator or UNetTranslator()).build(source_shape, image_shape[0]),
            UnconditionalDiscriminator(features, discriminator.build_head(features.out_dim, 1)),
            objective or NonSaturating(),
            recipe,
        )

    def discriminator_input(self, source: Tensor, image: Tensor) -> Tensor:
        return torch.cat([source, image], dim=1)

    def generator_penalties(self, source: Tensor, target: Tensor, generated: Tensor) -> dict[str, tuple[float, Tensor]]:
        return {"l1": (self.l1_weight, F.l1_loss(generated, target))}
