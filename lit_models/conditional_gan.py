from typing import Literal

from lightning.pytorch.cli import OptimizerCallable
from torch import nn

from lit_models.common.adversarial import AdversarialRecipe, DCGANAdam
from lit_models.common.capabilities import check_num_classes
from lit_models.common.discriminators import DCGANDiscriminator, Discriminator
from lit_models.common.generators import DCGANGenerator, Generator
from lit_models.common.latent_gan import LatentGAN
from lit_models.common.module import ImageShape
from lit_models.common.objectives import NonSaturating, Objective
from lit_models.common.priors import Normal, Prior
from lit_models.networks.conditional_generator import LabelEmbeddingGenerator
from lit_models.networks.discriminators import LabelEmbeddingDiscriminator, ProjectionDiscriminator

Conditioning = Literal["embedding", "projection"]


class ConditionalGAN(LatentGAN):
    """Conditional GAN: min_G max_D E[log D(x|y)] + E[log(1 - D(G(z|y)|y))], or another objective.

    Mirza and Osindero 2014, arXiv 1411.1784. The generator takes an embedding of the label in addition to z. The
    discriminator takes the label as one more channel of the image, or by a projection of its features (Miyato and
    Koyama 2018, arXiv 1802.05637). The labels of generated images are those of the batch.

    Args:
        latent_dim: Width d of the latent code z.
        conditioning: How the discriminator takes the label: `projection` of its features, or `embedding` as one more
            channel of the image.
        embedding_dim: Width of the generator's embedding of the label.
        generator: Network of the generator; DCGANGenerator by default.
        discriminator: Network of the discriminator; DCGANDiscriminator by default.
        objective: Losses of discriminator and generator; NonSaturating by default.
        prior: Distribution of z; Normal by default.
        recipe: Settings of adversarial training.
        num_classes: Number of classes; train.py sets it from the data.
        image_shape: Channels, height, width of the images; train.py sets it from the data.
        optimizer: Function that makes each of the two optimizers from its parameters.

    Raises:
        ValueError: a number is out of range, or the arguments do not fit together.

    Examples:
        >>> from lit_models.common.generators import MLPGenerator
        >>> model = ConditionalGAN(latent_dim=8, generator=MLPGenerator((16,)), num_classes=10)
        >>> model.sample(4, label=3).shape
        torch.Size([4, 1, 28, 28])
    """

    def __init__(
        self,
        latent_dim: int = 100,
        conditioning: Conditioning = "projection",
        embedding_dim: int = 50,
        generator: Generator | None = None,
        discriminator: Discriminator | None = None,
        objective: Objective | None = None,
        prior: Prior | None = None,
        recipe: AdversarialRecipe = AdversarialRecipe(),
        num_classes: int = 10,
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: DCGANAdam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        check_num_classes(num_classes)
        if latent_dim < 1 or embedding_dim < 1:
            raise ValueError(f"latent_dim is {latent_dim} and embedding_dim {embedding_dim}; both must be at least 1")
        self.save_hyperparameters()
        self.num_classes = num_classes
        network = (generator or DCGANGenerator()).build(image_shape, latent_dim + embedding_dim)
        self.setup_networks(
            LabelEmbeddingGenerator(network, latent_dim, num_classes, embedding_dim),
            _conditional_discriminator(discriminator or DCGANDiscriminator(), conditioning, num_classes, image_shape),
            objective or NonSaturating(),
            recipe,
        )
        self.setup_prior(prior or Normal(), latent_dim)


def _conditional_discriminator(
    discriminator: Discriminator, conditioning: Conditioning, num_classes: int, image_shape: ImageShape
) -> nn.Module:
    channels, *size = image_shape
    features = discriminator.build_features((channels + (conditioning == "embedding"), *size))
    head = discriminator.build_head(features.out_dim, 1)
    if conditioning == "embedding":
        return LabelEmbeddingDiscriminator(features, head, num_classes, (size[0], size[1]))
    label_embedding = discriminator.init_layer(nn.Embedding(num_classes, features.out_dim))
    return ProjectionDiscriminator(features, head, label_embedding)
