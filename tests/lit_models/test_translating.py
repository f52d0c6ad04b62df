"""Training of image-to-image models: single steps, two processes, fp16, and resuming."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, LambdaCallback
from torch import Tensor

from datamodules import BatchLoader
from genlab.callbacks import ExactResume, LastCheckpoint
from lit_models import SRGAN, CycleGAN, Pix2Pix, RestorationGAN
from lit_models.common.adversarial import AdversarialRecipe
from lit_models.common.discriminators import DCGANDiscriminator
from lit_models.common.image_pool import ImagePool
from lit_models.common.image_to_image_gan import ImageToImageGAN
from lit_models.common.module import GenerativeModule
from lit_models.common.objectives import Wasserstein
from lit_models.common.translators import ConvTranslator, UNetTranslator
from tests.helpers import same, stop_at
from tests.lit_models.adversaries import (
    DDP,
    Overflowing,
    Snapshot,
    StateRecorder,
    Step,
    adam,
    assert_close,
    assert_no_change_between,
    equal,
    fitted,
    gradients_of,
    half,
    in_two_processes,
    networks_of,
    run,
    training_state,
    weights_of,
)
from tests.lit_models.translators import ORDERS, SIDE, STEPS, cyclegan, loader, one_way
from tests.test_models import MODELS, Row, data_of, losses_of, trained

CLIPPED, EMA = AdversarialRecipe(gradient_clip_val=1.0), AdversarialRecipe(ema_decay=0.9)
ROWS = {
    name: row
    for name, row in MODELS.items()
    if isinstance(row.make, type) and issubclass(row.make, CycleGAN | ImageToImageGAN)
}

# Single steps.


@pytest.mark.parametrize("name", list(ROWS))
def test_a_step_changes_only_its_own_networks(name: str, steps: list[Step], tmp_path: Path):
    row: Row = ROWS[name]
    model: Any = row.build(tmp_path)
    required = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    trained(row, model, tmp_path)
    expected = STEPS[model.step_order] if isinstance(model, CycleGAN) else [("discriminator",), ("generator",)]
    assert [set(step.own) for step in steps] == [set(own) for own in expected] * 2
    for step in steps:
        step.assert_changes_only_its_own(model)
    assert_no_change_between(steps)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == required


@pytest.mark.parametrize("order", ORDERS)
def test_a_step_does_not_change_batch_norms_of_the_other_generator(order: str, steps: list[Step]):
    batch_norms = {"generator": UNetTranslator(2, 2), "discriminator": DCGANDiscriminator(2, 2)}
    model = cyclegan(order, **batch_norms, cycle_weight=1.0, identity_weight=1.0, pool_size=10)
    fitted(model, loader(8), limit_train_batches=2)
    assert_no_change_between(steps)
    for step in steps:
        step.assert_changes_only_its_own(model)
        for name in step.own:
            (before, _), (after, _) = step.before[name], step.after[name]
            means = {key: value for key, value in before.items() if key.endswith("running_mean")}
            assert means and not any(torch.equal(value, after[key]) for key, value in means.items())


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.make is not CycleGAN])
def test_the_discriminators_loss_has_no_gradient_in_the_generator(name: str, tmp_path: Path):
    model: Any = ROWS[name].build(tmp_path).train()
    data = data_of(ROWS[name])
    data.setup()
    loss = losses_of(model, next(iter(data.train_dataloader())))["discriminator."]["loss_d"]
    found = torch.autograd.grad(loss, list(model.generator.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in found)


class InputRecorder(Callback):
    """Records the inputs of a CycleGAN's discriminators, and the inputs and outputs of its pools."""

    def __init__(self) -> None:
        self.inputs: list[tuple[str, Tensor]] = []
        self.pool_inputs: dict[str, list[Tensor]] = {"a": [], "b": []}
        self.pool_outputs: dict[str, list[Tensor]] = {"a": [], "b": []}

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        for kind, pool in pl_module.pools.items():
            pl_module.pools[kind] = self._recorded_pool(kind, pool)
            pl_module.discriminator[kind].register_forward_pre_hook(self._input_hook(kind))

    def _input_hook(self, kind: str) -> Callable[..., None]:
        return lambda discriminator, inputs: self.inputs.append((kind, inputs[0]))

    def _recorded_pool(self, kind: str, pool: ImagePool) -> Callable[[Tensor], Tensor]:
        def call(images: Tensor) -> Tensor:
            self.pool_inputs[kind].append(images.clone())
            self.pool_outputs[kind].append(pool(images))
            return self.pool_outputs[kind][-1]

        return call


@pytest.mark.parametrize("pool_size", [0, 12])
@pytest.mark.parametrize("order", ORDERS)
def test_discriminators_take_translations_from_the_pool_without_a_gradient(order: str, pool_size: int):
    """Batches of 8: real images and those of the pool in their own step, new translations in the generator's step."""
    recorder = InputRecorder()
    fitted(cyclegan(order, pool_size=pool_size, identity_weight=1.0), loader(8), recorder, max_epochs=3)
    one = [("b", True), ("a", True), ("b", False), ("b", False), ("a", False), ("a", False)]
    if order == "alternating":
        one = [("b", False), ("b", False), ("b", True), ("a", False), ("a", False), ("a", True)]
    assert [(kind, seen.requires_grad) for kind, seen in recorder.inputs] == one * 12
    for kind in ("a", "b"):
        in_generator_step = [seen.detach() for name, seen in recorder.inputs if name == kind and seen.requires_grad]
        in_own_step = [seen for name, seen in recorder.inputs if name == kind and not seen.requires_grad][1::2]
        assert equal(in_generator_step, recorder.pool_inputs[kind]) and equal(in_own_step, recorder.pool_outputs[kind])
        assert all(seen.grad_fn is None for seen in in_own_step)
        old = 0
        for k, (seen, given) in enumerate(zip(in_own_step, recorder.pool_inputs[kind], strict=True)):
            ever = torch.cat(recorder.pool_inputs[kind][: k + 1])
            assert all((image == ever).flatten(1).all(dim=1).any() for image in seen)
            old += sum(not (image == given).flatten(1).all(dim=1).any() for image in seen)
        assert old == 0 if not pool_size else 12 < old < 72  # of 96, about half once the pool is full


def test_the_outputs_of_a_step_are_detached_scalars():
    for order in ORDERS:
        seen: list[dict[str, Tensor]] = []
        heard = LambdaCallback(on_train_batch_end=lambda trainer, model, outputs, batch, index: seen.append(outputs))  # noqa: B023
        fitted(cyclegan(order, recipe=CLIPPED, identity_weight=1.0, objective=Wasserstein()), loader(8), heard)
        of_d = {"loss_d", "d_real", "d_fake", "gradient_penalty", "grad_norm_d"}
        of_g = {"loss_g", "adversarial", "cycle_l1", "identity_l1", "grad_norm_g"}
        assert [set(outputs) for outputs in seen] == [of_d | of_g] * 4
        for value in (value for outputs in seen for value in outputs.values()):
            assert value.ndim == 0 and not value.requires_grad and value.isfinite()


# EMA, gradient accumulation, two processes.


def weights_after_batches(model: Any) -> list[Snapshot]:
    """The generators' weights after each batch."""
    seen: list[Snapshot] = []
    note = LambdaCallback(on_train_batch_end=lambda trainer, module, *rest: seen.append(weights_of(module.generator)))
    fitted(model, loader(8), note)
    return seen


@pytest.mark.parametrize("order", ORDERS)
def test_the_ema_of_both_generators_makes_the_translations(order: str):
    """a += (1 - decay) (g - a), decay 2/11, 3/12, 4/13 and then 0.3."""
    model: Any = cyclegan(order, recipe=AdversarialRecipe(ema_decay=0.3))
    expected = weights_of(model.generator)
    for decay, current in zip((2 / 11, 3 / 12, 0.3, 0.3), weights_after_batches(model), strict=True):
        expected = {name: decay * value + (1 - decay) * current[name] for name, value in expected.items()}
    assert model.ema_generator is not None
    for name, value in weights_of(model.ema_generator).items():
        torch.testing.assert_close(value, expected[name])
    images = torch.rand(2, 1, SIDE, SIDE)
    with torch.no_grad():
        for direction in model.directions:
            assert torch.equal(model.translate(images, direction), model.ema_generator[direction](images))
            assert not torch.allclose(model.translate(images, direction), model.generator[direction](images))


STABLE: dict[str, Any] = {
    "generator": ConvTranslator((4,), 3),
    "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.002),
    "identity_weight": 1.0,
}
"""Options of models in which rounding errors hardly grow. With instance norms of small maps they grow fast."""


def recipe(parts: int, ema_decay: float = 0.0, gradient_clip_val: float = 0.0) -> AdversarialRecipe:
    return AdversarialRecipe(ema_decay=ema_decay, gradient_clip_val=gradient_clip_val, accumulate_grad_batches=parts)


KINDS: dict[str, Callable[..., Any]] = {
    "joint": lambda parts=1, **options: cyclegan("joint", **STABLE, recipe=recipe(parts), **options),
    "alternating": lambda parts=1, **options: cyclegan("alternating", **STABLE, recipe=recipe(parts), **options),
    "joint, ema": lambda parts=1, **options: cyclegan("joint", recipe=recipe(parts, 0.9, 0.1), **options),
    "alternating, ema": lambda parts=1, **options: cyclegan("alternating", recipe=recipe(parts, 0.9, 0.1), **options),
    "pix2pix": lambda parts=1: one_way(Pix2Pix, recipe=recipe(parts)),
    "restoration": lambda parts=1: one_way(RestorationGAN, spectrum_weight=0.0, recipe=recipe(parts)),
}
"""Models whose losses are means over images."""


@pytest.mark.parametrize("kind", list(KINDS))
def test_accumulated_gradients_equal_those_of_the_whole_batch(kind: str, steps: list[Step]):
    pool = {"pool_size": 10} if "pix" not in kind and "restoration" not in kind else {}
    whole, parts = KINDS[kind](**pool), KINDS[kind](parts=4, **pool)
    for model in (whole, parts):
        fitted(model, loader(8), precision="64-true")
    assert_close(weights_of(parts), weights_of(whole))
    for a, b in zip(steps[: len(steps) // 2], steps[len(steps) // 2 :], strict=True):
        assert a.own == b.own
        for name in a.own:
            assert_close(a.after[name][1], b.after[name][1])
        for name in a.terms.keys() - {"spectrum"}:  # computed for each part, and has no weight here
            torch.testing.assert_close(a.terms[name].float(), b.terms[name].float())


def results(model: Any, batches: BatchLoader, **options: Any) -> dict[str, Snapshot]:
    """Weights after four batches, and the last step's gradients of each network."""
    fitted(model, batches, precision="64-true", **options)
    gradients = {
        name: gradients_of(network) for name, network in networks_of(model).items() if "ema_generator" not in name
    }
    return {"weights": weights_of(model), **gradients}


POOLED = {"pool_size": 6, "recipe": EMA}


def pools_of(model: Any) -> dict[str, Tensor]:
    return {kind: pool.images for kind, pool in model.pools.items()}


def resumed(folder: Path, batches: BatchLoader, **options: Any) -> dict[str, Any]:
    """Pools and weights of a run of two epochs, and of one that is resumed after the first."""
    found: dict[str, Any] = {}
    for name, epochs, checkpoint in (("whole", 2, None), ("first", 1, None), ("second", 2, folder / "first")):
        model = cyclegan(**POOLED)
        path = None if checkpoint is None else checkpoint / "checkpoints" / "last.ckpt"
        keep = [ExactResume(), LastCheckpoint()]
        fitted(model, batches, *keep, ckpt_path=path, max_epochs=epochs, default_root_dir=folder / name, **options)
        found[name] = {"pools": pools_of(model), "weights": weights_of(model)}
    return found


def _two(rank: int, folder: Path) -> dict[str, Any]:
    kinds = {kind: results(make(), loader(4, rank, 2), **DDP) for kind, make in KINDS.items()}
    srgan = results(one_way(SRGAN, recipe=EMA), loader(4, rank, 2, shrink=2), **DDP)
    return {"kinds": kinds, "srgan": srgan, "resumed": resumed(folder, loader(4, rank, 2), **DDP)}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def ranks(two: Path) -> list[dict[str, Any]]:
    """Results of each of two gloo processes."""
    return in_two_processes(_two, two)


@pytest.mark.parametrize("kind", list(KINDS))
def test_two_processes_equal_one_on_the_joined_batches(kind: str, ranks: Any):
    expected = results(KINDS[kind](), loader(8))
    for found in (rank["kinds"][kind] for rank in ranks):
        assert found.keys() == expected.keys()
        for what in expected:
            assert_close(found[what], expected[what])


def test_two_processes_have_the_same_weights_and_each_its_own_statistics(ranks: Any):
    a, b = (rank["srgan"] for rank in ranks)
    parameters = {name for name, _ in one_way(SRGAN, recipe=EMA).named_parameters()}
    assert same(*({name: x["weights"][name] for name in parameters} for x in (a, b)))
    assert not same(a["weights"], b["weights"]) and all(
        same(a[name], b[name]) for name in ("discriminator", "generator")
    )


def test_each_process_has_its_own_pools_and_resumes_them(ranks: Any, two: Path):
    checkpoint = two / "first" / "checkpoints" / "last.ckpt"
    saved = torch.load(checkpoint, weights_only=True)["image_pools"]
    assert len(saved) == 2
    for rank, pools in zip(ranks, saved, strict=True):
        found = rank["resumed"]
        assert equal(pools, found["first"]["pools"])
        assert equal(found["second"], found["whole"]) and not equal(found["second"]["pools"], pools)
        assert all(len(images) == 6 and len(images.unique(dim=0)) == 6 for images in pools.values())
    a, b = (rank["resumed"]["whole"] for rank in ranks)
    assert same(a["weights"], b["weights"]) and not any(torch.equal(a["pools"][k], b["pools"][k]) for k in "ab")
    alone = cyclegan(**POOLED)  # one process that resumes it starts with empty pools
    fitted(alone, loader(8), ckpt_path=checkpoint, max_epochs=2)
    assert all(len(images) == 6 for images in pools_of(alone).values())


def test_a_pool_of_another_size_restores_what_fits(tmp_path: Path):
    resumed(tmp_path, loader(8))
    checkpoint = tmp_path / "first" / "checkpoints" / "last.ckpt"
    [saved] = torch.load(checkpoint, weights_only=True)["image_pools"]
    for size in (0, 4, 9):
        model = cyclegan(**{**POOLED, "pool_size": size})
        trainer = fitted(model, loader(8), ckpt_path=checkpoint, max_epochs=1)  # no epoch is left
        assert trainer.current_epoch == 1
        for kind, pool in model.pools.items():
            assert equal(pool.images, saved[kind][:size] if size else None), size
        fitted(model, loader(8), ckpt_path=checkpoint, max_epochs=2)
        assert all(pool.images is None if not size else len(pool.images) == size for pool in model.pools.values())


# Half precision.


@pytest.mark.parametrize(("order", "network", "call", "skipped"), [
    ("joint", "discriminator", 3, ["discriminator.a", "discriminator.b"]),
    ("joint", "generator", 4, ["generator.ab", "generator.ba"]),
    ("alternating", "discriminator", 3, ["discriminator.b"]),
    ("alternating", "discriminator", 4, ["discriminator.a"]),
    ("alternating", "generator", 3, ["generator.ab"]),
    ("alternating", "generator", 4, ["generator.ba"]),
])  # fmt: skip
def test_an_overflow_skips_the_step_of_one_optimizer_only(order: str, network: str, call: int, skipped: list[str]):
    """Each loss is called twice a batch; the third and fourth calls are on the second batch."""
    model = cyclegan(order, objective=Overflowing(network, call), recipe=CLIPPED, optimizer=adam, pool_size=10)
    recorder = StateRecorder()
    fitted(model, loader(8), recorder, plugins=[half(2.0**8)])
    first, second, third = (state.weights for state in recorder.states[:3])
    assert [state.scale for state in recorder.states] == [256, 128, 128, 128]
    for name in networks_of(model):
        assert same(first[name], second[name]) == (name in skipped), name
        assert not same(second[name], third[name])
    owners = [["discriminator.a", "discriminator.b"], ["generator.ab", "generator.ba"]]
    if order == "alternating":
        owners = [["discriminator.b"], ["generator.ab"], ["discriminator.a"], ["generator.ba"]]
    assert recorder.states[-1].steps == [3 if own == skipped else 4 for own in owners]
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert all(images.isfinite().all() for images in pools_of(model).values())


# Resuming.

CONFIG = """
seed_everything: 0
trainer:
  max_epochs: 2
  limit_train_batches: 4
  log_every_n_steps: 4
  accelerator: cpu
model:
  class_path: CycleGAN
  init_args:
    generator: {{class_path: ResNetTranslator, init_args: {{channels: 2, blocks: 1}}}}
    discriminator: {{class_path: PatchDiscriminator, init_args: {{channels: 2, depth: 1}}}}
    identity_weight: 1.0
    recipe: {{ema_decay: 0.9}}
    pool_size: 20
    step_order: {order}
data: {{class_path: tests.lit_models.pairs.RecoloredDigits, init_args: {{batch_size: 8, val_size: 0}}}}
run: {{pictures: false}}
translation: {{num_images: 0}}
"""


@pytest.fixture(scope="module", params=ORDERS)
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param) / "resume.yaml"
    path.write_text(CONFIG.format(order=request.param))
    return path


@pytest.fixture(scope="module")
def whole(config: Path) -> Path:
    return run(config, config.parent / "whole")


def state_of(folder: Path) -> dict[str, Any]:
    return training_state(folder, "image_pools")


def test_the_last_checkpoint_contains_the_pools_and_the_best_does_not(whole: Path):
    saved, best = state_of(whole), torch.load(whole / "checkpoints" / "best.ckpt", weights_only=True)
    [pools] = saved["image_pools"]
    assert {kind: tuple(images.shape) for kind, images in pools.items()} == {k: (20, 3, 28, 28) for k in "ab"}
    assert not {"image_pools", "optimizer_states"} & best.keys()
    assert any(name.startswith("ema_generator.") for name in best["state_dict"])
    models = [GenerativeModule.load(whole / "checkpoints" / f"{name}.ckpt") for name in ("best", "last")]
    assert all(isinstance(model, CycleGAN) and pools_of(model) == {"a": None, "b": None} for model in models)
    assert same(models[0].state_dict(), models[1].state_dict())


@pytest.mark.parametrize(("batch", "pooled"), [(2, 16), (5, 20)])
def test_resume_is_exact(batch: int, pooled: int, config: Path, whole: Path, tmp_path: Path):
    """Optimizers, EMA and pools, which are full or not yet full."""
    with pytest.raises(SystemExit):
        run(config, tmp_path, "--run.name=x", *stop_at(batch, "term"))
    stopped = tmp_path / "resume" / "x"
    found = state_of(stopped)
    assert found["global_step"] == batch * (4 if "alternating" in config.read_text() else 2)
    [pools] = found["image_pools"]
    assert all(len(images) == pooled for images in pools.values()) and not equal(found, state_of(whole))
    resumed = run(config, tmp_path, f"--ckpt_path={stopped}/checkpoints/last.ckpt")
    assert resumed == stopped and equal(state_of(resumed), state_of(whole))


def test_the_pools_are_not_in_the_state_dict():
    model: Any = cyclegan(pool_size=4)
    model.pools["a"](torch.rand(4, 1, SIDE, SIDE))
    assert not any("pool" in name for name in model.state_dict())
    assert copy.deepcopy(model).pools["a"].size == 4
