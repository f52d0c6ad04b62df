import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.adversarial import AdversarialBase, AdversarialRecipe
from lit_models.common.adversarial_recipe import check_not_negative
from lit_models.common.capabilities import LatentBlock, refuse_label
from lit_models.common.discriminators import MLPDiscriminator
from lit_models.common.encoder_decoders import MLPNetworks, Networks
from lit_models.common.manual_optimization import frozen_statistics
from lit_models.common.module import ImageShape, Stage
from lit_models.common.objectives import NonSaturating, Objective
from lit_models.common.prior_distributions import PriorDistribution
from lit_models.common.priors import Normal, Prior
from lit_models.losses.likelihood import LikelihoodKind, log_likelihood


class AdversarialAutoencoder(AdversarialBase):
    """Autoencoder whose codes a discriminator D cannot tell from draws of a prior.

    min_{f, g} max_D E[-log p(x|f(x))] + lambda (E[log D(z)] + E[log(1 - D(f(x)))]), z from the prior, f the encoder and
    g the decoder, or with another objective in place of the bracket. Makhzani et al. 2015, arXiv 1511.05644, with their
    deterministic encoder. The encoder is the generator of the adversarial game, and D sees codes, not images. Only
    draws of the prior are needed, so that it may have any shape.

    Encoder and decoder take one step on the sum, as in algorithm 1 of Tolstikhin et al. 2017, arXiv 1711.01558
    (WAE-GAN), where the paper takes a step on the reconstruction and then one of the encoder on the objective.

    Args:
        latent_dim: Width d of the latent code.
        networks: Encoder and decoder; MLPNetworks by default.
        discriminator_dims: Widths of the discriminator's hidden layers.
        objective: Losses of the discriminator and of the encoder; NonSaturating by default.
        regularization: Weight lambda of the objective in the loss of the encoder, in nats.
        likelihood: Distribution of a pixel given its mean.
        likelihood_scale: Standard deviation of a gaussian, or scale b of a laplace likelihood; bernoulli has none.
        prior: Distribution that the codes shall have; Normal by default.
        recipe: Settings of adversarial training; the EMA is that of encoder and decoder.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Function that makes each of the two optimizers from its parameters.

    Raises:
        ValueError: a size, weight or scale is too small, or the arguments do not fit together.

    Examples:
        >>> from lit_models.common.priors import UnitDisc
        >>> model = AdversarialAutoencoder(latent_dim=2, prior=UnitDisc())
        >>> model.decode(model.sample_prior(4)).shape
        torch.Size([4, 1, 28, 28])
    """

    generator: nn.ModuleDict
    """The encoder and the decoder."""
    prior: PriorDistribution

    def __init__(
        self,
        latent_dim: int = 8,
        networks: Networks | None = None,
        discriminator_dims: tuple[int, ...] = (512, 256),
        objective: Objective | None = None,
        regularization: float = 10.0,
        likelihood: LikelihoodKind = "bernoulli",
        likelihood_scale: float = 0.1,
        prior: Prior | None = None,
        recipe: AdversarialRecipe = AdversarialRecipe(),
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3, betas=(0.5, 0.999)),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1 or not likelihood_scale > 0:
            raise ValueError(f"latent_dim is {latent_dim}, likelihood_scale {likelihood_scale}; both must be positive")
        check_not_negative(regularization=regularization)
        self.save_hyperparameters()
        self.regularization = regularization
        self.likelihood: LikelihoodKind = likelihood
        self.likelihood_scale = likelihood_scale
        self.networks = networks or MLPNetworks()
        self.setup_networks(
            nn.ModuleDict(
                {
                    "encoder": self.networks.build_encoder(image_shape, latent_dim),
                    "decoder": self.networks.build_decoder(image_shape, latent_dim),
                }
            ),
            MLPDiscriminator(discriminator_dims).build((latent_dim,)),
            objective or NonSaturating(),
            recipe,
        )
        self.hparams["prior"] = prior = prior or Normal()  # a checkpoint then records it without its initial weights
        self.prior = prior.build(latent_dim)
        self._ddp_params_and_buffers_to_ignore = [f"prior.{name}" for name, _ in self.prior.named_buffers()]

    def latent_blocks(self) -> list[LatentBlock]:
        return [LatentBlock("continuous", 0, self.prior.dim)]

    def sample_prior(self, n: int) -> Tensor:
        return self.prior.sample(n).to(self.dtype)

    def sample(self, n: int, label: int | None = None) -> Tensor:
        refuse_label(self, label)
        return self.decode(self.sample_prior(n))

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder_network()(images)

    def encoder_network(self) -> nn.Module:
        return self.sampling_generator["encoder"]  # type: ignore[index]

    def decode(self, codes: Tensor) -> Tensor:
        return self._logits(codes).sigmoid()

    def _logits(self, codes: Tensor) -> Tensor:
        return self.sampling_generator["decoder"](codes)  # type: ignore[index]

    def reconstruct(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.reconstruct(images)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"codes": self.encode(batch[0]), "labels": batch[1]}

    # Training.

    def discriminator_step_inputs(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return batch[0], self.sample_prior(len(batch[0]))

    def generator_step_inputs(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return self.discriminator_step_inputs(batch) if self.objective.needs_real else (batch[0],)

    def discriminator_terms(self, images: Tensor, draws: Tensor) -> dict[str, Tensor]:
        """Named scalars of images, and of as many draws of the prior, N x d; the discriminator minimises the first."""
        encoder = self.generator["encoder"]
        with torch.no_grad(), frozen_statistics(encoder):
            codes = encoder(images)
        return self.discriminator_loss(self.discriminator, draws, codes)

    def generator_terms(self, images: Tensor, draws: Tensor | None = None) -> dict[str, Tensor]:
        """Named scalars of images; encoder and decoder minimise the first.

        Args:
            images: N x C x H x W.
            draws: As many draws of the prior, N x d, if the objective needs them.
        """
        codes = self.generator["encoder"](images)
        adversarial = self.generator_loss(self.discriminator(codes), self.discriminator, draws)
        errors = self._errors(self.generator["decoder"](codes), images)
        loss = errors["reconstruction"] + self.regularization * adversarial
        return {"loss_g": loss, "adversarial": adversarial, **errors}

    def _errors(self, logits: Tensor, images: Tensor) -> dict[str, Tensor]:
        likelihood = log_likelihood(self.likelihood, logits, images, self.likelihood_scale)
        return {"reconstruction": -likelihood.mean(), "mse": F.mse_loss(logits.float().sigmoid(), images.float())}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._log_errors("val", batch[0])

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._log_errors("test", batch[0])

    def _log_errors(self, stage: Stage, images: Tensor) -> None:
        self.log_terms(stage, self._errors(self._logits(self.encode(images)), images), len(images))
