from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.adversarial import AdversarialRecipe, DCGANAdam
from lit_models.common.adversarial_recipe import check_not_negative
from lit_models.common.discriminators import DCGANDiscriminator, Discriminator
from lit_models.common.encoder_decoders import Networks, StridedNetworks
from lit_models.common.generators import DCGANGenerator, Generator
from lit_models.common.latent_distributions import Gaussian
from lit_models.common.latent_gan import LatentGAN
from lit_models.common.manual_optimization import frozen_statistics
from lit_models.common.module import ImageShape, Stage
from lit_models.common.objectives import NonSaturating, Objective
from lit_models.common.priors import Normal
from lit_models.networks.discriminators import UnconditionalDiscriminator


class EncoderAndDecoder(nn.ModuleDict):
    """The encoder, images to parameters of a distribution of codes, and the decoder, codes to images."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__({"encoder": encoder, "decoder": decoder})

    def forward(self, codes: Tensor) -> Tensor:
        """N x d -> N x C x H x W."""
        return self["decoder"](codes)


class MeanOfGaussian(nn.Module):
    """Means of the normal distributions whose means and log-variances an encoder computes: N x C x H x W -> N x d."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        return Gaussian().mode(self.encoder(images))


class VAEGAN(LatentGAN):
    """VAE whose decoder is the generator of a GAN, and whose error is one of the discriminator's features.

    Larsen et al. 2015, arXiv 1512.09300, algorithm 1. With codes z ~ q(z|x) = N(mu(x), diag(sigma(x)^2)) and
    z_p ~ p(z) = N(0, I), decoded images x' = G(z) and x_p = G(z_p), and the features h of the discriminator D, its last
    hidden layer:

    - D minimises the objective on x against x' and x_p, which have half the weight each, as in the authors' code,
    - the decoder G minimises gamma |h(x) - h(x')|^2 / 2 + the objective on x' and x_p,
    - the encoder minimises beta KL(q(z|x) || p(z)) + |h(x) - h(x')|^2 / 2.

    The error is -log N(h(x); h(x'), I) in nats without its constant, summed over the features. The encoder gets no
    gradient of the objective, D none of the error. The three steps are taken one after the other, each on new draws,
    where the paper takes them at once.

    Args:
        latent_dim: Width d of the latent code z.
        gamma: Weight of the error of the features in the decoder's loss.
        beta: Weight of the divergence in the encoder's loss.
        encoder: The encoder of these networks; StridedNetworks by default.
        generator: Network of the decoder; DCGANGenerator by default.
        discriminator: Network of the discriminator; DCGANDiscriminator by default.
        objective: Losses of discriminator and decoder; NonSaturating by default.
        recipe: Settings of adversarial training; the EMA is that of encoder and decoder.
        image_shape: Channels, height, width of the images; train.py sets it from the data.
        optimizer: Function that makes each of the three optimizers from its parameters.

    Raises:
        ValueError: a number is out of range, or the arguments do not fit together.

    Examples:
        >>> model = VAEGAN(latent_dim=8)
        >>> model.reconstruct(model.sample(4)).shape
        torch.Size([4, 1, 28, 28])
    """

    generator: EncoderAndDecoder
    discriminator: UnconditionalDiscriminator

    def __init__(
        self,
        latent_dim: int = 100,
        gamma: float = 1e-3,
        beta: float = 1.0,
        encoder: Networks | None = None,
        generator: Generator | None = None,
        discriminator: Discriminator | None = None,
        objective: Objective | None = None,
        recipe: AdversarialRecipe = AdversarialRecipe(),
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: DCGANAdam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1:
            raise ValueError(f"latent_dim is {latent_dim}; it must be at least 1")
        check_not_negative(gamma=gamma, beta=beta)
        self.save_hyperparameters()
        self.gamma = gamma
        self.beta = beta
        self.setup_networks(
            EncoderAndDecoder(
                (encoder or StridedNetworks()).build_encoder(image_shape, 2 * latent_dim),
                (generator or DCGANGenerator()).build(image_shape, latent_dim),
            ),
            (discriminator or DCGANDiscriminator()).build(image_shape),
            objective or NonSaturating(),
            recipe,
        )
        self.prior = Normal().build(latent_dim)

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        decoder, encoder = (self.make_optimizer(self.generator[name].parameters()) for name in ("decoder", "encoder"))
        return [self.discriminator_optimizer(self.discriminator), decoder, encoder]

    def encode(self, images: Tensor) -> Tensor:
        """N x C x H x W -> means of q(z|x), N x d."""
        return self.encoder_network()(images)

    def encoder_network(self) -> nn.Module:
        return MeanOfGaussian(self.sampling_generator["encoder"])  # type: ignore[index]

    def reconstruct(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"codes": self.encode(batch[0]), **super().predict_step(batch, batch_idx)}

    # Training.

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        self.check_batch_size(len(batch[0]))
        optimizers: Any = self.optimizers()
        terms = self.take_step("d", optimizers[0], self.discriminator_terms, *self.discriminator_step_inputs(batch))
        if self.is_generator_step():
            with frozen_statistics(self.discriminator):
                terms |= self.take_step("g", optimizers[1], self.generator_terms, *self.generator_step_inputs(batch))
                terms |= self.take_step("e", optimizers[2], self.encoder_terms, batch[0])
            self.update_ema_generator(self.recipe.n_critic + 2)
        self.log_terms("train", terms, len(batch[0]))
        return terms

    def generator_step_inputs(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return self.discriminator_step_inputs(batch)

    def discriminator_terms(self, images: Tensor, codes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Named scalars of images, and of as many codes of the prior; the discriminator minimises the first."""
        generated = self.generate(torch.cat([self.draw_codes(images), codes]))
        real, fake = self.discriminator_input(images.repeat(2, 1, 1, 1)), self.discriminator_input(generated)
        return self.discriminator_loss(self.discriminator, real, fake)

    def generator_terms(  # type: ignore[override]
        self, images: Tensor, codes: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Named scalars of images, and of as many codes of the prior; the decoder minimises the first."""
        generated = self.generator(torch.cat([self.draw_codes(images), codes]))

        def logits(images: Tensor) -> Tensor:
            return self.discriminator(self.discriminator_input(images))

        adversarial = self.generator_loss(logits(generated), logits, images.repeat(2, 1, 1, 1))
        loss = self.gamma * self.feature_loss(images, generated[: len(images)]) + adversarial
        return {"loss_g": loss, "adversarial": adversarial}

    def encoder_terms(self, images: Tensor) -> dict[str, Tensor]:
        """Named scalars of images; the encoder minimises the first."""
        params = self.generator["encoder"](images).float()
        codes = self.draw(params)
        with frozen_statistics(self.generator["decoder"]):
            error = self.feature_loss(images, self.generator(codes))
        kl = Gaussian().kl(params).mean()
        return {"loss_e": self.beta * kl + error, "kl": kl, "feature_loss": error}

    def feature_loss(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """|h(x) - h(x')|^2 / 2, a mean over images, N x C x H x W. Batch norms see both together."""
        features = self.discriminator.features(torch.cat([images, reconstructions])).flatten(1).float()
        of_images, of_reconstructions = features.chunk(2)
        return 0.5 * (of_images - of_reconstructions).square().sum(dim=1).mean()

    @torch.no_grad()
    def draw_codes(self, images: Tensor) -> Tensor:
        """Draws z ~ q(z|x) without a gradient and without changing the encoder: N x C x H x W -> N x d."""
        encoder = self.generator["encoder"]
        with frozen_statistics(encoder):
            return self.draw(encoder(images).float())

    def draw(self, params: Tensor) -> Tensor:
        """Draws z ~ q(z|x) differentiably: parameters of q, N x 2d -> N x d."""
        return Gaussian().sample_with_log_ratio(params, 1)[0][0].to(self.dtype)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._log_error("val", batch[0])

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._log_error("test", batch[0])

    def _log_error(self, stage: Stage, images: Tensor) -> None:
        error = F.mse_loss(self.reconstruct(images).float(), images.float())
        self.log_terms(stage, {"mse": error}, len(images))
