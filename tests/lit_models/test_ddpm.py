import copy
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from lightning import Trainer
from scipy.stats import norm
from torch import Tensor, nn

from datamodules import DigitsDataModule
from genlab.runs.folder import read_summary
from lit_models import DDPM
from lit_models.common.diffusion import discretised_log_likelihood
from lit_models.common.noise_predictors import MLPNoisePredictor, NoisePredictor, UNet
from lit_models.common.noise_process import posterior
from lit_models.common.noise_schedules import CosineSchedule, GeometricSchedule, LinearSchedule
from lit_models.common.predictions import Prediction
from lit_models.common.samplers import DDIM, Ancestral
from lit_models.networks.unet import NoiseLevelEmbedding, ResidualBlock, SelfAttention
from tests.helpers import fit, stop_at

SHAPE = (1, 4, 4)


def model_of(**options: Any) -> DDPM:
    torch.manual_seed(0)
    given = {
        "network": MLPNoisePredictor((16,)),
        "num_steps": 10,
        "sampler": DDIM(5),
        "noise_schedule": CosineSchedule(),
    }
    return DDPM(**{**given, "image_shape": SHAPE, **options})


def eight_bit(n: int) -> Tensor:
    return torch.randint(0, 256, (n, *SHAPE)) / 255


def labels(n: int) -> Tensor:
    return torch.arange(n) % 10


# Training.


def test_the_simple_loss_is_the_error_of_the_noise():
    """A network that is not trained and ends in zeros sees no noise: the loss is then E e^2 = 1."""
    model = model_of(network=UNet((8, 8), patch_size=2)).train()
    loss = model.loss_terms((eight_bit(2000), labels(2000)))["loss"]
    assert loss.item() == pytest.approx(1, abs=5 * math.sqrt(2 / 32000))


def test_timesteps_are_uniform_and_evenly_spread_over_a_batch():
    model = model_of()
    for first in (1, 2):
        found = model.process.draw_timesteps(1000, first).bincount(minlength=11)[first:]
        assert (found - 1000 / (11 - first)).abs().max() <= 1 and model.process.draw_timesteps(7).min() >= 1
    alone = torch.stack([model.process.draw_timesteps(3) for _ in range(3000)])
    # A step of one image is each of ten with probability 0.1: 300 of 3,000, deviation 16.
    assert (alone[:, 1].bincount(minlength=11)[1:] - 300).abs().max() < 5 * 16.5


def test_the_bound_is_the_sum_over_all_timesteps():
    """By hand: each L_t is the mean over draws of x_t of a divergence of Gaussians; 3,000 draws of each of 6 steps.

    The mean of the model's estimates has the same limit; both are off by less than 2 % here in all but one of 10,000
    tests, by the spread of the estimates, which is checked.
    """
    model = model_of(num_steps=6, ema_decay=0.0, bound_draws=40).eval()
    diffusion, draws = model.process, 3000
    image = eight_bit(1)
    clean = (2 * image - 1).expand(draws, *SHAPE)
    with torch.no_grad():
        total = diffusion.prior_kl(clean[:1])[0]
        for t in range(1, 7):
            noise = torch.randn(draws, *SHAPE)
            noisy = diffusion.a[t] * clean + diffusion.s[t] * noise
            found = model.network(noisy, torch.full((draws,), t / 6))
            seen = (noisy - diffusion.s[t] * found) / diffusion.a[t]
            if t == 1:
                terms = -discretised_log_likelihood(clean, seen, diffusion.s[1] / diffusion.a[1])
            else:
                q = posterior(diffusion.level(t), diffusion.level(t - 1))
                apart = q.clean_weight * (seen - clean)
                terms = apart.square().flatten(1).sum(dim=1) / (2 * q.variance)
            total = total + terms.mean()
        estimates = torch.cat([-model.log_prob(image.expand(draws, *SHAPE)) for _ in range(2)])
    error = estimates.std().item() / math.sqrt(len(estimates))
    assert 4 * error < 0.02 * total.item()
    assert estimates.mean().item() == pytest.approx(total.item(), rel=0.02)


def test_the_variational_loss_is_the_bound_in_bits_per_dimension():
    model = model_of(num_steps=6, objective="variational", ema_decay=0.0)
    images = eight_bit(1).expand(20_000, *SHAPE)
    with torch.no_grad():
        loss = model.train().loss_terms((images, labels(20_000)))["loss"].item()
        bits = -model.eval().log_prob(images[:4000]).mean().item() / (16 * math.log(2))
    assert loss == pytest.approx(bits, rel=0.02)


class _Knowing(nn.Module):
    """What is expected where every pixel is 0 or 1, each half of the time, or `point`; `off` is an error of the image.

    The expected x_0 of such pixels is tanh(a x_t / s^2).
    """

    def __init__(self, model: DDPM, point: float | None = None, off: float = 0.0) -> None:
        super().__init__()
        self.process, self.prediction, self.point, self.off = model.process, model.prediction, point, off

    def forward(self, noisy: Tensor, levels: Tensor, labels: Tensor | None = None) -> Tensor:
        t = (levels * self.process.num_steps).round().long()
        a, s = (table[t].view(-1, 1, 1, 1) for table in (self.process.signal, self.process.noise))
        image = (a * noisy / s.square()).tanh() if self.point is None else torch.full_like(noisy, self.point)
        image = image + self.off
        noise = (noisy - a * image) / s
        return {
            "noise": noise,
            "image": image,
            "velocity": a * noise - s * image,
            "score": -noise / s,
            "preconditioned": s * image - a * noise,
        }[self.prediction]


def test_the_bound_of_an_exact_network_is_near_the_entropy():
    """Black or white pixels, one bit each. Beside it, L_0 costs what N(1, s_1^2) has outside of the bin of white; the
    999 other steps are so small that they cost under 2 %."""
    torch.manual_seed(0)
    model = model_of(num_steps=1000, noise_schedule=LinearSchedule(), ema_decay=0.0, bound_draws=40)
    model.network = _Knowing(model)
    bits = model._bits_per_dim(-model.log_prob(torch.randint(0, 2, (5000, *SHAPE)).float()))
    error = 4 * bits.std().item() / math.sqrt(5000)
    outside = -math.log2(norm.cdf(1 / 255 / 0.01))
    assert error < 0.02 and bits.mean().item() - outside == pytest.approx(1, abs=0.02 + error)
    assert bits.mean().item() > 1 - error


KINDS: list[Prediction] = ["noise", "image", "velocity", "score", "preconditioned"]


@pytest.mark.parametrize("objective", ["simple", "variational"])
def test_the_bound_does_not_depend_on_what_the_network_predicts(objective: Literal["simple", "variational"]):
    found = {}
    for kind in KINDS:
        model = model_of(num_steps=20, ema_decay=0.0, prediction=kind, objective=objective)
        model.network = _Knowing(model, off=0.1)
        torch.manual_seed(3)
        images = torch.randint(0, 2, (40, *SHAPE)).float()
        found[kind] = model.log_prob(images)
        if objective == "variational":
            found[kind] = found[kind] + model.train().loss_terms((images, labels(40)))["loss"].detach()
        torch.testing.assert_close(found[kind], found["noise"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_simple_loss_is_the_error_of_what_the_network_predicts(kind: Prediction):
    """All images are one point, and the predicted image is off by 0.1, x_t being known: the noise is off by 0.1 a/s."""
    model = model_of(prediction=kind).train()
    model.network = _Knowing(model, point=-1.0, off=0.1)
    a, s = np.array(model.process.a[1:]), np.array(model.process.s[1:])
    errors = {"image": 0.1, "velocity": 0.1 * (a**2 / s + s), "preconditioned": 0.1 * (s + a**2 / s)}
    expected = np.mean(np.square(errors.get(kind, 0.1 * a / s)))  # that of the score is weighted by s^2
    loss = model.loss_terms((torch.zeros(10, *SHAPE), labels(10)))["loss"]  # each of the ten timesteps once
    assert loss.item() == pytest.approx(expected, rel=1e-3)


def test_the_ema_is_updated_and_generates_the_images(tmp_path: Path):
    model = model_of(network=UNet((8, 8), patch_size=2), ema_decay=0.9, image_shape=(1, 28, 28))
    before = copy.deepcopy(model.network.state_dict())
    trainer = Trainer(max_steps=1, limit_val_batches=0, logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.fit(model, datamodule=DigitsDataModule(batch_size=20))
    assert model.evaluated_network is model.ema_network
    for name, mean in model.ema_network.state_dict().items():
        torch.testing.assert_close(mean, before[name].lerp(model.network.state_dict()[name], 9 / 11))
    assert model_of(ema_decay=0.0).ema_network is None


# Labels.


def test_guidance_extrapolates_by_its_scale():
    model = model_of(conditional=True, guidance_scale=1.5).eval()
    noisy, asked = torch.randn(3, *SHAPE), torch.tensor([1, 4, 9])
    t = torch.full((3,), 7)
    with torch.no_grad():
        of_class = model.apply_network(model.ema_network, noisy, t, asked)
        of_any = model.apply_network(model.ema_network, noisy, t, torch.full((3,), 10))
        assert not torch.allclose(of_class, of_any)
        torch.testing.assert_close(model.predict(noisy, model.process.level(7), asked), 2.5 * of_class - 1.5 * of_any)
        model.guidance_scale = 0.0
        torch.testing.assert_close(model.predict(noisy, model.process.level(7), asked), of_class)


def test_training_drops_a_fraction_of_the_labels():
    model = model_of(conditional=True, label_dropout=0.25).train()
    kept = model.training_labels((torch.empty(0), labels(4000)))
    assert kept is not None and torch.equal(kept[kept != 10], labels(4000)[kept != 10])
    # 1,000 of 4,000 are expected, with a deviation of 27.
    assert abs((kept == 10).sum().item() - 1000) < 5 * 27.4
    assert torch.equal(model.eval().training_labels((torch.empty(0), labels(20))), labels(20))


def test_sampling_takes_a_class():
    model = model_of(conditional=True).eval()
    assert model.num_classes == 10 and model.sample(2, 3).shape == (2, *SHAPE)
    torch.manual_seed(5)
    a = model.sample(2, 3)
    torch.manual_seed(5)
    assert not torch.equal(a, model.sample(2, 4))
    with pytest.raises(ValueError, match="there is no class 10; the classes are 0 to 9"):
        model.sample(2, 10)
    with pytest.raises(ValueError, match="trained without labels"):
        model_of().sample(2, 1)
    assert model_of().num_classes is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance_scale": 1.0}, "guidance_scale needs a conditional model"),
        ({"label_dropout": 1.0}, r"must be in \[0, 1\)"),
        ({"bound_draws": 0}, "at least 1"),
        ({"ema_decay": 1.0}, r"in \[0, 1\)"),
        ({"sampler": Ancestral(11)}, "11 steps needs as many timesteps, and the model has 10"),
        ({"noise_schedule": GeometricSchedule()}, "use LinearSchedule or CosineSchedule"),
        (
            {"network": UNet(8, patch_size=3)},
            "images of 4 x 4 cannot be cut into patches of 3 x 3; use --model.network.patch_size 2,",
        ),
    ],
)
def test_invalid_arguments_raise_an_error(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        model_of(**options)


def test_empty_networks_raise_an_error():
    for make in (lambda: UNet(()), lambda: UNet(0), lambda: UNet(8, dropout=1.0), lambda: MLPNoisePredictor(())):
        with pytest.raises(ValueError, match="at least one"):
            make()


# Networks.


@pytest.mark.parametrize(
    ("network", "size"),
    [
        (UNet((8, 16)), (8, 8)),
        (UNet((8,), 2, attention=False), (8, 8)),
        (UNet((8, 8, 8), patch_size=2, dropout=0.1), (14, 10)),  # patches of 7 x 5, then 4 x 3 and 2 x 2
        (UNet(4, attention=8), (25, 15)),
        (MLPNoisePredictor((8,)), (8, 8)),
    ],
)
@pytest.mark.parametrize("classes", [None, 3])
def test_a_network_takes_images_noise_levels_and_labels(
    network: NoisePredictor, size: tuple[int, int], classes: int | None
):
    made = network.build((3, *size), classes)
    for parameter in made.parameters():  # the last layer is zero at first
        nn.init.normal_(parameter, 0, 0.2)
    made.eval()
    x, level = torch.randn(4, 3, *size), torch.tensor([0.1, 0.1, 0.5, 0.5])
    asked = None if classes is None else torch.tensor([0, 1, 2, 3])
    found = made(x, level, asked)
    assert found.shape == x.shape
    # Each image by itself, at its own level.
    alone = torch.cat(
        [made(x[k : k + 1], level[k : k + 1], None if asked is None else asked[k : k + 1]) for k in range(4)]
    )
    torch.testing.assert_close(found, alone, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(made(x, level.flip(0), asked), found)


@pytest.mark.parametrize(
    ("size", "channels", "attended"),
    [
        ((28, 28), [1, 2, 2], 1),
        ((32, 32), [1, 2, 2], 1),
        ((48, 48), [1, 2, 2, 4], 7),  # in the middle, and in three blocks of 12 x 12 and of 6 x 6
        ((100, 60), [1, 2, 2, 4], 4),  # 25 x 15 is too large
        ((128, 128), [1, 1, 2, 2, 4], 7),
        ((256, 256), [1, 1, 2, 2, 4, 4], 7),
    ],
)
def test_resolutions_and_attention_of_a_u_net_follow_from_the_size(
    size: tuple[int, int], channels: list[int], attended: int
):
    network = UNet(1).build((1, *size))
    blocks = [layer for layer in network.down if isinstance(layer, ResidualBlock)]
    assert [block.conv_2.out_channels for block in blocks] == channels
    assert sum(isinstance(layer, SelfAttention) for layer in network.modules()) == attended


def test_noise_levels_are_distinguished():
    torch.manual_seed(0)
    levels = torch.arange(1, 1001) / 1000
    vectors = NoiseLevelEmbedding(64, None)(levels)
    nearest = torch.cdist(vectors, vectors).fill_diagonal_(math.inf).amin()
    assert nearest > 1e-4


def test_attention_is_that_of_torch():
    layer = SelfAttention(16)
    nn.init.normal_(layer.out.weight)
    x = torch.randn(2, 16, 3, 4)
    q, k, v = (part.transpose(1, 2) for part in layer.qkv(layer.norm(x)).flatten(2).chunk(3, dim=1))
    by_torch = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 16, 3, 4)
    torch.testing.assert_close(layer(x), x + layer.out(by_torch), rtol=1e-4, atol=1e-5)


# A run.


RUN = """
seed_everything: 1
trainer: {max_epochs: 2, precision: bf16-mixed, limit_train_batches: 3, limit_val_batches: 1, limit_test_batches: 1}
model:
  class_path: DDPM
  init_args:
    network: {class_path: UNet, init_args: {channels: [8, 8], patch_size: 2, dropout: 0.1}}
    num_steps: 30
    sampler: {class_path: DDIM, init_args: {steps: 2}}
    conditional: true
    guidance_scale: 0.5
    ema_decay: 0.9
    lr_schedule: one_cycle
data: {class_path: DigitsDataModule, init_args: {batch_size: 40, val_size: 200}}
run: {pictures: false}
"""


def test_a_resumed_run_is_exact(tmp_path: Path):
    """Weights, their EMA, and the random draws of timesteps, noise, dropout and labels."""
    config = tmp_path / "small.yaml"
    config.write_text(RUN)
    whole = fit(tmp_path, f"--config={config}", "--run.name=whole").folder
    with pytest.raises(SystemExit):
        fit(tmp_path, f"--config={config}", "--run.name=stopped", *stop_at(4, "term"))
    last = tmp_path / "small" / "stopped" / "checkpoints" / "last.ckpt"
    resumed = fit(tmp_path, f"--config={config}", f"--ckpt_path={last}").folder
    a, b = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (whole, resumed))
    assert a["global_step"] == b["global_step"] == 6
    assert any(name.startswith("ema_network.") for name in a["state_dict"])
    assert all(torch.equal(a["state_dict"][name], b["state_dict"][name]) for name in a["state_dict"])
    metrics = read_summary(whole)["metrics"]
    assert {"val/loss", "val/bits_per_dim", "test/loss", "test/bits_per_dim"} <= metrics.keys()
