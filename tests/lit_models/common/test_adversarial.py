"""Training of adversarial models: single steps, gradient accumulation, two processes, fp16, and resuming."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor
from torch.nn import functional as F

from datamodules import BatchLoader
from lit_models import ACGAN, GAN, VAEGAN, ConditionalGAN
from lit_models.common.adversarial import AdversarialRecipe
from lit_models.common.discriminators import DCGANDiscriminator
from lit_models.common.encoder_decoders import MLPNetworks
from lit_models.common.generators import LinearGenerator, MLPGenerator
from lit_models.common.latent_gan import LatentGAN
from lit_models.common.objectives import Hinge, LeastSquares, NonSaturating, Relativistic
from tests.helpers import same as same_tensors
from tests.helpers import stop_at, weights
from tests.lit_models.adversaries import (
    DDP,
    Overflowing,
    Snapshot,
    StateRecorder,
    Step,
    adam,
    assert_close,
    assert_no_change_between,
    batches_of,
    equal,
    fitted,
    gradients_of,
    half,
    in_two_processes,
    networks_of,
    run,
    sgd,
    training_state,
    weights_of,
)
from tests.test_models import MODELS, Row, trained

ROWS = {name: row for name, row in MODELS.items() if isinstance(row.make, type) and issubclass(row.make, LatentGAN)}
NETWORKS = ("discriminator", "generator")
IMAGES = 64
PENALTIES: dict[str, Any] = {"r1": 0.5, "r2": 0.3, "penalty_interval": 2}


def model_of(kind: str = "gan", **options: Any) -> Any:
    """A small model without batch norm, so that the networks treat each image alone."""
    torch.manual_seed(0)
    parts = {"generator": MLPGenerator((16,)), "discriminator": DCGANDiscriminator(4, norm="layer"), "optimizer": sgd}
    if kind == "batch_norm":
        return GAN(5, **{**parts, "discriminator": DCGANDiscriminator(4), **options})
    if kind == "conditional":
        return ConditionalGAN(5, num_classes=IMAGES, objective=Hinge(), **parts, **options)
    if kind == "vaegan":
        return MeansVAEGAN(5, encoder=MLPNetworks((16,)), objective=LeastSquares(), **parts, **options)
    if kind == "relativistic":
        return GAN(5, objective=Relativistic(), **{"recipe": AdversarialRecipe(**PENALTIES), **parts, **options})
    if kind == "acgan":
        return ACGAN(5, num_classes=IMAGES, image_shape=(1, 28, 28), **parts, **options)
    return GAN(5, **{**parts, **options})


class MeansVAEGAN(VAEGAN):
    """The means of the codes of images in the place of draws, so that each image has the same code in every process."""

    def draw(self, params: Tensor) -> Tensor:
        return params[:, :5].to(self.dtype)


def loader(batch_size: int, rank: int = 0, world_size: int = 1) -> BatchLoader:
    """Four batches of 16 images."""
    images = torch.randint(0, 256, (IMAGES, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return batches_of(images, batch_size, rank, world_size)


@pytest.fixture
def fixed_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LatentGAN, "sample_codes", codes_by_label)


def codes_by_label(self: LatentGAN, labels: Tensor) -> Tensor:
    """Each image always has the same code, in every batch and process."""
    table = torch.randn(IMAGES, self.prior.dim, dtype=torch.float32, generator=torch.Generator().manual_seed(2))
    z = table[labels].to(self.dtype)
    return z if self.num_classes is None else torch.cat([z, F.one_hot(labels, self.num_classes).to(self.dtype)], dim=1)


@pytest.mark.parametrize("name", list(ROWS))
def test_a_step_changes_only_its_own_network(name: str, steps: list[Step], tmp_path: Path):
    """The EMA is changed by no step."""
    row: Row = ROWS[name]
    model = row.build(tmp_path)
    required = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    trained(row, model, tmp_path)
    parts = ["generator.decoder", "generator.encoder"] if row.make is VAEGAN else ["generator"]
    assert [step.network for step in steps] == ["discriminator", *parts] * 2
    for step in steps:
        step.assert_changes_only_its_own(model)
    assert_no_change_between(steps)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == required


@pytest.mark.parametrize("name", list(ROWS))
def test_the_discriminators_loss_has_no_gradient_in_the_generator(name: str, tmp_path: Path):
    model = ROWS[name].build(tmp_path).train()
    images, labels = torch.rand(8, 1, 28, 28), torch.arange(8)
    loss = model.discriminator_terms(images, model.sample_codes(labels), labels)["loss_d"]
    found = torch.autograd.grad(loss, list(model.generator.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in found)


def test_the_discriminators_step_takes_generated_images_without_a_gradient(monkeypatch: pytest.MonkeyPatch):
    model, seen = model_of("acgan"), []
    monkeypatch.setattr(model, "generate", lambda codes: seen.append(type(model).generate(model, codes)) or seen[-1])
    fitted(model, loader(16))
    assert len(seen) == 4 and not any(fake.requires_grad or fake.grad_fn for fake in seen)


def test_the_discriminator_takes_n_critic_steps_for_each_generator_step(steps: list[Step]):
    """Eight batches in two epochs: the count continues from epoch to epoch."""
    fitted(model_of(recipe=AdversarialRecipe(n_critic=3, ema_decay=0.9)), loader(16), max_epochs=2)
    d, g = "discriminator", "generator"
    assert [step.network for step in steps] == [d, d, d, g] * 2 + [d, d]


@pytest.mark.parametrize("end", [{"max_epochs": 3}, {"max_epochs": -1, "max_steps": 18}])
def test_learning_rates_fall_linearly_to_zero(end: dict[str, int]):
    """12 batches of one step of the discriminator each, and half as many of the generator: 18 steps."""
    rates: list[list[float]] = []

    def note(trainer: Any, *_: Any) -> None:
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])

    recipe = AdversarialRecipe(n_critic=2, discriminator_lr_factor=4.0, lr_decay_start=0.5)
    fitted(model_of(recipe=recipe), loader(16), LambdaCallback(on_train_batch_end=note), **end)
    done = range(12) if "max_steps" not in end else [batch + batch // 2 for batch in range(12)]
    expected = [min(1.0, 2 * (1 - each / (18 if "max_steps" in end else 12))) for each in done]
    assert rates == [pytest.approx([4 * 0.05 * factor, 0.05 * factor]) for factor in expected]


def test_a_decay_needs_an_end():
    with pytest.raises(ValueError, match="lr_decay_start needs an end: give trainer.max_epochs or trainer.max_steps"):
        fitted(model_of(recipe=AdversarialRecipe(lr_decay_start=0.5)), loader(16), max_epochs=-1)


def test_the_outputs_of_a_step_are_detached_scalars():
    seen: list[dict[str, Tensor]] = []
    heard = LambdaCallback(on_train_batch_end=lambda trainer, model, outputs, batch, index: seen.append(outputs))
    fitted(model_of(recipe=AdversarialRecipe(n_critic=2, gradient_clip_val=1.0)), loader(16), heard)
    of_d = {"loss_d", "d_real", "d_fake", "grad_norm_d"}
    both = of_d | {"loss_g", "grad_norm_g"}
    assert [set(outputs) for outputs in seen] == [of_d, both, of_d, both]
    for value in (value for outputs in seen for value in outputs.values()):
        assert value.ndim == 0 and not value.requires_grad and value.isfinite()


@pytest.mark.parametrize("scale", [None, 2.0**10])
def test_gradient_clip_val_limits_the_norm_of_the_gradient(scale: float | None, steps: list[Step], fixed_codes: None):
    """An SGD step is lr times the gradient. The returned norm is that of the unscaled gradient before clipping."""
    clip, plugins = 1e-3, [] if scale is None else [half(scale)]
    model = model_of(recipe=AdversarialRecipe(gradient_clip_val=clip))
    fitted(model, loader(16), plugins=plugins, limit_train_batches=1)
    free = model_of()
    fitted(free, loader(16), limit_train_batches=1)
    norms = [step.terms["grad_norm"].item() for step in steps]
    for step, norm, unclipped in zip(steps, norms, norms[2:], strict=False):
        (before, _), (after, gradients) = step.before[step.network], step.after[step.network]
        moved = torch.stack([(after[name] - before[name]).norm() for name in gradients]).norm().item()
        assert norm > 2 * clip and moved == pytest.approx(0.05 * clip, rel=1e-3)
        if step.network == "discriminator":  # the generator's gradient depends on the discriminator's step
            assert norm == pytest.approx(unclipped, rel=1e-4 if scale is None else 0.02)


def test_a_gradient_below_gradient_clip_val_is_unchanged():
    models = [model_of(recipe=AdversarialRecipe(gradient_clip_val=clip)) for clip in (1e6, 0.0)]
    for model in models:
        fitted(model, loader(16))
    assert same_tensors(*(weights_of(model) for model in models))


@pytest.mark.parametrize("kind", ["gan", "conditional", "acgan", "vaegan", "relativistic"])
def test_accumulated_gradients_equal_those_of_the_whole_batch(kind: str, steps: list[Step], fixed_codes: None):
    penalties = PENALTIES if kind == "relativistic" else {}
    whole, parts = model_of(kind), model_of(kind, recipe=AdversarialRecipe(accumulate_grad_batches=4, **penalties))
    for model in (whole, parts):
        fitted(model, loader(16), precision="64-true")
    assert_close(weights_of(parts), weights_of(whole))
    for a, b in zip(steps[: len(steps) // 2], steps[len(steps) // 2 :], strict=True):
        assert_close(a.after[a.network][1], b.after[b.network][1])
        for name in a.terms:
            torch.testing.assert_close(a.terms[name].float(), b.terms[name].float())


@pytest.mark.parametrize("objective", [Relativistic(), NonSaturating()], ids=["relativistic", "non_saturating"])
def test_real_images_are_evaluated_in_the_generators_step_only_if_the_objective_needs_them(objective: Any):
    """In a pack each real image has one generated image beside it."""
    model = model_of(objective=objective, pack=2)
    images, labels, seen = torch.rand(8, 1, 28, 28), torch.arange(8), []
    model.discriminator.register_forward_hook(lambda network, inputs, output: seen.append((inputs[0], output)))
    inputs = model.generator_step_inputs((images, labels))
    loss = model.generator_terms(*inputs)["loss_g"]
    (packs, on_fake), *rest = seen
    torch.testing.assert_close(packs, model.generator(inputs[0]).view(4, 2, 28, 28))
    if not objective.needs_real:
        assert len(inputs) == 2 and not rest
        return
    [(real, on_real)] = rest
    assert torch.equal(real, images.view(4, 2, 28, 28)) and not on_real.requires_grad
    expected = -(on_fake.detach() - on_real).sigmoid().log().mean()
    torch.testing.assert_close(loss.detach(), expected)


def test_penalties_at_every_second_step_are_those_of_every_step_on_average(steps: list[Step], fixed_codes: None):
    """The same batch four times, without learning: the mean gradient is that with the penalties in every step."""
    kept = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.0)}
    for interval in (1, 2):
        recipe = AdversarialRecipe(**PENALTIES | {"penalty_interval": interval})
        fitted(model_of("relativistic", recipe=recipe, **kept), loader(IMAGES), max_epochs=4, precision="64-true")
    of_d = [step for step in steps if step.network == "discriminator"]
    assert [{"r1", "r2"} <= set(step.terms) for step in of_d] == [True] * 4 + [False, True] * 2
    every, lazy = ([step.after["discriminator"][1] for step in part] for part in (of_d[:4], of_d[4:]))
    assert_close({name: torch.stack([one[name] for one in lazy]).mean(dim=0) for name in every[0]}, every[0])
    terms = of_d[0].terms
    plain = of_d[4].terms["loss_d"] + 0.25 * terms["r1"] + 0.15 * terms["r2"]
    torch.testing.assert_close(plain, terms["loss_d"])


def test_the_discriminator_sees_augmented_images_in_both_steps():
    """Cutout makes some pixels of every image exactly 1/2."""
    recipe = AdversarialRecipe(augment=("cutout",), **PENALTIES)
    for kind in ("relativistic", "acgan"):
        options = {"objective": Relativistic(), "recipe": recipe} if kind == "acgan" else {"recipe": recipe}
        model, seen = model_of(kind, **options), []
        model.discriminator.register_forward_pre_hook(lambda network, inputs, seen=seen: seen.append(inputs[0]))
        batch = torch.rand(8, 1, 28, 28), torch.arange(8)
        model.discriminator_terms(*model.discriminator_step_inputs(batch))
        model.generator_terms(*model.generator_step_inputs(batch))
        assert len(seen) == 6  # real, generated, both penalties; generated, real
        for images in seen:
            share = (images == 0.5).float().mean(dim=(1, 2, 3))
            assert (share >= 7 * 7 / 28**2).all() and (share <= 0.25).all()


# Two processes.

KINDS: dict[str, dict[str, Any]] = {
    "gan": {},
    "conditional": {},
    "acgan": {},
    "vaegan": {},
    "parts": {"recipe": AdversarialRecipe(accumulate_grad_batches=2)},
    "n_critic": {"recipe": AdversarialRecipe(n_critic=2, gradient_clip_val=0.1, ema_decay=0.9)},
    "batch_norm": {},
    "relativistic": {},
}


def results(kind: str, batches: BatchLoader, **options: Any) -> dict[str, Snapshot]:
    """Weights after four batches, and the last step's gradients of each network."""
    model = model_of(kind, **KINDS[kind])
    fitted(model, batches, precision="64-true", **options)
    gradients = {name: gradients_of(network) for name, network in networks_of(model).items() if name[:3] != "ema"}
    return {"weights": weights_of(model), **gradients}


def _two(rank: int, folder: Path) -> dict[str, dict[str, Snapshot]]:
    LatentGAN.sample_codes = codes_by_label  # type: ignore[method-assign]
    return {kind: results(kind, loader(8, rank, 2), **DDP) for kind in KINDS}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Snapshot]]]:
    """Results of each of two gloo processes, by kind."""
    return in_two_processes(_two, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "batch_norm"])
def test_two_processes_equal_one_on_the_joined_batches(kind: str, ranks: Any, fixed_codes: None):
    expected = results(kind, loader(16))
    for found in (rank[kind] for rank in ranks):
        for what in expected:
            assert_close(found[what], expected[what])


@pytest.mark.parametrize("kind", list(KINDS))
def test_two_processes_have_the_same_weights(kind: str, ranks: Any):
    """Also with batch norm, where each process normalises its own images and has its own statistics."""
    a, b = (rank[kind] for rank in ranks)
    parameters = {name for name, _ in model_of(kind, **KINDS[kind]).named_parameters()}
    assert same_tensors(*({name: x["weights"][name] for name in parameters} for x in (a, b)))
    assert all(same_tensors(a[network], b[network]) for network in a.keys() - {"weights"})


# Half precision.


@pytest.mark.parametrize("generator", [LinearGenerator(), MLPGenerator((16,))], ids=["linear", "mlp"])
@pytest.mark.parametrize("network", NETWORKS)
def test_an_overflow_skips_the_step_of_one_network_only(network: str, generator: Any, steps: list[Step]):
    model = model_of(
        objective=Overflowing(network, 2),
        recipe=AdversarialRecipe(gradient_clip_val=1.0),
        generator=generator,
        optimizer=adam,
    )
    recorder = StateRecorder()
    fitted(model, loader(16), recorder, plugins=[half(2.0**8)])
    [other] = set(NETWORKS) - {network}
    first, second, third = (state.weights for state in recorder.states[:3])
    assert [state.scale for state in recorder.states] == [256, 128, 128, 128]
    assert same_tensors(first[network], second[network]) and not same_tensors(second[network], third[network])
    assert not same_tensors(first[other], second[other])
    assert recorder.states[-1].steps == [3 if name == network else 4 for name in NETWORKS]
    for values in model.state_dict().values():
        assert values.isfinite().all()
    measured = [(step.network, "grad_norm" in step.terms) for step in steps]
    assert measured.count((network, False)) == 1 and measured.count((other, False)) == 0
    assert all(step.terms["grad_norm"].isfinite() for step in steps if "grad_norm" in step.terms)


def test_half_precision_has_the_losses_of_single_precision(steps: list[Step], fixed_codes: None):
    """Losses of two batches, up to rounding in half precision. Adam's first steps enlarge it later."""
    for plugins in ([], [half(2.0**10)]):
        fitted(model_of(), loader(16), plugins=plugins)
    single, mixed = (torch.stack([next(iter(s.terms.values())) for s in part]) for part in (steps[:4], steps[8:12]))
    torch.testing.assert_close(mixed.float(), single, rtol=0.01, atol=0.01)


# Resuming.

BATCHES = 5
CONFIG = """
seed_everything: 0
trainer:
  max_epochs: 3
  limit_train_batches: 5
  log_every_n_steps: 4
  accelerator: cpu
  plugins:
    class_path: lightning.pytorch.plugins.MixedPrecision
    init_args:
      precision: 16-mixed
      device: cpu
      scaler:
        class_path: torch.amp.GradScaler
        init_args: {device: cpu, init_scale: 64, growth_interval: 7}
model:
  class_path: GAN
  init_args:
    latent_dim: 5
    generator: {class_path: DCGANGenerator, init_args: {channels: 4}}
    discriminator:
      class_path: DCGANDiscriminator
      init_args: {channels: 4, norm: layer, noise_std: 0.1, spectral_norm: true}
    objective: Relativistic
    recipe:
      {ema_decay: 0.9, n_critic: 2, lr_decay_start: 0.4, r1: 0.1, penalty_interval: 3, augment: [color, translation]}
data: {class_path: DigitsDataModule, init_args: {batch_size: 32, val_size: 0, shift: 1}}
run: {pictures: false}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "resume.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(config, tmp_path_factory.mktemp("whole"))


def test_a_checkpoint_contains_the_state_of_training(whole: Path):
    found = training_state(whole, "MixedPrecision")
    steps = [{int(state["step"]) for state in states["state"].values()} for states in found["optimizer_states"]]
    assert steps == [{3 * BATCHES}, {3 * BATCHES // 2}]
    assert found["MixedPrecision"]["scale"] == 64 * 2 ** ((3 * BATCHES + 3 * BATCHES // 2) // 7)
    assert any(name.startswith("ema_generator.") for name in found["state_dict"])


@pytest.mark.parametrize("batch", [1, 4, BATCHES, BATCHES + 2, 3 * BATCHES - 1])
def test_resume_is_exact(batch: int, config: Path, whole: Path, tmp_path: Path):
    """Both optimizers, their learning rates, the gradient scaler, the EMA, the random state, the counts of n_critic and
    of penalty_interval."""
    with pytest.raises(SystemExit):
        run(config, tmp_path, "--run.name=x", *stop_at(batch, "term"))
    stopped = tmp_path / "resume" / "x"
    found = training_state(stopped, "MixedPrecision")
    assert found["global_step"] == batch + batch // 2 and not equal(found, training_state(whole, "MixedPrecision"))
    resumed = run(config, tmp_path, f"--ckpt_path={stopped}/checkpoints/last.ckpt")
    assert resumed == stopped and equal(
        training_state(resumed, "MixedPrecision"), training_state(whole, "MixedPrecision")
    )


def test_the_ema_is_loaded_from_a_checkpoint(whole: Path):
    model = GAN.load(whole / "checkpoints" / "last.ckpt")
    assert model.ema_generator is not None
    copied = copy.deepcopy(model.ema_generator.state_dict())
    expected = {
        k.removeprefix("ema_generator."): v for k, v in weights(whole).items() if k.startswith("ema_generator.")
    }
    assert same_tensors(dict(copied), expected)
