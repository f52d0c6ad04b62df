"""How models of images to images are trained: step by step, on two processes, in fp16, and resumed."""

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
    Scales,
    Snapshot,
    Step,
    adam,
    assert_close,
    assert_nothing_between,
    equal,
    fitted,
    gradients_of,
    half,
    in_two_processes,
    kept,
    networks_of,
    run,
    weights_of,
)
from tests.lit_models.translators import ORDERS, SIDE, STEPS, cyclegan, loader, one_way
from tests.test_models import MODELS, Row, data_of, losses_of, trained

ROWS = {
    name: row
    for name, row in MODELS.items()
    if isinstance(row.make, type) and issubclass(row.make, CycleGAN | ImageToImageGAN)
}

# Whose step it is.


@pytest.mark.parametrize("name", list(ROWS))
def test_a_step_leaves_the_other_networks_untouched(name: str, steps: list[Step], tmp_path: Path):
    row: Row = ROWS[name]
    model: Any = row.build(tmp_path)
    required = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    trained(row, model, tmp_path)
    expected = STEPS[model.step_order] if isinstance(model, CycleGAN) else [("critic",), ("generator",)]
    assert [set(step.own) for step in steps] == [set(own) for own in expected] * 2
    for step in steps:
        step.assert_touches_its_own_alone(model)
    assert_nothing_between(steps)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == required


@pytest.mark.parametrize("order", ORDERS)
def test_batch_norms_of_the_other_generator_are_untouched_too(order: str, steps: list[Step]):
    batch_norms = {"generator": UNetTranslator(2, 2), "discriminator": DCGANDiscriminator(2, 2)}
    model = cyclegan(order, **batch_norms, cycle_weight=1.0, identity_weight=1.0, pool_size=10)
    fitted(model, loader(8), limit_train_batches=2)
    assert_nothing_between(steps)
    for step in steps:
        step.assert_touches_its_own_alone(model)
        for name in step.own:
            (before, _), (after, _) = step.before[name], step.after[name]
            means = {key: value for key, value in before.items() if key.endswith("running_mean")}
            assert means and not any(torch.equal(value, after[key]) for key, value in means.items())


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.make is not CycleGAN])
def test_the_discriminators_loss_does_not_reach_the_generator(name: str, tmp_path: Path):
    model: Any = ROWS[name].build(tmp_path).train()
    data = data_of(ROWS[name])
    data.setup()
    loss = losses_of(model, next(iter(data.train_dataloader())))["critic."]["loss_d"]
    found = torch.autograd.grad(loss, list(model.generator.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in found)


class Witness(Callback):
    """What each discriminator of a CycleGAN is shown, and what goes into and comes out of the pools."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, Tensor]] = []
        self.given: dict[str, list[Tensor]] = {"a": [], "b": []}
        self.handed: dict[str, list[Tensor]] = {"a": [], "b": []}

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        for kind, pool in pl_module.pools.items():
            pl_module.pools[kind] = self._watched(kind, pool)
            pl_module.critic[kind].register_forward_pre_hook(self._seeing(kind))

    def _seeing(self, kind: str) -> Callable[..., None]:
        return lambda critic, inputs: self.shown.append((kind, inputs[0]))

    def _watched(self, kind: str, pool: ImagePool) -> Callable[[Tensor], Tensor]:
        def call(images: Tensor) -> Tensor:
            self.given[kind].append(images.clone())
            self.handed[kind].append(pool(images))
            return self.handed[kind][-1]

        return call


@pytest.mark.parametrize("pool_size", [0, 12])
@pytest.mark.parametrize("order", ORDERS)
def test_discriminators_see_translations_without_a_gradient_and_out_of_the_pool(order: str, pool_size: int):
    """Batches of 8: the real image and the pool's in their own step, the newest translation in the generator's."""
    witness = Witness()
    fitted(cyclegan(order, pool_size=pool_size, identity_weight=1.0), loader(8), witness, max_epochs=3)
    one = [("b", True), ("a", True), ("b", False), ("b", False), ("a", False), ("a", False)]
    if order == "alternating":
        one = [("b", False), ("b", False), ("b", True), ("a", False), ("a", False), ("a", True)]
    assert [(kind, seen.requires_grad) for kind, seen in witness.shown] == one * 12
    for kind in ("a", "b"):
        fooled = [seen.detach() for name, seen in witness.shown if name == kind and seen.requires_grad]
        judged = [seen for name, seen in witness.shown if name == kind and not seen.requires_grad][1::2]
        assert equal(fooled, witness.given[kind]) and equal(judged, witness.handed[kind])
        assert all(seen.grad_fn is None for seen in judged)
        old = 0
        for k, (seen, given) in enumerate(zip(judged, witness.given[kind], strict=True)):
            ever = torch.cat(witness.given[kind][: k + 1])
            assert all((image == ever).flatten(1).all(dim=1).any() for image in seen)
            old += sum(not (image == given).flatten(1).all(dim=1).any() for image in seen)
        assert old == 0 if not pool_size else 12 < old < 72  # of 96, about half once the pool is full


def test_the_outputs_of_a_step_are_detached_numbers():
    for order in ORDERS:
        seen: list[dict[str, Tensor]] = []
        heard = LambdaCallback(on_train_batch_end=lambda trainer, model, outputs, batch, index: seen.append(outputs))  # noqa: B023
        fitted(cyclegan(order, clip=1.0, identity_weight=1.0, objective=Wasserstein()), loader(8), heard)
        of_d = {"loss_d", "d_real", "d_fake", "gradient_penalty", "grad_norm_d"}
        of_g = {"loss_g", "adversarial", "cycle_l1", "identity_l1", "grad_norm_g"}
        assert [set(outputs) for outputs in seen] == [of_d | of_g] * 4
        for value in (value for outputs in seen for value in outputs.values()):
            assert value.ndim == 0 and not value.requires_grad and value.isfinite()


# The average, parts of a batch, two processes.


def ends(model: Any) -> list[Snapshot]:
    """Fills with the generators' weights after each batch."""
    seen: list[Snapshot] = []
    note = LambdaCallback(on_train_batch_end=lambda trainer, module, *rest: seen.append(weights_of(module.generator)))
    fitted(model, loader(8), note)
    return seen


@pytest.mark.parametrize("order", ORDERS)
def test_the_average_follows_both_generators_and_makes_the_images(order: str):
    """a += (1 - decay) (g - a), decay 2/11, 3/12, 4/13 and then 0.3."""
    model: Any = cyclegan(order, ema_decay=0.3)
    expected = weights_of(model.generator)
    for decay, current in zip((2 / 11, 3 / 12, 0.3, 0.3), ends(model), strict=True):
        expected = {name: decay * value + (1 - decay) * current[name] for name, value in expected.items()}
    assert model.average is not None
    for name, value in weights_of(model.average).items():
        torch.testing.assert_close(value, expected[name])
    images = torch.rand(2, 1, SIDE, SIDE)
    with torch.no_grad():
        for direction in model.directions:
            assert torch.equal(model.translate(images, direction), model.average[direction](images))
            assert not torch.allclose(model.translate(images, direction), model.generator[direction](images))


CALM: dict[str, Any] = {
    "generator": ConvTranslator((4,), 3),
    "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.002),
    "identity_weight": 1.0,
}
"""Where rounding hardly grows from step to step, as it does fast by instance norms of small first maps."""
KINDS: dict[str, Callable[..., Any]] = {
    "joint": lambda **options: cyclegan("joint", **CALM, **options),
    "alternating": lambda **options: cyclegan("alternating", **CALM, **options),
    "joint, averaged": lambda **options: cyclegan("joint", ema_decay=0.9, clip=0.1, **options),
    "alternating, averaged": lambda **options: cyclegan("alternating", ema_decay=0.9, clip=0.1, **options),
    "pix2pix": lambda **options: one_way(Pix2Pix, **options),
    "restoration": lambda **options: one_way(RestorationGAN, spectrum_weight=0.0, **options),
}
"""Whose losses are means over images."""


@pytest.mark.parametrize("kind", list(KINDS))
def test_parts_of_a_batch_one_after_the_other_are_the_batch(kind: str, steps: list[Step]):
    pool = {"pool_size": 10} if "pix" not in kind and "restoration" not in kind else {}
    whole, parts = KINDS[kind](**pool), KINDS[kind](micro_batches=4, **pool)
    for model in (whole, parts):
        fitted(model, loader(8), precision="64-true")
    assert_close(weights_of(parts), weights_of(whole))
    for a, b in zip(steps[: len(steps) // 2], steps[len(steps) // 2 :], strict=True):
        assert a.own == b.own
        for name in a.own:
            assert_close(a.after[name][1], b.after[name][1])
        for name in a.terms.keys() - {"spectrum"}:  # of each part, and without a weight here
            torch.testing.assert_close(a.terms[name].float(), b.terms[name].float())


def results(model: Any, batches: BatchLoader, **options: Any) -> dict[str, Snapshot]:
    """Weights after four batches, and the last step's gradients of each network."""
    fitted(model, batches, precision="64-true", **options)
    gradients = {name: gradients_of(network) for name, network in networks_of(model).items() if "average" not in name}
    return {"weights": weights_of(model), **gradients}


POOLED = {"pool_size": 6, "ema_decay": 0.9}


def pools_of(model: Any) -> dict[str, Tensor]:
    return {kind: pool.kept for kind, pool in model.pools.items()}


def resumed(folder: Path, batches: BatchLoader, **options: Any) -> dict[str, Any]:
    """Two epochs, and one that is resumed for a second: pools and weights of each."""
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
    srgan = results(one_way(SRGAN, ema_decay=0.9), loader(4, rank, 2, shrink=2), **DDP)
    return {"kinds": kinds, "srgan": srgan, "resumed": resumed(folder, loader(4, rank, 2), **DDP)}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def ranks(two: Path) -> list[dict[str, Any]]:
    """What each of two gloo processes ends with."""
    return in_two_processes(_two, two)


@pytest.mark.parametrize("kind", list(KINDS))
def test_two_processes_do_what_one_does_on_the_joined_batches(kind: str, ranks: Any):
    expected = results(KINDS[kind](), loader(8))
    for found in (rank["kinds"][kind] for rank in ranks):
        assert found.keys() == expected.keys()
        for what in expected:
            assert_close(found[what], expected[what])


def test_two_processes_keep_the_same_weights_where_each_has_its_own_statistics(ranks: Any):
    a, b = (rank["srgan"] for rank in ranks)
    parameters = {name for name, _ in one_way(SRGAN, ema_decay=0.9).named_parameters()}
    assert same(*({name: x["weights"][name] for name in parameters} for x in (a, b)))
    assert not same(a["weights"], b["weights"]) and all(same(a[name], b[name]) for name in ("critic", "generator"))


def test_each_process_has_its_own_pools_and_gets_them_back(ranks: Any, two: Path):
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
    alone = cyclegan(**POOLED)  # one process goes on from it with pools of its own
    fitted(alone, loader(8), ckpt_path=checkpoint, max_epochs=2)
    assert all(len(images) == 6 for images in pools_of(alone).values())


def test_a_pool_of_another_size_takes_what_it_can(tmp_path: Path):
    resumed(tmp_path, loader(8))
    checkpoint = tmp_path / "first" / "checkpoints" / "last.ckpt"
    [saved] = torch.load(checkpoint, weights_only=True)["image_pools"]
    for size in (0, 4, 9):
        model = cyclegan(**{**POOLED, "pool_size": size})
        trainer = fitted(model, loader(8), ckpt_path=checkpoint, max_epochs=1)  # nothing is left to be done
        assert trainer.current_epoch == 1
        for kind, pool in model.pools.items():
            assert equal(pool.kept, saved[kind][:size] if size else None), size
        fitted(model, loader(8), ckpt_path=checkpoint, max_epochs=2)
        assert all(pool.kept is None if not size else len(pool.kept) == size for pool in model.pools.values())


# Half precision.


@pytest.mark.parametrize(("order", "part", "call", "skipped"), [
    ("joint", "critic", 3, ["critic.a", "critic.b"]),
    ("joint", "generator", 4, ["generator.ab", "generator.ba"]),
    ("alternating", "critic", 3, ["critic.b"]),
    ("alternating", "critic", 4, ["critic.a"]),
    ("alternating", "generator", 3, ["generator.ab"]),
    ("alternating", "generator", 4, ["generator.ba"]),
])  # fmt: skip
def test_an_overflow_skips_one_optimizers_step_and_no_other(order: str, part: str, call: int, skipped: list[str]):
    """Each loss is asked for twice a batch; the third and fourth times are on the second."""
    model = cyclegan(order, objective=Overflowing(part, call), clip=1.0, optimizer=adam, pool_size=10)
    scales = Scales()
    fitted(model, loader(8), scales, plugins=[half(2.0**8)])
    first, second, third = (moment.weights for moment in scales.seen[:3])
    assert [moment.scale for moment in scales.seen] == [256, 128, 128, 128]
    for name in networks_of(model):
        assert same(first[name], second[name]) == (name in skipped), name
        assert not same(second[name], third[name])
    owners = [["critic.a", "critic.b"], ["generator.ab", "generator.ba"]]
    if order == "alternating":
        owners = [["critic.b"], ["generator.ab"], ["critic.a"], ["generator.ba"]]
    assert scales.seen[-1].steps == [3 if own == skipped else 4 for own in owners]
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
    ema_decay: 0.9
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


def state(folder: Path) -> dict[str, Any]:
    return kept(folder, "image_pools")


def test_a_checkpoint_holds_the_pools_and_the_best_weights_do_not(whole: Path):
    saved, best = state(whole), torch.load(whole / "checkpoints" / "best.ckpt", weights_only=True)
    [pools] = saved["image_pools"]
    assert {kind: tuple(images.shape) for kind, images in pools.items()} == {k: (20, 3, 28, 28) for k in "ab"}
    assert not {"image_pools", "optimizer_states"} & best.keys()
    assert any(name.startswith("average.") for name in best["state_dict"])
    models = [GenerativeModule.load(whole / "checkpoints" / f"{name}.ckpt") for name in ("best", "last")]
    assert all(isinstance(model, CycleGAN) and pools_of(model) == {"a": None, "b": None} for model in models)
    assert same(models[0].state_dict(), models[1].state_dict())


@pytest.mark.parametrize(("batch", "pooled"), [(2, 16), (5, 20)])
def test_resume_is_exact(batch: int, pooled: int, config: Path, whole: Path, tmp_path: Path):
    """All optimizers, the average, and the pools, not yet full or full."""
    with pytest.raises(SystemExit):
        run(config, tmp_path, "--run.name=x", *stop_at(batch, "term"))
    stopped = tmp_path / "resume" / "x"
    found = state(stopped)
    assert found["global_step"] == batch * (4 if "alternating" in config.read_text() else 2)
    [pools] = found["image_pools"]
    assert all(len(images) == pooled for images in pools.values()) and not equal(found, state(whole))
    resumed = run(config, tmp_path, f"--ckpt_path={stopped}/checkpoints/last.ckpt")
    assert resumed == stopped and equal(state(resumed), state(whole))


def test_the_pools_are_no_part_of_what_is_copied_or_counted():
    model: Any = cyclegan(pool_size=4)
    model.pools["a"](torch.rand(4, 1, SIDE, SIDE))
    assert not any("pool" in name for name in model.state_dict())
    assert copy.deepcopy(model).pools["a"].size == 4
