"""Adversarial objectives against their definitions, and the gradient penalty against computations by hand."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_models.common.objectives import (
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Objective,
    Relativistic,
    Wasserstein,
)
from lit_models.losses.gradient_penalty import gradient_penalty, zero_centred_gradient_penalty

REAL, FAKE = torch.tensor([1.5, -0.5, 30.0]), torch.tensor([-2.0, 0.25, -40.0])
EVERY = [Minimax(), NonSaturating(), LeastSquares(), Wasserstein(), Hinge(), Relativistic()]


def test_minimax_is_the_value_of_the_game():
    """V = E[log D(x)] + E[log(1 - D(G(z)))]: D minimises -V, G the part of V that depends on it."""
    d_real, d_fake = REAL.double().sigmoid(), FAKE.double().sigmoid()
    value = d_real.log().mean() + (1 - d_fake).log().mean()
    assert Minimax().discriminator(REAL, FAKE).item() == pytest.approx(-value.item(), rel=1e-5)
    assert Minimax().generator(FAKE).item() == pytest.approx((1 - d_fake).log().mean().item(), rel=1e-5)


def test_non_saturating_is_minus_log_d():
    assert NonSaturating().generator(FAKE).item() == pytest.approx(
        -FAKE.double().sigmoid().log().mean().item(), rel=1e-5
    )
    assert torch.equal(NonSaturating().discriminator(REAL, FAKE), Minimax().discriminator(REAL, FAKE))


@pytest.mark.parametrize("objective", [Minimax, NonSaturating])
def test_label_smoothing_is_cross_entropy_with_a_lower_target(objective: type[Minimax]):
    expected = F.binary_cross_entropy_with_logits(REAL, torch.full((3,), 0.9))
    expected = expected + F.binary_cross_entropy_with_logits(FAKE, torch.zeros(3))
    torch.testing.assert_close(objective(label_smoothing=0.1).discriminator(REAL, FAKE), expected)


def test_gradients_where_the_discriminator_is_certain():
    """The slope of minimax is sigmoid(logit), that of the non-saturating objective 1 minus that."""
    logit = torch.tensor([-12.0], requires_grad=True)
    [flat] = torch.autograd.grad(Minimax().generator(logit), logit)
    [steep] = torch.autograd.grad(NonSaturating().generator(logit), logit)
    certain = 1 / (1 + math.exp(12))
    assert flat.item() == pytest.approx(-certain, rel=1e-4) and steep.item() == pytest.approx(certain - 1, rel=1e-4)


def test_least_squares_wasserstein_and_hinge_by_hand():
    real, fake = torch.tensor([0.0, 2.0]), torch.tensor([1.0, -3.0])
    assert LeastSquares().discriminator(real, fake).item() == 0.5 * ((1 + 1) / 2 + (1 + 9) / 2)
    assert LeastSquares().generator(fake).item() == 0.5 * (0 + 16) / 2
    assert Wasserstein().discriminator(real, fake).item() == -1 - 1 and Wasserstein().generator(fake).item() == 1
    assert Hinge().discriminator(real, fake).item() == (1 + 0) / 2 + (2 + 0) / 2 and Hinge().generator(fake).item() == 1


def test_relativistic_compares_the_images_of_a_pair():
    """-log s(D(x) - D(G(z))) for the discriminator, and with the images exchanged for the generator."""
    real, fake = torch.tensor([0.0, 2.0, 50.0]), torch.tensor([1.0, -3.0, -50.0])
    margins = torch.tensor([-1.0, 5.0, 100.0], dtype=torch.float64)
    discriminator, generator = (torch.log1p((-sign * margins).exp()).mean() for sign in (1, -1))
    assert Relativistic().discriminator(real, fake).item() == pytest.approx(discriminator.item(), rel=1e-6)
    assert Relativistic().generator(fake, real).item() == pytest.approx(generator.item(), rel=1e-6)
    with pytest.raises(ValueError, match="outputs on real images too"):
        Relativistic().generator(fake)


@pytest.mark.parametrize("objective", EVERY, ids=lambda objective: type(objective).__name__)
def test_gradients_have_the_right_sign(objective: Objective):
    """The discriminator's gradient raises real outputs and lowers generated ones; the generator's raises its own."""
    real, fake = (torch.full((4,), 0.5, requires_grad=True) for _ in range(2))
    on_real, on_fake = torch.autograd.grad(objective.discriminator(real, fake), [real, fake])
    assert (on_real < 0).all() and (on_fake > 0).all()
    outputs = (fake, real) if objective.needs_real else (fake,)
    [own] = torch.autograd.grad(objective.generator(*outputs), fake)
    assert (own < 0).all()
    assert torch.isfinite(objective.score(REAL)).all()


def test_arguments_are_checked():
    for wrong in (-0.1, 0.5, math.nan):
        with pytest.raises(ValueError, match="label_smoothing"):
            NonSaturating(wrong)
    with pytest.raises(ValueError, match="gradient_penalty"):
        Wasserstein(-1.0)


def test_the_penalty_of_a_linear_discriminator():
    """D(x) = w x has the gradient w everywhere: the penalty is (|w| - 1)^2, its gradient 2 (|w| - 1) w / |w|."""
    weight = torch.tensor([[3.0, 0.0, 0.0, 4.0]], requires_grad=True)
    penalty = gradient_penalty(
        lambda x: (x.flatten(1) @ weight.T)[:, 0], torch.rand(5, 1, 2, 2), torch.rand(5, 1, 2, 2)
    )
    assert penalty.item() == pytest.approx(16.0)
    [slope] = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(slope, 2 * 4 * weight.detach() / 5)


def test_the_penalty_is_taken_between_real_and_generated_images():
    """D(x) = |x|^2 / 2 has the gradient x: the penalty depends on the norms of the interpolated images."""
    torch.manual_seed(0)
    real, fake = torch.rand(6, 1, 3, 3), torch.rand(6, 1, 3, 3)
    seen: list[torch.Tensor] = []

    def discriminator(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach())
        return x.flatten(1).square().sum(dim=1) / 2

    penalty = gradient_penalty(discriminator, real, fake)
    [between] = seen
    share = (between - fake) / (real - fake)  # one number for each image
    assert share.flatten(1).std(dim=1).max() < 1e-3
    assert share.flatten(1).mean(dim=1).std() > 0.05 and share.min() >= 0 and share.max() <= 1 + 1e-4
    expected = (between.flatten(1).norm(dim=1) - 1).square().mean()
    torch.testing.assert_close(penalty, expected)


def test_the_zero_centred_penalty_of_a_quadratic_discriminator():
    """D(x) = sum a x^2 / 2 + b x has the gradient a x + b: the penalty E|a x + b|^2 has closed-form gradients."""
    torch.manual_seed(0)
    images, (a, b) = torch.rand(5, 1, 2, 3).double(), torch.randn(2, 1, 2, 3).double().requires_grad_()
    penalty = zero_centred_gradient_penalty(lambda x: (a * x.square() / 2 + b * x).flatten(1).sum(dim=1), images)
    slope = a.detach() * images + b.detach()
    assert penalty.item() == pytest.approx(slope.square().flatten(1).sum(dim=1).mean().item())
    for found, expected in zip(torch.autograd.grad(penalty, [a, b]), (2 * slope * images, 2 * slope), strict=True):
        torch.testing.assert_close(found, expected.mean(dim=0))


def test_the_penalty_is_in_single_precision_under_autocast():
    """In half precision a slope of 1e-6 would vanish; the penalties of such a discriminator are (1e-6 - 1)^2, 1e-12."""
    linear = nn.Linear(16, 1, bias=False)
    nn.init.constant_(linear.weight, 1e-6 / 4)
    dtypes = []

    def discriminator(x: torch.Tensor) -> torch.Tensor:
        dtypes.append(linear(x.flatten(1)).dtype)
        return linear(x.flatten(1))[:, 0]

    with torch.autocast("cpu", torch.bfloat16):
        penalty = gradient_penalty(discriminator, torch.rand(3, 1, 4, 4), torch.rand(3, 1, 4, 4).bfloat16())
        zero_centred = zero_centred_gradient_penalty(discriminator, torch.rand(3, 1, 4, 4).bfloat16())
        assert linear(torch.rand(3, 16)).dtype == torch.bfloat16
    assert dtypes == [torch.float32] * 2 and penalty.item() == pytest.approx((1e-6 - 1) ** 2, rel=1e-5)
    assert zero_centred.item() == pytest.approx(1e-12, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_penalty_in_another_precision(dtype: torch.dtype):
    """All tensors have one dtype, as in 64-true and bf16-true: a gradient of norm 2 gives (2 - 1)^2."""
    weight = torch.ones(4, dtype=dtype)
    images = torch.rand(3, 1, 2, 2, dtype=dtype)
    assert gradient_penalty(lambda x: x.flatten(1) @ weight, images, images.flip(0)).item() == pytest.approx(1.0)


def test_the_penalty_of_a_constant_discriminator_has_a_finite_gradient():
    weight = torch.zeros(1, 4, requires_grad=True)
    penalty = gradient_penalty(
        lambda x: (x.flatten(1) @ weight.T)[:, 0], torch.rand(2, 1, 2, 2), torch.rand(2, 1, 2, 2)
    )
    [slope] = torch.autograd.grad(penalty, weight)
    assert torch.isfinite(slope).all() and penalty.item() == pytest.approx(1.0, abs=1e-4)
