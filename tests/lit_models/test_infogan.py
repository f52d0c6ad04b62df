"""InfoGAN: the code, what Q says of it, and the weights of the bounds."""

from typing import Any

import pytest
import torch

from lit_models import InfoGAN
from lit_models.common.capabilities import LatentBlock
from lit_models.common.discriminators import MLPDiscriminator, PatchDiscriminator
from lit_models.common.generators import MLPGenerator
from lit_models.infogan import MIN_LOG_STD
from tests.lit_models.adversaries import fitted, half
from tests.lit_models.common.test_adversarial import loader


def infogan(**options: Any) -> InfoGAN:
    torch.manual_seed(0)
    parts = {"generator": MLPGenerator((16,)), "discriminator": MLPDiscriminator((16,)), "hidden_dim": 8}
    return InfoGAN(**{"latent_dim": 5, "categories": 3, "variables": 2, **parts, **options})


def test_codes_are_noise_then_numbers_then_categories():
    model = infogan()
    continuous, categorical = LatentBlock("continuous", 5, 7), LatentBlock("categorical", 7, 13, 3)
    assert model.latent_blocks() == [LatentBlock("continuous", 0, 5), continuous, categorical]
    z, numbers, one_hot = model.prior.split_codes(model.sample_prior(3000))
    assert z.std().item() == pytest.approx(1, abs=0.05)
    assert -1 <= numbers.min() < -0.99 and 0.99 < numbers.max() <= 1 and abs(numbers.mean()) < 0.05
    assert set(one_hot.unique().tolist()) == {0, 1} and (one_hot.sum(dim=2) == 1).all()
    torch.testing.assert_close(one_hot.mean(dim=0), torch.full((2, 3), 1 / 3), atol=0.05, rtol=0)
    assert infogan(variables=0).latent_blocks()[1:] == [continuous]
    assert infogan(continuous_dim=0).latent_blocks()[1:] == [LatentBlock("categorical", 5, 11, 3)]


@pytest.mark.parametrize("learned", [False, True])
def test_a_code_is_what_q_finds_most_probable(learned: bool):
    model = infogan(learned_std=learned)
    codes = model.sample_prior(6)
    _, numbers, one_hot = model.prior.split_codes(codes)
    log_stds = [torch.full_like(numbers, -9.0)] if learned else []
    params = torch.cat([numbers, *log_stds, 9 * one_hot.flatten(1)], dim=1)
    assert torch.equal(model.prior.mode(params), torch.cat([torch.zeros(6, 5), codes[:, 5:]], dim=1))
    assert model.prior.split_params(params)[1].unique().tolist() == [MIN_LOG_STD if learned else 0.0]
    images = torch.rand(6, 1, 28, 28)
    assert torch.equal(model.encode(images), model.prior.mode(model.discriminator(images)[1]))


def test_both_losses_fall_by_the_weighted_bounds():
    images, terms = torch.rand(6, 1, 28, 28), {}
    for weights in ((0.0, 0.0), (2.0, 3.0)):
        model = infogan(categorical_weight=weights[0], continuous_weight=weights[1])
        codes = model.sample_prior(6)
        terms[weights] = model.discriminator_terms(images, codes, codes), model.generator_terms(codes, codes)
    bounds = model.information(model.discriminator(model.generator(codes))[1], codes)
    expected = 2 * bounds["info_categorical"] + 3 * bounds["info_continuous"]
    for plain, weighted in zip(*terms.values(), strict=True):
        torch.testing.assert_close(next(iter(plain.values())) - next(iter(weighted.values())), expected)


def test_q_learns_in_the_discriminators_step_and_training_is_finite_in_half_precision():
    model = infogan(learned_std=True)
    before = {name: p.detach().clone() for name, p in model.discriminator.q_head.named_parameters()}
    fitted(model, loader(16), plugins=[half(2.0**8)])
    for name, parameter in model.discriminator.q_head.named_parameters():
        assert parameter.isfinite().all() and not torch.equal(parameter, before[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variables": 0, "continuous_dim": 0}, "variables is 0 and continuous_dim 0"),
        ({"categories": 1}, "categories 1"),
        ({"categorical_weight": -1.0}, "categorical_weight is -1.0"),
        ({"discriminator": PatchDiscriminator()}, "Q needs features of a whole image"),
    ],
)
def test_what_cannot_be_is_an_error(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        infogan(**options)
