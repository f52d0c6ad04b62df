import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn

from datamodules import DigitsDataModule
from lit_models import Glow
from lit_models.common.module import GenerativeModule
from lit_models.losses.likelihood import dequantise
from lit_models.networks.flows import (
    ActNormConv1x1,
    AffineCoupling,
    FlowLevel,
    LogitTransform,
    MultiScaleFlow,
    coupling_network,
    squeeze,
    unsqueeze,
)
from tests.helpers import saved, stop_at
from tests.lit_models.adversaries import (
    DDP,
    assert_close,
    batches_of,
    equal,
    fitted,
    half,
    in_two_processes,
    run,
    training_state,
)

SHAPE = (1, 4, 4)


def awake(network: nn.Module) -> Any:
    """With noise on all weights, as many start at zero, in double precision."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.double()


def small(**options: Any) -> Glow:
    torch.manual_seed(0)
    return Glow(**{"steps": 2, "width": 6, "image_shape": SHAPE, **options})


def eight_bit(n: int, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.randint(0, 256, (n, *shape)) / 255


def log_det_by_autograd(layer: nn.Module, x: Tensor) -> Tensor:
    """Of the Jacobian of each example, N."""
    jacobians = [torch.func.jacrev(lambda one: layer(one[None])[0][0])(image) for image in x]
    return torch.stack([torch.linalg.slogdet(j.reshape(x[0].numel(), -1)).logabsdet for j in jacobians])


# Layers.

LAYERS = {
    "logit": (lambda: LogitTransform(0.05), (2, 2, 3)),
    "mixing": (lambda: ActNormConv1x1(4, lu=False), (2, 3, 4)),
    "mixing_lu": (lambda: ActNormConv1x1(4, lu=True), (2, 3, 4)),
    "coupling": (lambda: AffineCoupling(4, coupling_network(4, 5)), (2, 3, 4)),
    "level": (lambda: FlowLevel(4, 2, 5, True), (2, 3, 4)),
    "flow": (lambda: MultiScaleFlow((1, 4, 4), 2, 2, 6, True, 0.05), SHAPE),
    "flow_plain": (lambda: MultiScaleFlow((3, 4, 4), 2, 2, 6, False, 0.01), (3, 4, 4)),
    "flow_of_three_levels": (lambda: MultiScaleFlow((1, 8, 8), 3, 1, 4, True, 0.05), (1, 8, 8)),
}


@pytest.mark.parametrize("name", list(LAYERS))
def test_a_layer_has_its_inverse_and_the_jacobians_determinant(name: str):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer, x = awake(make()), torch.rand(3, *shape, dtype=torch.float64)
    y, log_det = layer(x)
    assert y.numel() == x.numel() and not torch.allclose(y.flatten(1), x.flatten(1), atol=0.1)
    torch.testing.assert_close(log_det, log_det_by_autograd(layer, x))
    torch.testing.assert_close(layer.inverse(y), x)
    other = torch.randn_like(y)
    if "flow" not in name and name != "logit":  # whose range is an interval
        torch.testing.assert_close(layer(layer.inverse(other))[0], other)


def test_squeezing_takes_blocks_of_four_pixels():
    x = torch.arange(2 * 4 * 6 * 3.0).view(2, 4, 6, 3)
    y = squeeze(x)
    assert y.shape == (2, 2, 3, 12) and torch.equal(unsqueeze(y), x)
    assert y[1, 1, 2].sort().values.tolist() == x[1, 2:4, 4:6].flatten().sort().values.tolist()


@pytest.mark.parametrize("lu", [False, True])
def test_a_1x1_convolution_starts_as_a_rotation(lu: bool):
    torch.manual_seed(3)
    matrix, log_det = ActNormConv1x1(8, lu).matrix()
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(8), atol=1e-5, rtol=0)
    assert log_det.item() == pytest.approx(0, abs=1e-5) and matrix.abs().max() < 0.99


def test_lu_keeps_its_form():
    """Whatever is learned: L has a unit diagonal, U the signs that it started with, P stays."""
    layer = awake(ActNormConv1x1(6, lu=True))
    matrix, log_det = layer.matrix()
    lower = (
        layer.permutation.T
        @ matrix
        @ torch.linalg.inv(layer.factors.triu(1) + (layer.sign * layer.log_diagonal.exp()).diag())
    )
    torch.testing.assert_close(lower, layer.factors.tril(-1) + torch.eye(6).double())
    assert log_det.item() == pytest.approx(torch.linalg.slogdet(matrix).logabsdet.item())


def test_couplings_start_as_the_identity_and_stay_bounded():
    coupling = AffineCoupling(4, coupling_network(4, 5))
    x = torch.randn(2, 3, 3, 4)
    y, log_det = coupling(x)
    assert torch.equal(y, x) and not log_det.any()
    nn.init.constant_(coupling.network[-1].bias, 1000.0)
    assert coupling.scale_and_shift(x[..., :2])[0].max() <= 1
    assert coupling(x)[0].isfinite().all()


def test_actnorms_start_from_a_batch():
    """Each gives channels of mean 0 and deviation 1, as does a split, which starts as the identity, and the last."""
    model = small(image_shape=(1, 28, 28), steps=3)
    images = torch.rand(64, 1, 28, 28) ** 3
    seen = []

    def look(mixing: nn.Module, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        scaled = inputs[0] * mixing.log_scale.exp() + mixing.bias
        seen.append(torch.var_mean(scaled.flatten(0, -2), dim=0, correction=0))

    for module in model.modules():
        if isinstance(module, ActNormConv1x1):
            module.register_forward_hook(look)
    model._initialize_actnorms(images)
    assert len(seen) == 6 and model.initialized
    for variance, mean in seen:
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
        torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-3, rtol=0)


# Densities.


class _Identity(nn.Module):
    """A flow that leaves pixels as they are."""

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return y.flatten(1), y.new_zeros(len(y))


class _Uniform(nn.Module):
    """The inverse of the standard normal distribution function: a uniform y has normal codes."""

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        codes = torch.special.ndtri(y.flatten(1))
        return codes, (0.5 * codes.square() + 0.5 * math.log(2 * math.pi)).sum(dim=1)


def test_bits_of_a_uniform_distribution_are_eight():
    model = small()
    model.flow = _Uniform()
    images = eight_bit(6).double()
    for name, value in (("bits_per_dim", 8.0), ("log_prob", 0.0)):
        assert model.loss_terms((images, images))[name].item() == pytest.approx(value, abs=1e-9)
    assert model.log_prob(images).abs().max() < 1e-9


def test_bits_of_a_normal_distribution_have_a_closed_form():
    """Black images: y = u / 256, so E y^2 = 1 / (3 * 256^2). The spread of 16,000 draws of y^2 / 2 is below 1e-7."""
    model = small()
    model.flow = _Identity()
    bits = model.loss_terms((torch.zeros(1000, *SHAPE).double(), torch.zeros(0)))["bits_per_dim"].item()
    expected = 8 + (0.5 * math.log(2 * math.pi) + 0.5 / (3 * 256**2)) / math.log(2)
    assert bits == pytest.approx(expected, abs=1e-7)
    middle = model.log_prob(torch.ones(1, *SHAPE).double()).item()
    assert middle == pytest.approx(-8 * math.log(2 * math.pi) - 8 * (255.5 / 256) ** 2)


def test_the_density_of_a_tiny_image_integrates_to_one():
    """Of 2 x 2 pixels, over all that the margin lets them be, by 20 midpoints a side; off by 0.010."""
    model = awake(small(levels=1, image_shape=(1, 2, 2), margin=0.2))
    with torch.no_grad():
        model.flow.levels[0].convolutions[0].log_scale.add_(
            0.6
        )  # little of it near the ends, where a grid is too coarse
    side = 20
    points = (torch.arange(side).double() + 0.5) / side
    reach = (torch.cartesian_prod(*[points] * 4).view(-1, 1, 2, 2) - 0.2) / 0.6
    with torch.no_grad():
        density = torch.cat([model._log_density(part).exp() for part in reach.split(10_000)])
    assert density.mean().item() / 0.6**4 == pytest.approx(1, abs=0.02)
    assert density.max() > 10 * density.mean()


def test_black_and_white_images_have_finite_densities():
    model = small(margin=1e-6)
    model._initialize_actnorms(eight_bit(20))
    images = torch.stack([torch.zeros(SHAPE), torch.ones(SHAPE)]).requires_grad_()
    found = model.log_prob(images)
    found.sum().backward()
    assert found.isfinite().all() and images.grad.isfinite().all()


# The model.


def digits(n: int) -> Tensor:
    return DigitsDataModule().examples("test", n)[0]


@pytest.fixture(scope="module")
def trained() -> Glow:
    model = small(image_shape=(1, 28, 28), width=8)
    trainer = Trainer(
        max_steps=8,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        accelerator="cpu",
        gradient_clip_val=5.0,
    )
    trainer.fit(model, datamodule=DigitsDataModule(batch_size=64))
    return model.eval()


@torch.no_grad()
def test_encoding_and_decoding_are_inverse_after_training(trained: Glow):
    images = digits(20)
    for x in (images, eight_bit(20, (1, 28, 28))):
        assert (trained.decode(trained.encode(x)) - x).abs().max() < 1e-4
    torch.testing.assert_close(trained.encoder_network()(images), trained.encode(images))
    assert torch.equal(trained(images), trained.encode(images))
    codes = 0.5 * trained.sample_prior(20)
    found = trained.flow(trained.flow.inverse(codes))[0]
    assert (found - codes).abs().max() < 1e-2  # magnified where the logit is steep


@torch.no_grad()
def test_log_prob_is_what_training_sees_at_the_middle_of_a_level(trained: Glow, monkeypatch: pytest.MonkeyPatch):
    images = digits(20)
    monkeypatch.setattr(torch, "rand_like", lambda x: torch.full_like(x, 0.5))
    terms = trained.loss_terms((images, images))
    found = trained.log_prob(images)
    assert found.shape == (20,) and terms["log_prob"].item() == pytest.approx(found.mean().item())
    bits = -(found / math.log(2)).mean().item() / 784 + 8
    assert terms["bits_per_dim"].item() == pytest.approx(bits) and bits < 8


def test_noise_fills_each_level_and_no_more():
    levels = torch.arange(256).div(255)
    assert torch.allclose(dequantise(levels, 0.0) * 256, torch.arange(256.0))
    assert torch.allclose(dequantise(levels, 1.0) * 256, torch.arange(256.0) + 1)


@torch.no_grad()
def test_temperature_is_the_deviation_of_codes(trained: Glow, tmp_path: Path):
    torch.manual_seed(0)
    cold = GenerativeModule.load(saved(trained, tmp_path / "glow.ckpt"))
    assert isinstance(cold, Glow) and cold.temperature == 1
    # The deviation of the deviation of 39,200 draws is 0.0036: five of them are 0.018.
    assert trained.sample_prior(50).std().item() == pytest.approx(1, abs=0.018)
    cold.temperature = 0.7
    assert cold.sample_prior(50).std().item() == pytest.approx(0.7, abs=0.013)
    cold.temperature = 0.0
    samples = cold.sample(3)
    assert torch.equal(samples, cold.decode(torch.zeros(3, 784))) and samples.shape == (3, 1, 28, 28)
    with pytest.raises(ValueError, match="without labels"):
        trained.sample(3, label=1)


def test_invalid_options_raise_an_error():
    for wrong in ({"steps": 0}, {"width": 0}, {"margin": 0.5}, {"margin": 0.0}, {"temperature": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            small(**wrong)
    with pytest.raises(ValueError, match="of 8, and these are 4 x 4: give --model.levels 2 or --data.size 8$"):
        small(levels=3)


def test_a_loaded_model_is_not_initialized_again(trained: Glow, tmp_path: Path):
    loaded = GenerativeModule.load(saved(trained, tmp_path / "glow.ckpt"))
    before = copy.deepcopy(loaded.state_dict())
    assert isinstance(loaded, Glow)
    loaded.make_optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
    fitted(loaded, batches_of(torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8), 8))
    assert all(torch.equal(value, before[name]) for name, value in loaded.state_dict().items())


def test_16_bit_steps_are_finite_and_nearly_those_of_32():
    model = small(image_shape=(1, 28, 28), width=8)
    images = (255 * digits(32)).to(torch.uint8)
    terms: dict[str, float] = {}
    for precision in ("32-true", "16-mixed", "bf16-mixed"):
        plugin = {"plugins": half(2.0**10)} if precision == "16-mixed" else {"precision": precision}
        again = copy.deepcopy(model)
        trainer = fitted(again, batches_of(images, 16), max_epochs=2, **plugin)
        assert all(parameter.isfinite().all() for parameter in again.parameters())
        terms[precision] = trainer.callback_metrics["train/bits_per_dim"].item()
    assert terms["16-mixed"] == pytest.approx(terms["32-true"], abs=0.01)
    assert terms["bf16-mixed"] == pytest.approx(terms["32-true"], abs=0.05)


# Two processes, resuming.


def ddp_images() -> Tensor:
    """In groups unlike each other, so that the parts of a batch have other statistics than the whole."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (16, *SHAPE), dtype=torch.uint8, generator=generator)
    return (images / (1 + torch.arange(16).view(-1, 1, 1, 1))).to(torch.uint8)


class _Still(Glow):
    """With the noise of all images the same, as processes draw their own."""

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {"bits_per_dim": -self.log_prob(batch[0]).mean()}


def still() -> _Still:
    torch.manual_seed(0)
    return _Still(steps=2, width=6, image_shape=SHAPE, optimizer=lambda p: torch.optim.SGD(p, lr=1e-3))


def ddp_work(rank: int, folder: Path) -> dict[str, Tensor]:
    model = still()
    fitted(model, batches_of(ddp_images(), 4, rank, 2), precision="64-true", **DDP)
    return model.state_dict()


def test_two_processes_start_and_learn_as_one(tmp_path: Path):
    ranks = in_two_processes(ddp_work, tmp_path)
    one = still()
    fitted(one, batches_of(ddp_images(), 8), precision="64-true")
    for rank in ranks:
        assert_close(rank, one.state_dict())
    assert rank["initialized"]


RUN = """
model:
  class_path: Glow
  init_args: {levels: 1, steps: 2, width: 4, lr_schedule: one_cycle}
data: {class_path: DigitsDataModule, init_args: {batch_size: 400, val_size: 200}}
trainer: {max_epochs: 3, accelerator: cpu, enable_progress_bar: false, gradient_clip_val: 1.0}
run: {pictures: false}
"""


def test_a_resumed_run_is_exact(tmp_path: Path):
    (tmp_path / "glow.yaml").write_text(RUN)
    whole = run(tmp_path / "glow.yaml", tmp_path / "whole")
    with pytest.raises(RuntimeError, match="stopped by the test"):
        run(tmp_path / "glow.yaml", tmp_path / "parts", "--checkpoint.every_n_steps=1", *stop_at(4, "raise"))
    parts = run(tmp_path / "glow.yaml", tmp_path / "parts", "--ckpt_path=last")
    assert equal(training_state(whole, "lr_schedulers"), training_state(parts, "lr_schedulers"))
