"""Losses of image-to-image models against independent computations. Their training is in test_translating.py."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models import SRGAN, CycleGAN, Pix2Pix, RestorationGAN
from lit_models.common.adversarial import AdversarialRecipe
from lit_models.common.discriminators import DCGANDiscriminator, PoolingDiscriminator
from lit_models.common.objectives import Relativistic, Wasserstein
from lit_models.common.perceptual import PerceptualFeatures
from lit_models.common.translators import ConvTranslator, UNetTranslator
from lit_models.common.upscalers import SRResNet
from lit_models.losses.spectrum import FLOOR, spectrum_penalty
from tests.lit_models.adversaries import Step, fitted, networks_of
from tests.lit_models.translators import ORDERS, SIDE, STEPS, cyclegan, first_batch, loader, one_way
from tests.test_models import losses_of


def fixed_weights(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.0)


def least_squares(logits: Tensor, target: float) -> Tensor:
    return (logits - target).square().mean() / 2


def cross_entropy(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def l1(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).abs().sum() / x.numel()


@pytest.mark.parametrize("order", ORDERS)
def test_cyclegan_losses_are_the_papers(order: str, steps: list[Step]):
    """Losses and gradients of one batch by hand, with fixed weights (Zhu et al. 2017, eq. 1-3, section 5.2)."""
    seen: list[dict[str, Tensor]] = []
    heard = LambdaCallback(on_train_batch_end=lambda trainer, model, outputs, batch, index: seen.append(outputs))
    model: Any = cyclegan(order, cycle_weight=3.0, identity_weight=0.5, optimizer=fixed_weights)
    fitted(model, loader(8), heard, precision="64-true", limit_train_batches=1)

    (a, b), ab, ba = first_batch(), model.generator["ab"], model.generator["ba"]
    fake_b, fake_a = ab(a), ba(b)
    for made, image in ((ba(fake_b), a), (ab(fake_a), b), (ba(a), a), (ab(b), b)):
        assert (made - image).abs().min() > 1e-5  # else rounding decides the sign of a gradient
    cycle, identity = l1(ba(fake_b), a) + l1(ab(fake_a), b), l1(ba(a), a) + l1(ab(b), b)
    adversarial = {
        "ab": least_squares(model.discriminator["b"](fake_b), 1),
        "ba": least_squares(model.discriminator["a"](fake_a), 1),
    }
    discriminating = {
        kind: least_squares(model.discriminator[kind](real), 1)
        + least_squares(model.discriminator[kind](fake.detach()), 0)
        for kind, real, fake in (("a", a, fake_a), ("b", b, fake_b))
    }
    consistency = 3 * cycle + 0.5 * identity
    expected = {f"discriminator.{kind}": loss for kind, loss in discriminating.items()}
    expected |= {f"generator.{direction}": loss + consistency for direction, loss in adversarial.items()}
    joint = {
        "discriminator": discriminating["a"] + discriminating["b"],
        "generator": adversarial["ab"] + adversarial["ba"] + consistency,
    }

    assert len(steps) == len(STEPS[order])
    for step in steps:
        loss = joint[step.own[0].split(".")[0]] if order == "joint" else expected[step.network]
        assert next(iter(step.terms.values())).item() == pytest.approx(loss.item(), rel=1e-5)
        for name in step.own:
            network = networks_of(model)[name]
            slopes = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
            for (key, found), slope in zip(step.after[name][1].items(), slopes, strict=True):
                torch.testing.assert_close(found, slope, rtol=1e-5, atol=1e-7, msg=f"{name}.{key}")

    [logged] = seen
    twice = 1 if order == "joint" else 2  # each generator's loss contains the consistency losses of both
    by_hand = {
        "loss_g": adversarial["ab"] + adversarial["ba"] + twice * consistency,
        "loss_d": discriminating["a"] + discriminating["b"],
        "adversarial": adversarial["ab"] + adversarial["ba"],
        "cycle_l1": cycle,
        "identity_l1": identity,
        "d_real": (model.discriminator["a"](a).mean() + model.discriminator["b"](b).mean()) / 2,
        "d_fake": (model.discriminator["a"](fake_a).mean() + model.discriminator["b"](fake_b).mean()) / 2,
    }
    for name, value in by_hand.items():
        assert logged[name].item() == pytest.approx(value.item(), rel=1e-5, abs=1e-8), name


def test_an_alternating_generators_loss_has_gradients_in_its_own_network_only(steps: list[Step]):
    """After the first generator step no other network has had a generator's gradient."""
    fitted(cyclegan("alternating", identity_weight=1.0), loader(8), limit_train_batches=1)
    first = steps[1]
    assert first.network == "generator.ab"
    assert all(gradient.abs().sum() > 0 for gradient in first.after["generator.ab"][1].values())
    assert not first.after["generator.ba"][1] and not first.after["discriminator.a"][1]


def test_a_loss_without_a_weight_is_not_computed():
    model: Any = cyclegan(cycle_weight=0.0)
    called: list[str] = []
    for direction, network in model.generator.items():
        network.register_forward_hook(lambda net, inputs, out, direction=direction: called.append(direction))
    assert set(model.generator_terms(*first_batch(torch.float32))) == {"loss_g", "adversarial"}
    assert called == ["ab", "ba"]


def test_the_gradient_penalty_of_patches_is_of_their_mean(monkeypatch: pytest.MonkeyPatch):
    """In the loss D is the mean over patches, and the penalty is of its gradient."""
    monkeypatch.setattr(torch, "rand", torch.zeros)  # the penalty is taken at the translations
    model: Any = cyclegan(objective=Wasserstein(7.0)).double()
    a, b = first_batch()
    translations = [b.flip(2), a.flip(2)]
    terms = model.discriminator_terms(a, b, *translations)
    expected = torch.zeros(())
    for kind, fake in zip(("a", "b"), translations, strict=True):
        at = fake.clone().requires_grad_()
        [slope] = torch.autograd.grad(model.discriminator[kind](at).mean(dim=(1, 2)).sum(), at)
        expected = expected + (slope.flatten(1).norm(dim=1) - 1).square().mean() / 2
    assert terms["gradient_penalty"].item() == pytest.approx(expected.item(), rel=1e-5)
    plain = sum(
        model.discriminator[k](f).mean() - model.discriminator[k](x).mean()
        for k, f, x in zip("ab", translations, (a, b), strict=True)
    )
    assert terms["loss_d"].item() == pytest.approx((plain + 2 * 7 * expected).item(), rel=1e-5)


def assert_gradients(model: Any, loss: Tensor, by_hand: Tensor) -> None:
    """Checks that both losses have the same gradients in the generator."""
    parameters = list(model.generator.parameters())
    found, expected = (torch.autograd.grad(value, parameters, retain_graph=True) for value in (loss, by_hand))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_relativistic_losses_compare_with_the_targets():
    """CycleGAN: each translation with a real image of its domain; Pix2Pix: each target with its source."""
    model: Any = cyclegan(objective=Relativistic(), cycle_weight=0.0).double()
    a, b = first_batch()
    with torch.no_grad():
        pairs = {"b": (model.generator["ab"](a), b), "a": (model.generator["ba"](b), a)}
        margins = {
            kind: model.discriminator[kind](real) - model.discriminator[kind](fake)
            for kind, (fake, real) in pairs.items()
        }
        losses = {kind: F.softplus(margin).mean() for kind, margin in margins.items()}
        for directions, kinds in ((("ab", "ba"), "ba"), (("ab",), "b"), (("ba",), "a")):
            found = model.generator_terms(a, b, directions=directions)["loss_g"]
            torch.testing.assert_close(found, sum(losses[kind] for kind in kinds).to(found.dtype))
        paired: Any = one_way(Pix2Pix, objective=Relativistic(), l1_weight=0.0).double()
        on_fake, on_real = (paired.discriminator(torch.cat([a, x], dim=1)) for x in (paired.generator(a), b))
        expected = F.softplus(on_real - on_fake).mean().float()
        torch.testing.assert_close(paired.generator_terms(a, b)["loss_g"].float(), expected)


def test_pix2pix_losses_are_the_papers():
    """G: -log D(x, G(x)) + 100 |y - G(x)|_1, D of the real and of the generated pair (Isola et al. 2016, eq. 4)."""
    model = one_way(Pix2Pix, l1_weight=100.0, adversarial_weight=0.5).double()
    x, y = first_batch()
    made = model.generator(x)
    on_made, on_real = model.discriminator(torch.cat([x, made], dim=1)), model.discriminator(torch.cat([x, y], dim=1))
    terms = model.generator_terms(x, y)
    assert terms["adversarial"].item() == pytest.approx(cross_entropy(on_made, 1).item(), rel=1e-5)
    assert terms["l1"].item() == pytest.approx(l1(made, y).item(), rel=1e-5)
    by_hand = 0.5 * cross_entropy(on_made, 1) + 100 * l1(made, y)
    assert terms["loss_g"].item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert_gradients(model, terms["loss_g"], by_hand)
    loss = cross_entropy(on_real, 1) + cross_entropy(on_made, 0)
    assert model.discriminator_terms(x, y)["loss_d"].item() == pytest.approx(loss.item(), rel=1e-5)
    assert on_made.shape == (8, 4, 4)  # a logit for each patch


class Slopes(nn.Module):
    """Two feature maps: differences of neighbouring pixels, and means over blocks."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images[..., 1:] - images[..., :-1], F.avg_pool2d(images, 4)]


class ToySlopes(PerceptualFeatures):
    def build(self, image_shape: Any = None) -> nn.Module:
        assert image_shape in (None, (1, SIDE, SIDE))
        return Slopes()


@pytest.mark.parametrize("noise_channels", [0, 2])
def test_srgan_losses_are_the_papers(noise_channels: int):
    """Pixels, features and 0.001 times the adversarial loss (Ledig et al. 2016, eq. 3-6); D also takes L."""
    model = one_way(
        SRGAN, pixel_weight=2.0, perceptual_weight=0.3, perceptual=ToySlopes(), noise_channels=noise_channels
    )
    before = set(model.state_dict())
    torch.manual_seed(0)
    model.prepare_fit()
    assert set(model.state_dict()) == before  # the fixed network is not in the state dict
    model.double().eval()  # batch norms use their running statistics
    small, large = first_batch(shrink=2)
    source = model.generator_input(small)
    assert source.shape == (8, 1 + noise_channels, SIDE // 2, SIDE // 2) and torch.equal(source[:, :1], small)
    if noise_channels:  # 576 draws: the mean of N(0, 1) is off by 0.04, its standard deviation by 0.03
        noise = source[:, 1:]
        assert abs(noise.mean().item()) < 0.2 and abs(noise.std().item() - 1) < 0.15
    made = model.generator(source)
    beside = small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    on_made, on_real = (model.discriminator(torch.cat([beside, x], dim=1)) for x in (made, large))
    perceptual = (Slopes()(made)[0] - Slopes()(large)[0]).square().mean() / 2
    perceptual = perceptual + (Slopes()(made)[1] - Slopes()(large)[1]).square().mean() / 2
    mse = (made - large).square().mean()
    by_hand = {"adversarial": cross_entropy(on_made, 1), "mse": mse, "perceptual": perceptual}
    by_hand["loss_g"] = 2 * mse + 0.3 * perceptual + 1e-3 * by_hand["adversarial"]
    terms = model.generator_terms(source, large)
    assert terms.keys() == by_hand.keys()
    for name, value in by_hand.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-4), name
    assert_gradients(model, terms["loss_g"], by_hand["loss_g"])
    loss = cross_entropy(on_real, 1) + cross_entropy(on_made, 0)
    assert model.discriminator_terms(source, large)["loss_d"].item() == pytest.approx(loss.item(), rel=1e-5)


def test_srgan_without_a_perceptual_network_has_no_perceptual_loss():
    model = one_way(SRGAN)
    model.prepare_fit()
    small, large = first_batch(torch.float32, shrink=2)
    assert set(model.generator_terms(small, large)) == {"loss_g", "adversarial", "mse"}


@pytest.mark.parametrize("factor", [2, 4])
def test_srgan_with_noise_draws_different_images_of_one_small_image(factor: int):
    large = (1, 28, 28)
    parts = {"image_shape": large, "source_shape": (1, 28 // factor, 28 // factor), "generator": SRResNet(4, 1)}
    small = torch.rand(1, *parts["source_shape"]).expand(3, -1, -1, -1)  # the same three times
    with torch.no_grad():
        plain, noisy = (one_way(SRGAN, **parts, noise_channels=n).eval() for n in (0, 2))
        assert plain.translate(small).shape == (3, *large)
        assert torch.equal(plain.translate(small), plain.translate(small))
        drawn = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            drawn.append(noisy.translate(small))
        assert torch.equal(drawn[0], drawn[1])
        for other in (drawn[0].roll(1, dims=0), drawn[2]):
            assert ((drawn[0] - other).abs().flatten(1).max(dim=1).values > 0).all()
        bicubic = F.interpolate(small, scale_factor=factor, mode="bicubic", antialias=True).clamp(0, 1)
        for made in (plain.translate(small), *drawn):
            torch.testing.assert_close(made, bicubic, rtol=0, atol=0.05)


def log_spectrum(images: Tensor) -> np.ndarray:
    transformed = np.fft.fft2(images.double().numpy()) / np.sqrt(images.shape[2] * images.shape[3])
    return np.log((np.abs(transformed) ** 2).mean(axis=(0, 1)) + FLOOR)[:, : images.shape[3] // 2 + 1]


def test_spectrum_penalty_by_numpy():
    """The non-redundant half of the frequencies, for sets of two sizes and images with an odd and an even side."""
    torch.manual_seed(0)
    ours, theirs = torch.rand(5, 2, 9, 14), torch.rand(3, 2, 9, 14).square()
    expected = ((log_spectrum(ours) - log_spectrum(theirs)) ** 2).mean()
    assert spectrum_penalty(ours, theirs).item() == pytest.approx(expected, rel=1e-4)
    assert spectrum_penalty(ours, ours).item() == 0
    assert spectrum_penalty(ours, ours.flip(0).roll(3, dims=3)).item() == pytest.approx(
        0, abs=1e-8
    )  # a shifted image has the same spectrum


def test_the_spectrum_penalty_has_a_gradient_in_the_images_only():
    torch.manual_seed(0)
    references = torch.rand(3, 1, 4, 5, requires_grad=True)
    for start in (torch.rand(2, 1, 4, 5), torch.zeros(2, 1, 4, 5)):
        images = start.requires_grad_()
        slope, none = torch.autograd.grad(spectrum_penalty(images, references), [images, references], allow_unused=True)
        assert none is None and slope.isfinite().all() and bool(slope.any()) == bool(start.any())
        along = torch.randn(start.shape)
        with torch.no_grad():
            there, back = (spectrum_penalty(start + step * along, references).item() for step in (1e-3, -1e-3))
        assert (there - back) / 2e-3 == pytest.approx((slope * along).sum().item(), rel=0.01, abs=1e-2)


def test_restoration_losses_are_the_sum_of_three_terms():
    model = one_way(RestorationGAN, residual_weight=4.0, spectrum_weight=0.3, adversarial_weight=0.5).double()
    damaged, whole = first_batch()
    made = model.generator(damaged)
    on_made, on_whole = model.discriminator(made), model.discriminator(whole)
    spectrum = ((log_spectrum(made.detach()) - log_spectrum(whole)) ** 2).mean()
    residual = (made - damaged).square().mean()
    terms = model.generator_terms(damaged, whole)
    by_hand = {"adversarial": cross_entropy(on_made, 1).item(), "residual": residual.item(), "spectrum": spectrum}
    by_hand["loss_g"] = 0.5 * by_hand["adversarial"] + 4 * by_hand["residual"] + 0.3 * by_hand["spectrum"]
    assert terms.keys() == by_hand.keys()
    for name, value in by_hand.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4), name
    differentiable = 0.5 * cross_entropy(on_made, 1) + 4 * residual + 0.3 * spectrum_penalty(made, whole)
    assert_gradients(model, terms["loss_g"], differentiable)
    loss = cross_entropy(on_whole, 1) + cross_entropy(on_made, 0)
    assert model.discriminator_terms(damaged, whole)["loss_d"].item() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: cyclegan(cycle_weight=-1.0), "cycle_weight is -1.0"),
        (lambda: cyclegan(identity_weight=float("nan")), "identity_weight is nan"),
        (lambda: cyclegan(source_shape=(1, 14, 14)), r"images of one size, not \(1, 14, 14\)"),
        (lambda: cyclegan(source_shape=(3, SIDE, SIDE), identity_weight=1.0), "identity_weight must be 0"),
        (lambda: cyclegan(pool_size=-1), "pool_size is -1"),
        (lambda: cyclegan("both"), "step_order is both"),
        (lambda: cyclegan(generator=UNetTranslator(2, 4)), "depth 4 is too deep for images of 12 x 12"),
        (lambda: one_way(Pix2Pix, generator=UNetTranslator(2, 4)), "depth 4 is too deep for images of 12 x 12"),
        (lambda: one_way(RestorationGAN, generator=UNetTranslator(2, 4)), "depth 4 is too deep for images of 12 x 12"),
        (lambda: cyclegan(recipe=AdversarialRecipe(n_critic=2)), "n_critic is 2; CycleGAN needs 1"),
        (
            lambda: cyclegan(objective=Wasserstein(), discriminator=DCGANDiscriminator(2, 2)),
            "gradient penalty needs a discriminator that treats each image alone",
        ),
        (lambda: cyclegan(recipe=AdversarialRecipe(augment=("cutout",))), "images from codes, not CycleGAN"),
        (lambda: one_way(Pix2Pix, l1_weight=-1.0), "l1_weight is -1.0"),
        (lambda: one_way(Pix2Pix, adversarial_weight=-1.0), "adversarial_weight is -1.0"),
        (lambda: one_way(Pix2Pix, source_shape=(1, 6, 6)), "images of one size"),
        (lambda: one_way(SRGAN, pixel_weight=-1.0), "pixel_weight is -1.0"),
        (lambda: one_way(SRGAN, perceptual_weight=float("nan")), "perceptual_weight is nan"),
        (lambda: one_way(SRGAN, noise_channels=-1), "noise_channels is -1"),
        (lambda: one_way(SRGAN, source_shape=(1, SIDE, SIDE)), "enlarges by a whole factor"),
        (lambda: one_way(SRGAN, source_shape=(1, 6, 4)), "enlarges by a whole factor"),
        (lambda: one_way(SRGAN, source_shape=(3, 6, 6)), "enlarges by a whole factor"),
        (lambda: one_way(SRGAN, source_shape=(1, 4, 4)), "powers of two, not by 3"),
        (lambda: one_way(RestorationGAN, residual_weight=-1.0), "residual_weight is -1.0"),
        (lambda: one_way(RestorationGAN, source_shape=(3, SIDE, SIDE)), "images of one shape"),
        (lambda: one_way(RestorationGAN, discriminator=PoolingDiscriminator(), image_shape=(1, 3, 3)), "one shape"),
    ],
)
def test_arguments_are_checked(make: Callable[[], object], match: str):
    with pytest.raises(ValueError, match=match):
        make()


def test_translations_are_clipped_to_the_range_of_images():
    linear = {"generator": ConvTranslator((2,), 3)}
    with torch.no_grad():
        for model in (cyclegan(**linear), one_way(Pix2Pix, **linear)):
            for network in model.generator.values() if isinstance(model, CycleGAN) else [model.generator]:
                network[-1].bias += torch.tensor(0.7)
            made = model.translate(torch.rand(3, 1, SIDE, SIDE))
            assert made.max() == 1 and made.min() >= 0 and made.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", [CycleGAN, Pix2Pix, SRGAN, RestorationGAN])
def test_a_model_in_another_precision_learns_and_translates_single_precision_images(kind: Any, dtype: torch.dtype):
    """Also forth and back again."""
    model = (cyclegan() if kind is CycleGAN else one_way(kind)).to(dtype)
    a, b = first_batch(dtype, shrink=2 if kind is SRGAN else 1)
    for terms in losses_of(model, (a, b)).values():
        loss = next(iter(terms.values()))
        loss.backward()
        assert loss.isfinite()
    images = a.float()
    with torch.no_grad():
        for direction in model.directions:
            images = model.translate(images, direction)
            assert images.dtype == torch.float32


def test_predictions_are_translations_as_bytes():
    a, b = first_batch(torch.float32)
    both, forth = cyclegan().eval(), one_way(Pix2Pix).eval()
    with torch.no_grad():
        expected = {"images_ab": both.translate(a), "images_ba": both.translate(b, "ba"), "images": forth.translate(a)}
        found = both.predict_step((a, b), 0) | forth.predict_step((a, b), 0)
    assert found.keys() == expected.keys()
    for name, images in found.items():
        assert images.dtype == torch.uint8 and (images / 255 - expected[name]).abs().max() <= 0.5 / 255 + 1e-6
