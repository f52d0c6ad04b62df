from lightning.pytorch.cli import OptimizerCallable

from lit_models.common.adversarial import AdversarialRecipe, DCGANAdam
from lit_models.common.discriminators import DCGANDiscriminator, Discriminator
from lit_models.common.generators import DCGANGenerator, Generator
from lit_models.common.latent_gan import LatentGAN, load_pretrained_layers
from lit_models.common.module import ImageShape
from lit_models.common.objectives import NonSaturating, Objective
from lit_models.common.pretrained_encoder import NO_CHECKPOINT, resolve_checkpoint_path
from lit_models.common.priors import Normal, Prior


class GAN(LatentGAN):
    """Generative adversarial network: min_G max_D E[log D(x)] + E[log(1 - D(G(z)))], or another objective.

    Goodfellow et al. 2014, arXiv 1406.2661. With the default networks it is a DCGAN (Radford et al. 2015, arXiv
    1511.06434). With `pack` above 1 it is a PacGAN (Lin et al. 2018, arXiv 1712.04086), whose discriminator sees
    several images at once and so detects a generator that repeats itself.

    Args:
        latent_dim: Width d of the latent code z.
        generator: Network of the generator; DCGANGenerator by default.
        discriminator: Network of the discriminator; DCGANDiscriminator by default.
        objective: Losses of discriminator and generator; NonSaturating by default.
        prior: Distribution of z; Normal by default.
        pack: Number of images that the discriminator sees at once.
        recipe: Settings of adversarial training.
        generator_checkpoint: Checkpoint of a model with a decoder, whose layers initialise the generator's layers of
            the same names and shapes. `{seed}` stands for the run's seed, `none` for random initial weights.
        generator_layers: Names of the layers to load from generator_checkpoint; all that fit by default.
        image_shape: Channels, height, width of the images; train.py sets it from the data.
        optimizer: Function that makes each of the two optimizers from its parameters.

    Raises:
        ValueError: a number is out of range, or the arguments do not fit together.
        CheckpointError: `generator_checkpoint` cannot be used.

    Examples:
        >>> from lit_models.common.generators import MLPGenerator
        >>> model = GAN(latent_dim=8, generator=MLPGenerator((16,)), recipe=AdversarialRecipe(ema_decay=0.999))
        >>> model.sample(4).shape
        torch.Size([4, 1, 28, 28])
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
        recipe: AdversarialRecipe = AdversarialRecipe(),
        generator_checkpoint: str | None = None,
        generator_layers: list[str] | None = None,
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: DCGANAdam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1 or pack < 1:
            raise ValueError(f"latent_dim is {latent_dim} and pack {pack}; both must be at least 1")
        self.save_hyperparameters()
        if generator_layers is not None and generator_checkpoint in (None, NO_CHECKPOINT):
            raise ValueError("generator_layers needs a checkpoint to load from: give generator_checkpoint")
        self.pack = pack
        network = (generator or DCGANGenerator()).build(image_shape, latent_dim)
        discriminator_network = (discriminator or DCGANDiscriminator()).build((pack * image_shape[0], *image_shape[1:]))
        if generator_checkpoint not in (None, NO_CHECKPOINT):
            checkpoint = resolve_checkpoint_path(generator_checkpoint, latent_dim)
            self.loaded_layers = load_pretrained_layers(network, checkpoint, generator_layers)
        self.setup_networks(network, discriminator_network, objective or NonSaturating(), recipe)
        self.setup_prior(prior or Normal(), latent_dim)
