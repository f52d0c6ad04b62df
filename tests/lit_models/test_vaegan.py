"""VAE-GAN: algorithm 1 of Larsen et al. 2015, by autograd."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from lit_models import VAEGAN
from lit_models.common.adversarial import AdversarialRecipe
from lit_models.common.capabilities import Encodes, HasLatentBlocks, Reconstructs
from lit_models.common.discriminators import DCGANDiscriminator
from lit_models.common.encoder_decoders import MLPNetworks
from lit_models.common.generators import MLPGenerator
from lit_models.common.objectives import Hinge, Minimax
from tests.lit_models.adversaries import adam, fitted, half, weights_of
from tests.lit_models.common.test_adversarial import loader


def vaegan(**options: Any) -> VAEGAN:
    """Without batch norm, so that each image is treated alone."""
    torch.manual_seed(0)
    parts = {"encoder": MLPNetworks((16,)), "generator": MLPGenerator((16,))}
    discriminator = DCGANDiscriminator(4, norm="none")
    return VAEGAN(**{"latent_dim": 5, "discriminator": discriminator, "optimizer": adam, **parts, **options}).double()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(6, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_capabilities():
    model = vaegan(recipe=AdversarialRecipe(ema_decay=0.9))
    assert isinstance(model, Encodes) and isinstance(model, Reconstructs) and isinstance(model, HasLatentBlocks)
    assert model.encoder_network().encoder is model.ema_generator["encoder"]  # type: ignore[index]


def test_gradients_are_those_of_algorithm_1(images: Tensor, monkeypatch: pytest.MonkeyPatch):
    """All at once on the same draws, as in the paper, with losses of torch.distributions and of the paper's logarithms.

    The paper's objective is Minimax, and the half weight of each kind of generated image is that of its code.
    """
    model = vaegan(gamma=0.3, beta=2.0, objective=Minimax())
    noise, of_prior = torch.randn(2, 6, 5, dtype=torch.float64).unbind()
    monkeypatch.setattr(model, "draw", lambda params: draw(params, noise))
    encoder, decoder, discriminator = model.generator["encoder"], model.generator["decoder"], model.discriminator

    mean, log_var = encoder(images).chunk(2, dim=1)
    posterior = Independent(Normal(mean, (0.5 * log_var).exp()), 1)
    kl = kl_divergence(posterior, Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)).mean()
    x, x_tilde, x_p = images, decoder(draw(encoder(images), noise)), decoder(of_prior)
    features, of_x_tilde = discriminator.features(x), discriminator.features(x_tilde)
    nll = -Independent(Normal(of_x_tilde, 1.0), 1).log_prob(features).mean()
    dis = [discriminator(each).sigmoid() for each in (x, x_tilde, x_p)]
    gan = dis[0].log().mean() + 0.5 * (1 - dis[1]).log().mean() + 0.5 * (1 - dis[2]).log().mean()

    labels = torch.zeros(6)
    for part, expected, loss in (
        (encoder, 2.0 * kl + nll, model.encoder_terms(images)["loss_e"]),
        (decoder, 0.3 * nll + gan, model.generator_terms(images, of_prior, labels)["loss_g"]),
        (discriminator, -gan, model.discriminator_terms(images, of_prior, labels)["loss_d"]),
    ):
        parameters = list(part.parameters())
        for found, wanted in zip(
            torch.autograd.grad(loss, parameters),
            torch.autograd.grad(expected, parameters, retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(found, wanted)


def draw(params: Tensor, noise: Tensor) -> Tensor:
    mean, log_var = params.chunk(2, dim=1)
    return mean + (0.5 * log_var).exp() * noise


def test_the_encoder_gets_no_gradient_of_the_objective_and_the_discriminator_none_of_the_error(images: Tensor):
    gradients = {}
    for objective, gamma in ((Minimax, 0.0), (Minimax, 5.0), (Hinge, 5.0)):
        model = vaegan(objective=objective(), gamma=gamma)
        encoder, discriminator = (list(part.parameters()) for part in (model.generator["encoder"], model.discriminator))
        terms = [
            term(images, model.sample_prior(6), torch.zeros(6))
            for term in (model.discriminator_terms, model.generator_terms)
        ]
        for loss in (terms[0]["loss_d"], terms[1]["loss_g"]):
            assert all(g is None for g in torch.autograd.grad(loss, encoder, allow_unused=True, retain_graph=True))
        of_encoder = torch.autograd.grad(model.encoder_terms(images)["loss_e"], encoder)
        gradients[objective, gamma] = of_encoder, torch.autograd.grad(terms[0]["loss_d"], discriminator)
    (encoder, discriminator), (with_error, same), (with_hinge, _) = gradients.values()
    torch.testing.assert_close((encoder, encoder, discriminator), (with_error, with_hinge, same), rtol=0, atol=0)


def test_training_is_finite_in_half_precision():
    fitted(model := vaegan().float(), loader(16), plugins=[half(2.0**6)])
    assert all(value.isfinite().all() for value in weights_of(model).values())
