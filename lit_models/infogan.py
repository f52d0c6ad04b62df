import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.adversarial import AdversarialRecipe, DCGANAdam
from lit_models.common.adversarial_recipe import check_not_negative
from lit_models.common.capabilities import LatentBlock
from lit_models.common.discriminators import DCGANDiscriminator, Discriminator, PatchDiscriminator
from lit_models.common.generators import DCGANGenerator, Generator
from lit_models.common.latent_gan import LatentGAN
from lit_models.common.module import ImageShape
from lit_models.common.objectives import NonSaturating, Objective
from lit_models.common.prior_distributions import PriorDistribution
from lit_models.common.priors import Normal, Prior
from lit_models.losses.mutual_information import categorical_information, uniform_information
from lit_models.networks.discriminators import InformationDiscriminator
from lit_models.networks.mlp import mlp

MIN_LOG_STD = -4.0
"""Smallest logarithm of a learned standard deviation of Q, as the bound has no maximum without one."""


class InformationCode(PriorDistribution):
    """Noise z, m numbers uniform on [-1, 1], and V categorical variables, uniform on K categories, as one-hot columns.

    The last two are c. A distribution Q of c has the parameters: m means, m logarithms of standard deviations if they
    are learned, and V K logits.

    Args:
        noise: Distribution of z.
        continuous_dim: m.
        variables: V.
        categories: K.
        learned_std: Whether Q's standard deviations are learned; else they are 1.
    """

    def __init__(
        self, noise: PriorDistribution, continuous_dim: int, variables: int, categories: int, learned_std: bool
    ) -> None:
        super().__init__(noise.dim + continuous_dim + variables * categories)
        self.noise = noise
        self.continuous_dim = continuous_dim
        self.variables = variables
        self.categories = categories
        self.learned_std = learned_std
        self.num_params = (1 + learned_std) * continuous_dim + variables * categories

    def blocks(self) -> list[LatentBlock]:
        d, c = self.noise.dim, self.noise.dim + self.continuous_dim
        blocks = [LatentBlock("continuous", 0, d)]
        if self.continuous_dim:
            blocks.append(LatentBlock("continuous", d, c))
        if self.variables:
            blocks.append(LatentBlock("categorical", c, self.dim, self.categories))
        return blocks

    def sample(self, n: int) -> Tensor:
        numbers = 2 * self.uniform(n, self.continuous_dim) - 1
        drawn = torch.randint(self.categories, (n, self.variables), device=self.device)
        return torch.cat([self.noise.sample(n), numbers, F.one_hot(drawn, self.categories).flatten(1)], dim=1)

    def split_codes(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes, N x d -> z, N x dim of z, numbers, N x m, and one-hot vectors, N x V x K."""
        z, numbers, one_hot = codes.tensor_split([self.noise.dim, self.noise.dim + self.continuous_dim], dim=1)
        return z, numbers, one_hot.unflatten(1, (self.variables, self.categories))

    def split_params(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Parameters of Q, N x P -> means and logarithms of standard deviations, N x m, and logits, N x V x K."""
        m = self.continuous_dim
        means, rest = params[:, :m], params[:, m:]
        log_stds, logits = (rest[:, :m], rest[:, m:]) if self.learned_std else (torch.zeros_like(means), rest)
        return means, log_stds.clamp(min=MIN_LOG_STD), logits.unflatten(1, (self.variables, self.categories))

    def mode(self, params: Tensor) -> Tensor:
        """Parameters of Q, N x P -> codes with the means and the most probable categories, and with z = 0, N x d."""
        means, _, logits = self.split_params(params)
        one_hot = F.one_hot(logits.argmax(dim=2), self.categories).flatten(1)
        return torch.cat([means.new_zeros(len(means), self.noise.dim), means, one_hot.to(means)], dim=1)


class MostProbableCode(nn.Module):
    """Encoder of an InfoGAN: images, N x C x H x W -> codes, N x d.

    Args:
        discriminator: Network with Q.
        code: Meaning of Q's parameters.
    """

    def __init__(self, discriminator: nn.Module, code: InformationCode) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.code = code

    def forward(self, images: Tensor) -> Tensor:
        return self.code.mode(self.discriminator(images)[1])


class InfoGAN(LatentGAN):
    """GAN whose images tell a part c of their code: min_{G, Q} max_D V(D, G) - L_I(G, Q).

    Chen et al. 2016, arXiv 1606.03657, eq. 6. A code is noise z, `continuous_dim` numbers that are uniform on [-1, 1],
    and `variables` categorical variables with one-hot columns; c is the last two. V is the objective, and
    L_I = E[log Q(c|G(z, c))] + H(c) a lower bound of the mutual information of c and G(z, c) in nats (eq. 5), here with
    a weight for each kind of variable. A categorical variable may find the classes of the images without any label.

    Q has one hidden layer of its own, without batch norm, on the features of the discriminator D. As in the authors'
    code, G and D both take the bound into their losses, and Q is optimised together with D.

    `info_categorical` and `info_continuous` are logged, the bounds at G's step.

    Args:
        latent_dim: Width of the noise z.
        categories: Number K of categories of each categorical variable.
        variables: Number of categorical variables; 0 for none.
        continuous_dim: Number of continuous variables; 0 for none.
        categorical_weight: Weight of the bound of the categorical variables.
        continuous_weight: Weight of the bound of the continuous variables.
        learned_std: Whether Q has a standard deviation for each continuous variable and image. By default all are 1, as
            in the authors' code for MNIST; the bound is then at most log 2 - log(2 pi) / 2 = -0.23 nats for each.
        hidden_dim: Width of Q's hidden layer.
        generator: Network of the generator; DCGANGenerator by default.
        discriminator: Network of the discriminator; DCGANDiscriminator by default.
        objective: Losses of discriminator and generator; NonSaturating by default.
        prior: Distribution of z; Normal by default.
        recipe: Settings of adversarial training.
        image_shape: Channels, height, width of the images; train.py sets it from the data.
        optimizer: Function that makes each of the two optimizers from its parameters.

    Raises:
        ValueError: a number is out of range, there is no variable to tell, or the arguments do not fit together.

    Examples:
        >>> from lit_models.common.generators import MLPGenerator
        >>> model = InfoGAN(latent_dim=8, generator=MLPGenerator((16,)))
        >>> model.encode(model.sample(4)).shape
        torch.Size([4, 20])
    """

    prior: InformationCode

    def __init__(
        self,
        latent_dim: int = 62,
        categories: int = 10,
        variables: int = 1,
        continuous_dim: int = 2,
        categorical_weight: float = 1.0,
        continuous_weight: float = 1.0,
        learned_std: bool = False,
        hidden_dim: int = 128,
        generator: Generator | None = None,
        discriminator: Discriminator | None = None,
        objective: Objective | None = None,
        prior: Prior | None = None,
        recipe: AdversarialRecipe = AdversarialRecipe(),
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: DCGANAdam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1 or hidden_dim < 1 or categories < 2:
            raise ValueError(
                f"latent_dim is {latent_dim}, hidden_dim {hidden_dim} and categories {categories}; they must be at"
                " least 1, 1 and 2"
            )
        if min(variables, continuous_dim) < 0 or variables + continuous_dim == 0:
            raise ValueError(
                f"variables is {variables} and continuous_dim {continuous_dim}; they must be at least 0, one of them"
                " above, or use --model GAN"
            )
        if isinstance(discriminator, PatchDiscriminator):
            raise ValueError("Q needs features of a whole image, and PatchDiscriminator has none: use another one")
        check_not_negative(categorical_weight=categorical_weight, continuous_weight=continuous_weight)
        self.save_hyperparameters()
        self.categorical_weight = categorical_weight
        self.continuous_weight = continuous_weight
        self.setup_prior(prior or Normal(), latent_dim)
        self.prior = InformationCode(self.prior, continuous_dim, variables, categories, learned_std)
        discriminator = discriminator or DCGANDiscriminator()
        features = discriminator.build_features(image_shape)
        self.setup_networks(
            (generator or DCGANGenerator()).build(image_shape, self.prior.dim),
            InformationDiscriminator(
                features,
                discriminator.build_head(features.out_dim, 1),
                mlp([features.out_dim, hidden_dim, self.prior.num_params]),
            ),
            objective or NonSaturating(),
            recipe,
        )

    def latent_blocks(self) -> list[LatentBlock]:
        return self.prior.blocks()

    def encode(self, images: Tensor) -> Tensor:
        """N x C x H x W -> codes, N x d, with the most probable c; the columns of z, which Q does not tell, are 0."""
        return self.encoder_network()(images)

    def encoder_network(self) -> nn.Module:
        return MostProbableCode(self.discriminator, self.prior)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"codes": self.encode(batch[0]), **super().predict_step(batch, batch_idx)}

    def discriminator_terms(self, images: Tensor, codes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        real, fake = self.discriminator_input(images), self.discriminator_input(self.generate(codes))
        (on_real, _), (on_fake, params) = self.discriminator(real), self.discriminator(fake)
        on_real, on_fake = on_real.float(), on_fake.float()
        loss = self.objective.discriminator(on_real, on_fake) - self._weighted(self.information(params, codes))
        terms = {"loss_d": loss, **self.mean_scores(on_real, on_fake)}
        return self.add_gradient_penalty(terms, lambda between: self.discriminator(between)[0], real, fake)

    def generator_terms(self, codes: Tensor, labels: Tensor, images: Tensor | None = None) -> dict[str, Tensor]:
        on_fake, params = self.discriminator(self.discriminator_input(self.generator(codes)))
        adversarial = self.generator_loss(on_fake, lambda x: self.discriminator(self.discriminator_input(x))[0], images)
        information = self.information(params, codes)
        return {"loss_g": adversarial - self._weighted(information), **information}

    def information(self, params: Tensor, codes: Tensor) -> dict[str, Tensor]:
        """The bound for each kind of variable, in nats, from Q's parameters, N x P, of the images of codes, N x d."""
        means, log_stds, logits = self.prior.split_params(params)
        _, numbers, one_hot = self.prior.split_codes(codes)
        return {
            "info_categorical": categorical_information(logits, one_hot),
            "info_continuous": uniform_information(means, log_stds, numbers),
        }

    def _weighted(self, information: dict[str, Tensor]) -> Tensor:
        return (
            self.categorical_weight * information["info_categorical"]
            + self.continuous_weight * information["info_continuous"]
        )
