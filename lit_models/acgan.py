from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from lit_models.common.adversarial import AdversarialRecipe, DCGANAdam
from lit_models.common.capabilities import check_num_classes
from lit_models.common.discriminators import ACGANDiscriminator, Discriminator
from lit_models.common.generators import ACGANGenerator, Generator
from lit_models.common.latent_gan import LatentGAN
from lit_models.common.module import ImageShape
from lit_models.common.objectives import Minimax, Objective
from lit_models.common.priors import Normal, Prior
from lit_models.networks.discriminators import AuxiliaryClassifierDiscriminator


class ACGAN(LatentGAN):
    """Conditional GAN whose discriminator also classifies the images: the auxiliary classifier GAN.

    Odena et al. 2016, arXiv 1610.09585, eq. 2 and 3, by default with the paper's networks for CIFAR-10. The
    discriminator D maximises L_S + L_C, the generator G maximises L_C - L_S. The log-likelihood of the source, real or
    generated, is L_S = E[log P(real|x)] + E[log P(generated|G(z, y))], that of the class is L_C = E[log P(y|x)] +
    E[log P(y|G(z, y))]. The objective Minimax is the paper's; NonSaturating replaces -L_S in G's loss. The labels of
    generated images are those of the batch.

    Args:
        latent_dim: Width d of the latent code z.
        class_weight: Weight of the cross-entropy of the classes in the losses of generator and discriminator.
        generator: Network of the generator; ACGANGenerator by default.
        discriminator: Network of the discriminator; ACGANDiscriminator by default.
        objective: Losses of D and G from the logits of the source, real or generated; Minimax by default.
        prior: Distribution of z; Normal by default.
        recipe: Settings of adversarial training.
        num_classes: Number of classes; train.py sets it from the data.
        image_shape: Channels, height, width of the images; train.py sets it from the data.
        optimizer: Function that makes each of the two optimizers from its parameters.

    Raises:
        ValueError: a number is out of range, or the arguments do not fit together.

    Examples:
        >>> from lit_models.common.generators import MLPGenerator
        >>> model = ACGAN(latent_dim=8, generator=MLPGenerator((16,)), num_classes=10, image_shape=(3, 32, 32))
        >>> model.sample(4, label=3).shape
        torch.Size([4, 3, 32, 32])
    """

    def __init__(
        self,
        latent_dim: int = 100,
        class_weight: float = 1.0,
        generator: Generator | None = None,
        discriminator: Discriminator | None = None,
        objective: Objective | None = None,
        prior: Prior | None = None,
        recipe: AdversarialRecipe = AdversarialRecipe(),
        num_classes: int = 10,
        image_shape: ImageShape = (3, 32, 32),
        optimizer: OptimizerCallable = lambda params: DCGANAdam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        check_num_classes(num_classes)
        if latent_dim < 1 or not class_weight >= 0:
            raise ValueError(
                f"latent_dim is {latent_dim} and class_weight {class_weight}; they must be at least 1 and 0"
            )
        self.save_hyperparameters()
        self.num_classes = num_classes
        self.class_weight = class_weight
        discriminator = discriminator or ACGANDiscriminator()
        features = discriminator.build_features(image_shape)
        self.setup_networks(
            (generator or ACGANGenerator()).build(image_shape, latent_dim + num_classes),
            AuxiliaryClassifierDiscriminator(features, discriminator.build_head(features.out_dim, 1 + num_classes)),
            objective or Minimax(),
            recipe,
        )
        self.setup_prior(prior or Normal(), latent_dim)

    def discriminator_terms(self, images: Tensor, codes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        images, fake = self.discriminator_input(images), self.discriminator_input(self.generate(codes))
        (on_real, real_classes), (on_fake, fake_classes) = self.discriminator(images), self.discriminator(fake)
        on_real, on_fake = on_real.float(), on_fake.float()
        class_loss = _class_loss(real_classes, labels) + _class_loss(fake_classes, labels)
        loss = self.objective.discriminator(on_real, on_fake) + self.class_weight * class_loss
        terms = {"loss_d": loss, **self.mean_scores(on_real, on_fake), "class_loss_d": class_loss}
        return self.add_gradient_penalty(terms, lambda between: self.discriminator(between)[0], images, fake)

    def generator_terms(self, codes: Tensor, labels: Tensor, images: Tensor | None = None) -> dict[str, Tensor]:
        on_fake, classes = self.discriminator(self.discriminator_input(self.generator(codes)))
        class_loss = _class_loss(classes, labels)
        adversarial = self.generator_loss(on_fake, lambda x: self.discriminator(self.discriminator_input(x))[0], images)
        return {"loss_g": adversarial + self.class_weight * class_loss, "class_loss_g": class_loss}


def _class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), labels)
