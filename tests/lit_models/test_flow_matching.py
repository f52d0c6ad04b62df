"""Flow matching: its paths and targets, its losses, its likelihood in a test, and a resumed run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from flow_matching.path import AffineProbPath
from flow_matching.path.scheduler import CondOTScheduler, CosineScheduler, Scheduler
from lightning import Trainer
from torch import Tensor

from datamodules import DigitsDataModule
from genlab.runs.folder import read_summary
from lit_models import CheckpointError, FlowMatching, LinearAutoencoder
from lit_models.common.couplings import Reflow
from lit_models.common.noise_paths import KarrasPath, LinearPath, NoisePath, VariancePreservingPath
from lit_models.common.noise_predictors import MLPNoisePredictor, UNet
from lit_models.common.noise_process import ContinuousProcess
from lit_models.common.ode_likelihood import ODELikelihood
from lit_models.common.ode_samplers import Euler, Midpoint
from lit_models.common.predictions import target
from lit_models.common.samplers import DDIM
from lit_models.common.times import LogitNormalTimes, UniformTimes
from tests.helpers import fit, saved, stop_at

SHAPE = (1, 4, 4)


def model_of(**options: Any) -> FlowMatching:
    torch.manual_seed(0)
    return FlowMatching(**{"network": MLPNoisePredictor((16,)), "image_shape": SHAPE, **options})


def batch(n: int) -> tuple[Tensor, Tensor]:
    return torch.randint(0, 256, (n, *SHAPE)) / 255, torch.arange(n) % 10


@pytest.mark.parametrize(
    ("path", "scheduler"), [(LinearPath(), CondOTScheduler()), (VariancePreservingPath(), CosineScheduler())]
)
def test_paths_and_targets_are_those_of_the_authors(path: NoisePath, scheduler: Scheduler):
    """flow_matching of Lipman et al., whose time runs from noise to image."""
    clean, noise, t = torch.randn(7, *SHAPE), torch.randn(7, *SHAPE), torch.rand(7)
    process = ContinuousProcess(path)
    theirs = AffineProbPath(scheduler).sample(x_0=noise, x_1=clean, t=1 - t)
    torch.testing.assert_close(process.add_noise(clean, noise, t), theirs.x_t, rtol=1e-5, atol=1e-5)
    found = target("velocity", clean, noise, process.at(t))
    torch.testing.assert_close(found, -theirs.dx_t, rtol=1e-5, atol=1e-5)


def test_the_loss_is_the_error_of_the_velocity():
    """An untrained U-Net returns zeros. Black images are -1 but for the dequantisation, so that E (e + 1)^2 = 2."""
    model = model_of(network=UNet((8, 8), patch_size=2)).train()
    black = torch.zeros(2000, *SHAPE), batch(2000)[1]
    assert model.loss_terms(black)["loss"].item() == pytest.approx(2, abs=0.1)
    model.process = ContinuousProcess(VariancePreservingPath())  # E (pi/2)^2 (cos e + sin)^2, with t uniform
    assert model.loss_terms(black)["loss"].item() == pytest.approx(torch.pi**2 / 4, abs=0.1)


def test_validation_draws_uniform_times(monkeypatch: pytest.MonkeyPatch):
    model, kinds = model_of(times=LogitNormalTimes()), []
    for kind in (UniformTimes, LogitNormalTimes):
        draw = kind.draw
        monkeypatch.setattr(kind, "draw", lambda self, *a, draw=draw: kinds.append(type(self)) or draw(self, *a))
    for training in (True, False):
        model.train(training).loss_terms(batch(4))
    assert kinds == [LogitNormalTimes, UniformTimes]


def test_logits_of_times_are_normal():
    """Quartiles of 20,000 evenly spread times."""
    process = ContinuousProcess(LinearPath())
    quartiles = torch.quantile(
        LogitNormalTimes(0.5, 2.0).draw(20_000, process).logit(), torch.tensor([0.25, 0.5, 0.75])
    )
    torch.testing.assert_close(quartiles, 0.5 + 2 * torch.tensor([-0.6745, 0.0, 0.6745]), rtol=0, atol=2e-3)
    with pytest.raises(ValueError, match="must be finite, and std positive"):
        LogitNormalTimes(std=0.0)


def trained(model: FlowMatching, images: Callable[[], Tensor], steps: int) -> FlowMatching:
    model.train()
    optimizer = torch.optim.Adam(model.parameters())
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        loss = model.loss_terms((images(), torch.zeros(256)))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cycle.step()
    return model.eval()


def test_a_trained_model_has_the_mean_and_deviation_of_its_images():
    """Of normal images of one pixel, whose density it knows."""
    model = model_of(network=MLPNoisePredictor((32, 32)), image_shape=(1, 1, 1), ema_decay=0.0)
    trained(model, lambda: 0.6 + 0.1 * torch.randn(256, 1, 1, 1), 300)
    made = model.sample(5000)
    assert made.mean().item() == pytest.approx(0.6, abs=0.02) and made.std().item() == pytest.approx(0.1, abs=0.03)
    at = torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1, 1)
    density = torch.distributions.Normal(0.6, 0.1).log_prob(at.flatten())
    torch.testing.assert_close(model.log_prob(at), density, rtol=0, atol=0.3)


@pytest.mark.slow
def test_reflow_straightens_the_paths(tmp_path: Path):
    """Points of the plane in four places: the error of one step of Euler's method falls to less than a quarter."""

    def points() -> Tensor:
        return 0.5 + 0.3 * (2 * torch.randint(0, 2, (256, 1, 1, 2)) - 1) + 0.02 * torch.randn(256, 1, 1, 2)

    def error_of_one_step(model: FlowMatching) -> float:
        noise = torch.randn(2000, 1, 1, 2)
        fine, coarse = (model.sample_clean(sampler, noise) for sampler in (Midpoint(100), Euler(1)))
        return (fine - coarse).square().mean().sqrt().item()

    options = {"network": MLPNoisePredictor((64, 64)), "image_shape": (1, 1, 2), "ema_decay": 0.0}
    first = trained(model_of(**options), points, 1500)
    path = saved(first, tmp_path / "first.ckpt")
    second = model_of(**options, coupling=Reflow(str(path), 20_000, Midpoint(50)))
    second.prepare_fit()
    second.coupling.start(torch.device("cpu"), 0, 1)
    trained(second, points, 1500)
    assert error_of_one_step(first) > 0.2 > 0.05 > error_of_one_step(second)


def test_samplers_of_levels_work_in_continuous_time():
    """DDIM along the linear path takes the steps of Euler's method."""
    model = model_of().eval()
    noise = torch.randn(3, *SHAPE)
    made = [model.sample_with(sampler, noise) for sampler in (DDIM(4, clip=False), Euler(4))]
    torch.testing.assert_close(*made, rtol=1e-3, atol=1e-4)


def test_the_likelihood_of_classes_is_that_of_any_class():
    model = model_of(conditional=True, guidance_scale=2.0, likelihood=ODELikelihood(Euler(4), probes=0)).eval()
    images = batch(3)[0]
    found = model.likelihood.log_prob(model, images, torch.full((3,), 10), 0.5)
    torch.testing.assert_close(model.log_prob(images), found)
    assert not torch.allclose(model.likelihood.log_prob(model, images, torch.full((3,), 4), 0.5), found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": KarrasPath()}, "KarrasPath does not go from the image alone to noise alone"),
        ({"guidance_scale": 1.0}, "guidance_scale needs a conditional model"),
        ({"sampler": DDIM(None)}, "give the sampler's steps"),
        ({"autoencoder": "gone.ckpt"}, "there is no checkpoint gone.ckpt"),
    ],
)
def test_invalid_arguments_raise_an_error(options: dict[str, Any], message: str):
    with pytest.raises((ValueError, CheckpointError), match=message):
        model_of(**options)


def test_a_model_of_codes_has_no_likelihood_of_images(tmp_path: Path):
    path = saved(LinearAutoencoder(3, image_shape=SHAPE), tmp_path / "autoencoder.ckpt")
    with pytest.raises(ValueError, match="likelihood needs a model of pixels"):
        model_of(autoencoder=str(path), likelihood=ODELikelihood())
    model = model_of(autoencoder=str(path))
    with pytest.raises(ValueError, match="log_prob needs a model of pixels"):
        model.log_prob(batch(2)[0])
    assert model.sample(2).shape == (2, *SHAPE) and model.train().loss_terms(batch(4))["loss"] > 0


# Runs.


def test_the_test_takes_the_likelihood_of_its_first_images(monkeypatch: pytest.MonkeyPatch):
    counts: list[int] = []
    bits_of = ODELikelihood.bits_per_dim
    monkeypatch.setattr(
        ODELikelihood, "bits_per_dim", lambda *args: (found := bits_of(*args), counts.append(len(found)))[0]
    )
    model = model_of(image_shape=(1, 28, 28), conditional=True, likelihood=ODELikelihood(Euler(2), num_images=70))
    trainer = Trainer(accelerator="cpu", logger=False, precision="bf16-mixed", enable_progress_bar=False)
    [found] = trainer.test(model, datamodule=DigitsDataModule(batch_size=20, eval_batch_size=40), verbose=False)
    assert counts == [40, 30] and found.keys() == {"test/loss", "test/bits_per_dim"}


RUN = """
seed_everything: 1
trainer: {max_epochs: 2, precision: bf16-mixed, limit_train_batches: 3, limit_val_batches: 1, limit_test_batches: 1}
model:
  class_path: FlowMatching
  init_args:
    network: {class_path: MLPNoisePredictor, init_args: {hidden_dims: [16]}}
    times: LogitNormalTimes
    coupling: {class_path: Reflow, init_args: {checkpoint: null, num_pairs: 200}}
    sampler: {class_path: Heun, init_args: {steps: 2}}
    conditional: true
    guidance_scale: 0.5
    ema_decay: 0.9
    lr_schedule: one_cycle
data: {class_path: DigitsDataModule, init_args: {batch_size: 40, val_size: 200}}
run: {pictures: false}
"""


def test_a_resumed_run_is_exact(tmp_path: Path):
    """Weights, their EMA, the random draws of times, noise and labels, and the pairs of a reflow."""
    config, first = tmp_path / "small.yaml", tmp_path / "first.ckpt"
    config.write_text(RUN)
    saved(model_of(image_shape=(1, 28, 28), conditional=True), first)
    options = [f"--config={config}", f"--model.coupling.checkpoint={first}"]
    whole = fit(tmp_path, *options, "--run.name=whole").folder
    with pytest.raises(SystemExit):
        fit(tmp_path, *options, "--run.name=stopped", *stop_at(4, "term"))
    last = tmp_path / "small" / "stopped" / "checkpoints" / "last.ckpt"
    resumed = fit(tmp_path, *options, f"--ckpt_path={last}").folder
    a, b = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (whole, resumed))
    assert a["global_step"] == b["global_step"] == 6
    assert all(torch.equal(a["state_dict"][name], b["state_dict"][name]) for name in a["state_dict"])
    metrics = read_summary(whole)["metrics"]
    assert "val/loss" in metrics and "test/loss" not in metrics  # a test has no pairs
    first.unlink()  # a trained model does not need it
    assert FlowMatching.load(whole / "checkpoints" / "best.ckpt").sample(2, 3).shape == (2, 1, 28, 28)
