"""Adversarial autoencoder: who learns from which term, and the prior that the codes shall have."""

from typing import Any

import pytest
import torch

from lit_models import AdversarialAutoencoder
from lit_models.common.adversarial import AdversarialRecipe
from lit_models.common.capabilities import Encodes, HasBackbone, Reconstructs
from lit_models.common.encoder_decoders import MLPNetworks
from lit_models.common.objectives import Wasserstein
from lit_models.common.prior_distributions import UnitDiscDistribution
from lit_models.common.priors import UnitDisc
from tests.lit_models.adversaries import Step, adam, assert_no_change_between, fitted, half
from tests.lit_models.common.test_adversarial import loader


def autoencoder(**options: Any) -> AdversarialAutoencoder:
    torch.manual_seed(0)
    parts = {"networks": MLPNetworks((16,)), "discriminator_dims": (8,), "optimizer": adam}
    return AdversarialAutoencoder(**{"latent_dim": 2, **parts, **options})


def test_capabilities():
    model = autoencoder(prior=UnitDisc(), recipe=AdversarialRecipe(ema_decay=0.9))
    assert isinstance(model, Encodes) and isinstance(model, Reconstructs) and not isinstance(model, HasBackbone)
    assert isinstance(model.prior, UnitDiscDistribution) and (model.sample_prior(99).norm(dim=1) <= 1 + 1e-6).all()
    assert model.encoder_network() is model.ema_generator["encoder"]  # type: ignore[index]
    with pytest.raises(ValueError, match=r"recipe.augment is for models that make images from codes"):
        autoencoder(recipe=AdversarialRecipe(augment=("color",)))


def test_the_discriminator_takes_draws_for_real_and_codes_for_generated():
    model = autoencoder(objective=Wasserstein(gradient_penalty=0))
    images, draws = torch.rand(6, 1, 28, 28), model.sample_prior(6)
    loss = model.discriminator_terms(images, draws)["loss_d"]
    torch.testing.assert_close(loss, (model.discriminator(model.encode(images)) - model.discriminator(draws)).mean())
    found = torch.autograd.grad(loss, list(model.generator.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in found)


def test_the_objective_moves_the_encoder_and_the_reconstruction_both():
    model, images = autoencoder(regularization=3.0), torch.rand(6, 1, 28, 28)
    terms = model.generator_terms(images)
    torch.testing.assert_close(terms["loss_g"], terms["reconstruction"] + 3 * terms["adversarial"])
    for term, parts in (("adversarial", {"encoder"}), ("reconstruction", {"encoder", "decoder"})):
        for part in ("encoder", "decoder"):
            parameters = list(model.generator[part].parameters())
            found = torch.autograd.grad(terms[term], parameters, allow_unused=True, retain_graph=True)
            assert all((gradient is not None) == (part in parts) for gradient in found)


@pytest.mark.parametrize("options", [{}, {"plugins": [half(2.0**6)]}], ids=["single", "fp16"])
def test_a_step_changes_only_its_own_networks(options: dict[str, Any], steps: list[Step]):
    model = autoencoder(recipe=AdversarialRecipe(ema_decay=0.9, accumulate_grad_batches=2))
    fitted(model, loader(16), limit_train_batches=2, **options)
    assert [step.own for step in steps] == [("discriminator",), ("generator.encoder", "generator.decoder")] * 2
    for step in steps:
        step.assert_changes_only_its_own(model)
    assert_no_change_between(steps)
