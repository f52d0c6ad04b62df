"""Generative adversarial networks: without labels, with labels, and with a classifier in the discriminator."""

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.adversarial import DCGANAdam, Recipe
from lit_models.common.capabilities import LatentBlock, refuse_label
from lit_models.common.discriminators import ACGANDiscriminator, DCGANDiscriminator, Discriminator
from lit_models.common.generators import ACGANGenerator, DCGANGenerator, Generator
from lit_models.common.latent_gan import LatentGAN, take_layers
from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.common.objectives import Minimax, NonSaturating, Objective
from lit_models.common.pretrained_encoder import fill_path
from lit_models.common.priors import Normal, Prior
from lit_models.networks.conditional_discriminators import (
    AuxiliaryCritic,
    ClassEmbedding,
    Conditioning,
    Critic,
    EmbeddingCritic,
    ProjectionCritic,
)

SCRATCH = "none"
"""A generator_checkpoint that is none, as a sweep can send it."""


class GAN(LatentGAN, GenerativeModule):
    """Generative adversarial network: min_G max_D E[log D(x)] + E[log(1 - D(G(z)))], or another objective.

    Goodfellow et al. 2014, arXiv 1406.2661. With the default networks it is a DCGAN (Radford et al. 2015, arXiv
    1511.06434); `pack` makes it a PacGAN (Lin et al. 2018, arXiv 1712.04086), whose discriminator sees several images
    at once, so that a generator that repeats itself is found out.

    Args:
        latent_dim: width d of z.
        generator, discriminator: their networks.
        objective: what each minimises; NonSaturating by default.
        prior: the law of z; Normal by default.
        pack: images that the discriminator sees at once.
        n_critic: the discriminator's steps, each on images of its own, for one of the generator's.
        ema_decay: of the moving average of the generator's weights, which makes the images; 0 for none.
        clip: the largest norm of each network's gradient; None for any.
        micro_batches: parts that a batch is cut into, one after the other, so that a larger one fits into memory.
        generator_checkpoint: of a model whose decoder's layers the generator starts from; `{seed}` stands for the
            run's seed; `none` for a fresh start.
        generator_layers: names of the layers to take; all that fit by default.
        discriminator_lr_factor: the discriminator's learning rate in units of the generator's.
        image_shape: channels, height, width; given by the data when run through train.py.
        optimizer: makes both optimizers from the parameters.

    Raises:
        ValueError: a size, number of steps or weight out of range, or parts that do not go together.
        CheckpointError: `generator_checkpoint` cannot be used.
    """

    initial_weights = ("generator_checkpoint", "generator_layers")

    def __init__(
        self,
        latent_dim: int = 100,
        generator: Generator | None = None,
        discriminator: Discriminator | None = None,
        objective: Objective | None = None,
        prior: Prior | None = None,
        pack: int = 1,
        n_critic: int = 1,
        ema_decay: float = 0.0,
        clip: float | None = None,
        micro_batches: int = 1,
        generator_checkpoint: str | None = None,
        generator_layers: list[str] | None = None,
        discriminator_lr_factor: float = 1.0,
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: DCGANAdam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1 or pack < 1:
            raise ValueError(f"latent_dim is {latent_dim} and pack {pack}; they must be at least 1")
        self.save_hyperparameters()
        if generator_layers is not None and generator_checkpoint in (None, SCRATCH):
            raise ValueError("generator_layers are taken of a checkpoint: give generator_checkpoint")
        self.prior = prior or Normal()
        self.pack = pack
        network = (generator or DCGANGenerator()).network(image_shape, latent_dim)
        discriminator = discriminator or DCGANDiscriminator()
        features = discriminator.network((pack * image_shape[0], *image_shape[1:]))
        head = discriminator.head(features.out_dim, 1)
        if generator_checkpoint not in (None, SCRATCH):
            self.taken_layers = take_layers(network, fill_path(generator_checkpoint, latent_dim), generator_layers)
        self.assemble(
            network,
            Critic(features, head),
            self.prior.law(latent_dim),
            objective or NonSaturating(),
            Recipe(n_critic, ema_decay, clip, micro_batches, discriminator_lr_factor),
        )

    def sample(self, n: int, label: int | None = None) -> Tensor:
        refuse_label(self, label)
        return self.decode(self.sample_prior(n))


class _WithLabels(LatentGAN):
    """Codes that end in a one-hot label."""

    num_classes: int

    def latent_blocks(self) -> list[LatentBlock]:
        d = self.law.dim
        return [LatentBlock("continuous", 0, d), LatentBlock("categorical", d, d + self.num_classes, self.num_classes)]

    def codes_for(self, labels: Tensor) -> Tensor:
        """A draw of the prior for each label, and the label behind it: N x (d + K)."""
        one_hot = F.one_hot(labels, self.num_classes).to(self.dtype)
        return torch.cat([super().codes_for(labels), one_hot], dim=1)

    def sample_prior(self, n: int) -> Tensor:
        return self.codes_for(torch.randint(self.num_classes, (n,), device=self.device))

    def sample(self, n: int, label: int | None = None) -> Tensor:
        """Images of one class, or of classes drawn at random.

        Raises:
            ValueError: there is no such class.
        """
        if label is None:
            return self.decode(self.sample_prior(n))
        if not 0 <= label < self.num_classes:
            raise ValueError(f"there is no class {label}; they are 0 to {self.num_classes - 1}")
        return self.decode(self.codes_for(torch.full((n,), label, device=self.device)))


class ConditionalGAN(_WithLabels, GenerativeModule):
    """Conditional GAN: min_G max_D E[log D(x|y)] + E[log(1 - D(G(z|y)|y))], or another objective.

    Mirza and Osindero 2014, arXiv 1411.1784. The generator takes an embedding of the label beside z; the discriminator
    takes one as a channel beside the image, or as a projection of its features (Miyato and Koyama 2018, 1802.05637).
    The labels of generated images are those of the batch.

    Args:
        latent_dim: width d of z.
        conditioning: how the discriminator takes the label.
        embedding_dim: width of the generator's embedding of the label.
        generator, discriminator, objective, prior, n_critic, ema_decay, clip, micro_batches, discriminator_lr_factor,
            optimizer: as in GAN.
        num_classes, image_shape: given by the data when run through train.py.

    Raises:
        ValueError: a size, number of steps or weight out of range, or parts that do not go together.
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
        n_critic: int = 1,
        ema_decay: float = 0.0,
        clip: float | None = None,
        micro_batches: int = 1,
        discriminator_lr_factor: float = 1.0,
        num_classes: int = 10,
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: DCGANAdam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1 or embedding_dim < 1:
            raise ValueError(f"latent_dim is {latent_dim} and embedding_dim {embedding_dim}; they must be at least 1")
        self.save_hyperparameters()
        self.num_classes = num_classes
        self.prior = prior or Normal()
        network = (generator or DCGANGenerator()).network(image_shape, latent_dim + embedding_dim)
        self.assemble(
            ClassEmbedding(network, latent_dim, num_classes, embedding_dim),
            _conditional(discriminator or DCGANDiscriminator(), conditioning, num_classes, image_shape),
            self.prior.law(latent_dim),
            objective or NonSaturating(),
            Recipe(n_critic, ema_decay, clip, micro_batches, discriminator_lr_factor),
        )


def _conditional(
    discriminator: Discriminator, conditioning: Conditioning, num_classes: int, image_shape: ImageShape
) -> nn.Module:
    channels, *size = image_shape
    features = discriminator.network((channels + (conditioning == "embedding"), *size))
    head = discriminator.head(features.out_dim, 1)
    if conditioning == "embedding":
        return EmbeddingCritic(features, head, num_classes, (size[0], size[1]))
    return ProjectionCritic(features, head, discriminator.normed(nn.Embedding(num_classes, features.out_dim)))


class ACGAN(_WithLabels, GenerativeModule):
    """Auxiliary classifier GAN: D maximises L_S + L_C, G maximises L_C - L_S.

    L_S = E[log P(real|x)] + E[log P(generated|G(z, y))], L_C = E[log P(y|x)] + E[log P(y|G(z, y))]: Odena et al. 2016,
    arXiv 1610.09585, eq. 2 and 3, by default with their networks for CIFAR-10. With the objective Minimax this is the
    paper's; NonSaturating replaces -L_S in G's loss. The labels of generated images are those of the batch.

    Args:
        latent_dim: width d of z.
        class_weight: of L_C.
        objective: what D and G minimise of the source's logits; Minimax by default.
        generator, discriminator, prior, n_critic, ema_decay, clip, micro_batches, discriminator_lr_factor,
            optimizer: as in GAN.
        num_classes, image_shape: given by the data when run through train.py.

    Raises:
        ValueError: a size, number of steps or weight out of range, or parts that do not go together.
    """

    def __init__(
        self,
        latent_dim: int = 100,
        class_weight: float = 1.0,
        generator: Generator | None = None,
        discriminator: Discriminator | None = None,
        objective: Objective | None = None,
        prior: Prior | None = None,
        n_critic: int = 1,
        ema_decay: float = 0.0,
        clip: float | None = None,
        micro_batches: int = 1,
        discriminator_lr_factor: float = 1.0,
        num_classes: int = 10,
        image_shape: ImageShape = (3, 32, 32),
        optimizer: OptimizerCallable = lambda params: DCGANAdam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1 or not class_weight >= 0:
            raise ValueError(
                f"latent_dim is {latent_dim} and class_weight {class_weight}; they must be at least 1 and 0"
            )
        self.save_hyperparameters()
        self.num_classes = num_classes
        self.class_weight = class_weight
        self.prior = prior or Normal()
        discriminator = discriminator or ACGANDiscriminator()
        features = discriminator.network(image_shape)
        self.assemble(
            (generator or ACGANGenerator()).network(image_shape, latent_dim + num_classes),
            AuxiliaryCritic(features, discriminator.head(features.out_dim, 1 + num_classes)),
            self.prior.law(latent_dim),
            objective or Minimax(),
            Recipe(n_critic, ema_decay, clip, micro_batches, discriminator_lr_factor),
        )

    def discriminator_terms(self, images: Tensor, codes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        fake = self.fakes(codes)
        (on_real, classes), (on_fake, fake_classes) = self.critic(images), self.critic(fake)
        on_real, on_fake = on_real.float(), on_fake.float()
        class_loss = _class_loss(classes, labels) + _class_loss(fake_classes, labels)
        loss = self.objective.discriminator(on_real, on_fake) + self.class_weight * class_loss
        terms = {"loss_d": loss, **self.scores(on_real, on_fake), "class_loss_d": class_loss}
        return self.penalised(terms, lambda between: self.critic(between)[0], images, fake)

    def generator_terms(self, codes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        on_fake, classes = self.critic(self.generator(codes))
        class_loss = _class_loss(classes, labels)
        loss = self.objective.generator(on_fake.float()) + self.class_weight * class_loss
        return {"loss_g": loss, "class_loss_g": class_loss}


def _class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), labels)
