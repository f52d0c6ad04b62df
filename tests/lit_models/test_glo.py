"""How GLO learns codes, against steps by hand, on two processes, in fp16, resumed; and how it finds those of others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, LambdaCallback
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from datamodules import BatchLoader, DigitsDataModule
from genlab.callbacks import ExactResume, LastCheckpoint
from genlab.latents import has_normal_prior
from lit_models import GLO, Autoencoder, GenerativeModule
from lit_models.common import code_table
from lit_models.common.capabilities import Encodes, HasLatentBlocks, Reconstructs, Samples
from lit_models.common.code_table import CodeTable
from lit_models.common.generators import DCGANGenerator, LinearGenerator, MLPGenerator
from tests.helpers import saved
from tests.lit_models.adversaries import DDP, adam, assert_close, equal, fitted, half, in_two_processes, weights_of
from tests.test_models import MODELS, trained

SIDE, DIM, RATE = 8, 3, 0.5


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=RATE)


def glo(**options: Any) -> Any:
    torch.manual_seed(0)
    small = {"latent_dim": DIM, "generator": LinearGenerator(), "loss": "mse", "image_shape": (1, SIDE, SIDE)}
    return GLO(**{**small, "optimizer": sgd, **options})


def loader(batch_size: int, rank: int = 0, world_size: int = 1, n: int = 24, return_index: bool = True) -> BatchLoader:
    """Images of noise, of which every second one is left out."""
    pixels = torch.randint(
        0, 256, (2 * n, 1, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return BatchLoader(
        pixels,
        torch.arange(2 * n),
        torch.arange(1, 2 * n, 2),
        batch_size=batch_size,
        shuffle=True,
        seed=3,
        rank=rank,
        world_size=world_size,
        return_index=return_index,
    )


def with_codes(model: Any, n: int = 24) -> Any:
    """The model with codes that do not hang on how it is trained."""
    torch.manual_seed(5)
    model.table.initialize(n)
    return model


# The numbers of images.


def test_indices_are_those_of_the_images_in_every_epoch_and_process():
    for epoch in (0, 1):
        seen: list[Tensor] = []
        for rank in range(2):
            batches = loader(5, rank, 2)
            batches.set_epoch(epoch)
            for images, labels, numbers in batches:
                assert torch.equal(labels, 2 * numbers + 1)
                assert torch.equal(images, batches.images[labels].float() / 255)
                seen.append(numbers)
        assert torch.equal(torch.cat(seen).sort().values, torch.arange(24))


def test_training_batches_hold_indices_only_for_a_model_that_needs_them(tmp_path: Path):
    widths: dict[str, set[int]] = {"train": set(), "val": set()}
    note = LambdaCallback(
        on_train_batch_end=lambda trainer, model, outputs, batch, k: widths["train"].add(len(batch)),
        on_validation_batch_end=lambda trainer, model, outputs, batch, k: widths["val"].add(len(batch)),
    )
    data = DigitsDataModule(batch_size=40, val_size=200, labels_per_class=10)
    for model, width in ((GLO(4, DCGANGenerator(2)), 3), (Autoencoder(2, 1, 2, hidden_dim=4), 2)):
        widths["train"].clear()
        fitted(model, data, note, limit_val_batches=1, num_sanity_val_steps=0)  # type: ignore[arg-type]
        assert widths == {"train": {width}, "val": {2}}
        if isinstance(model, GLO):
            assert model.table.codes.shape == (100, 4)


# A step.


def by_hand(model: Any, batches: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, weight, bias after a step on each batch: dl/dz = W^T [2 (y - x) y (1 - y)] / P, y = sigmoid(W z + b)."""
    linear = model.generator[0]
    codes, weight, bias = (x.detach().numpy().copy() for x in (model.table.codes, linear.weight, linear.bias))
    for images, _, numbers in batches:
        pixels, places = images.flatten(1).numpy(), numbers.numpy()
        z = codes[places]
        made = 1 / (1 + np.exp(-(z @ weight.T + bias)))
        slope = 2 * (made - pixels) * made * (1 - made) / pixels.shape[1]
        moved = z - model.code_lr * slope @ weight
        if model.table.projection == "ball":
            moved /= np.maximum(1, np.linalg.norm(moved, axis=1, keepdims=True))
        codes[places] = moved
        weight, bias = weight - RATE * slope.T @ z / len(z), bias - RATE * slope.mean(axis=0)
    return codes, weight, bias


@pytest.mark.parametrize("projection", ["ball", "none"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_are_those_by_hand_and_other_rows_stay(projection: str, accumulate: int):
    """Sixteen of 24 images; gradients added up over two batches are those of one of twice the size."""
    model = with_codes(glo(projection=projection, code_lr=90.0)).double()
    before = model.table.codes.clone()
    whole = [(images.double(), labels, numbers) for images, labels, numbers in loader(8)][:2]
    expected = by_hand(model, whole)
    options = {"accumulate_grad_batches": accumulate, "limit_train_batches": 2 * accumulate}
    fitted(model, loader(8 // accumulate), precision="64-true", **options)
    linear = model.generator[0]
    for found, by_numpy in zip((model.table.codes, linear.weight, linear.bias), expected, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), by_numpy, rtol=1e-7, atol=1e-9)  # pixels come as float32
    moved = torch.cat([numbers for _, _, numbers in whole])
    rest = torch.tensor(sorted(set(range(24)) - set(moved.tolist())))
    assert torch.equal(model.table.codes[rest], before[rest])
    assert ((model.table.codes - before)[moved].norm(dim=1) > 0.01).all()
    norms = model.table.codes[moved].norm(dim=1)
    inside, on = (norms < 1 - 1e-6).sum(), ((norms - 1).abs() < 1e-12).sum()
    assert inside >= 3 and (on >= 3 and inside + on == 16) == (projection == "ball")


class Sizes(TorchDispatchMode):
    """The most numbers in what an operation makes, apart from the tables that it is told of."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        table = self.model.table.codes.untyped_storage().data_ptr()
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() != table:
                self.largest = max(self.largest, tensor.untyped_storage().nbytes() // tensor.element_size())
        return made


class Watching(Callback):
    def __init__(self, model: Any) -> None:
        self.sizes = Sizes(model)

    def on_train_batch_start(self, *_: Any) -> None:
        self.sizes.__enter__()

    def on_train_batch_end(self, *_: Any) -> None:
        self.sizes.__exit__(None, None, None)


def test_a_step_allocates_nothing_of_the_size_of_the_table():
    """No gradient of it, no copy, no optimizer's state; of 5,000 rows of which a batch has 4."""
    largest = []
    for n in (8, 5000):
        model = glo(optimizer=adam)
        watching = Watching(model)
        trainer = fitted(model, loader(4, n=n), watching, limit_train_batches=2)
        largest.append(watching.sizes.largest)
        assert model.table.codes.shape == (n, DIM)
        state = [x for states in trainer.optimizers[0].state.values() for x in states.values()]
        assert {len(x) for x in state if x.ndim} == {SIDE**2}  # of the generator alone
    assert model.table.codes.grad is None and not model.table.codes.requires_grad
    assert largest[0] == largest[1] < 5000 * DIM / 10


# Half precision.


class Overflowing:
    """Far too large a loss for one image of one batch."""

    def __init__(self, call: int) -> None:
        self.call = call

    def __call__(self, images: Tensor, references: Tensor) -> Tensor:
        self.call -= 1
        factor = torch.ones(len(images))
        factor[0] = 1e30 if self.call == 0 else 1.0
        return (images - references).square().flatten(1).mean(dim=1) * factor


def test_the_update_of_codes_is_independent_of_the_fp16_scale():
    """The scale doubles after each step: 256, 512, 1024."""
    whole, scaled = (with_codes(glo(code_lr=10.0)) for _ in range(2))
    fitted(whole, loader(8))
    fitted(scaled, loader(8), plugins=[half(2.0**8, growth_interval=1)])
    step = (whole.table.codes - with_codes(glo()).table.codes).norm(dim=1)
    assert (step > 0.02).all()
    assert ((scaled.table.codes - whole.table.codes).norm(dim=1) < 0.05 * step).all()


def test_an_overflow_updates_neither_that_code_nor_the_generator():
    model: Any = with_codes(glo(code_lr=3.0))
    model.loss = Overflowing(2)
    seen = [(weights_of(model), torch.arange(0))]

    def note(trainer: Any, model: Any, outputs: Any, batch: Any, k: int) -> None:
        seen.append((weights_of(model), batch[2]))

    fitted(model, loader(8), LambdaCallback(on_train_batch_end=note), plugins=[half(2.0**8)])
    (_, _), (first, _), (second, numbers), (third, _) = seen
    assert torch.equal(first["generator.0.weight"], second["generator.0.weight"])
    assert not torch.equal(second["generator.0.weight"], third["generator.0.weight"])
    stayed = (first["table.codes"] == second["table.codes"]).all(dim=1)
    assert stayed[numbers].tolist() == [True] + [False] * 7
    assert all(value.isfinite().all() for value in model.state_dict().values())


# Two processes.


def _two(rank: int, folder: Path) -> dict[str, Any]:
    joined = with_codes(glo(code_lr=30.0, optimizer=adam, generator=MLPGenerator((8,))))
    fitted(joined, loader(4, rank, 2), precision="64-true", **DDP)
    uneven = glo(code_lr=30.0, generator=DCGANGenerator(2, 1))
    draws = LambdaCallback(on_train_start=lambda *_: torch.manual_seed(rank))  # each would draw other codes
    fitted(uneven, loader(4, rank, 2, n=21), draws, **DDP)  # at last two images in one process and three in the other
    return {"joined": weights_of(joined), "uneven": uneven.table.codes}


def test_two_processes_learn_the_codes_that_one_does(tmp_path: Path):
    one = with_codes(glo(code_lr=30.0, optimizer=adam, generator=MLPGenerator((8,))))
    fitted(one, loader(8), precision="64-true")
    first, second = in_two_processes(_two, tmp_path)
    for found in (first, second):
        assert_close(found["joined"], weights_of(one))
    assert torch.equal(first["uneven"], second["uneven"]) and first["uneven"].shape == (21, DIM)


# Checkpoints.


def test_a_resumed_run_is_exact(tmp_path: Path):
    found: dict[str, Any] = {}
    for name, epochs, checkpoint in (("whole", 3, None), ("first", 1, None), ("second", 3, tmp_path / "first")):
        model = glo(generator=DCGANGenerator(2, 1), optimizer=adam, loss="laplacian", code_lr=1.0)
        path = None if checkpoint is None else checkpoint / "checkpoints" / "last.ckpt"
        keep = [ExactResume(), LastCheckpoint()]
        trainer = fitted(model, loader(8), *keep, ckpt_path=path, max_epochs=epochs, default_root_dir=tmp_path / name)
        found[name] = {"weights": weights_of(model), "states": trainer.optimizers[0].state_dict()}
    assert equal(found["second"], found["whole"]) and not equal(found["first"], found["whole"])
    stored = torch.load(tmp_path / "first" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert equal(stored, found["first"]["weights"]) and stored["table.codes"].shape == (24, DIM)
    with pytest.raises(MisconfigurationException, match="training images is 24 in the checkpoint and 16 in the data"):
        other = glo(generator=DCGANGenerator(2, 1), optimizer=adam)
        fitted(other, loader(8, n=16), ckpt_path=tmp_path / "first" / "checkpoints" / "last.ckpt", max_epochs=2)


def test_a_table_takes_as_many_rows_as_there_are(tmp_path: Path):
    model = with_codes(glo(latent_distribution="initial", projection="none"), 30)
    model.table.fit_gaussian()
    loaded: Any = GenerativeModule.load(saved(model, tmp_path / "glo.ckpt"))
    assert equal(weights_of(loaded), weights_of(model)) and loaded.table.projection == "none"
    smaller = with_codes(glo(), 7)
    smaller.load_state_dict(model.state_dict())
    assert torch.equal(smaller.table.codes, model.table.codes)


# Distributions of codes.


@pytest.mark.parametrize("chunk", [2**16, 700])
def test_the_gaussian_has_the_codes_mean_and_covariance(chunk: int, monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(0)
    codes = random.normal(size=(3000, 4)) @ random.normal(size=(4, 4)) + [5, 0, -2, 1e3]
    table = CodeTable(4, "none")
    table.codes = torch.from_numpy(codes).float()
    monkeypatch.setattr(code_table, "CHUNK", chunk)
    table.fit_gaussian()
    codes = table.codes.double().numpy()
    np.testing.assert_allclose(table.mean.numpy(), codes.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(
        (table.covariance_sqrt @ table.covariance_sqrt).numpy(), np.cov(codes.T), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(table.covariance_sqrt, table.covariance_sqrt.T)


def test_draws_have_that_mean_and_covariance():
    """Of 100,000 draws; each number within five of its standard errors, a false alarm in about 10^5 of seeds."""
    torch.manual_seed(0)
    table = CodeTable(3, "none")
    mixing = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -0.7], [0.3, 0.0, 0.2]])
    table.codes = torch.randn(50, 3) @ mixing + torch.tensor([1.0, -2.0, 0.0])
    table.fit_gaussian()
    drawn, expected = table.sample_gaussian(100_000).double(), torch.from_numpy(np.cov(table.codes.numpy().T))
    error = 5 * (expected.diagonal() / len(drawn)).sqrt()
    assert ((drawn.mean(dim=0) - table.mean).abs() < error).all()
    spread = (expected.diagonal()[:, None] * expected.diagonal() + expected.square()) / len(drawn)
    assert ((drawn.T.cov() - expected).abs() < 5 * spread.sqrt()).all()


def test_codes_on_a_line_have_a_gaussian_too():
    table = CodeTable(5, "none")
    table.codes = torch.arange(3.0)[:, None] * torch.ones(5)
    table.fit_gaussian()
    drawn = table.sample_gaussian(100)
    torch.testing.assert_close(drawn, drawn[:, :1].expand(-1, 5), rtol=0, atol=1e-4)


def test_projection_is_on_the_ball_and_leaves_what_is_inside():
    table = CodeTable(3, "ball")
    inside, outside = torch.tensor([0.1, -0.5, 0.3]), torch.tensor([0.0, 3.0, -4.0])
    expected = torch.stack([inside, outside / 5])
    torch.testing.assert_close(table.project(torch.stack([inside, outside])), expected)
    assert torch.equal(CodeTable(3, "none").project(10 * inside[None]), 10 * inside[None])
    table.initialize(1000)
    table.mean.fill_(0.4)
    for drawn in (table.codes, table.sample_initial(1000), table.sample_gaussian(1000)):
        assert drawn.norm(dim=1).max() <= 1 + 1e-6 and drawn.std() > 0.2


def test_sampling_uses_the_latent_distribution(tmp_path: Path):
    for distribution, projection, normal in (
        ("gaussian", "none", False),
        ("initial", "ball", False),
        ("initial", "none", True),
    ):
        model = glo(latent_distribution=distribution, projection=projection)
        assert isinstance(model, Samples) and isinstance(model, Encodes) and isinstance(model, HasLatentBlocks)
        assert isinstance(model, Reconstructs) and has_normal_prior(model) == normal
        model.table.mean.fill_(9.0)
        model.table.covariance_sqrt.zero_()
        assert (model.sample_prior(50) == 9).all() == (distribution == "gaussian")
        torch.manual_seed(1)
        draws = model.table.sample_initial(50)
        torch.manual_seed(1)
        assert torch.equal(model.sample_prior(50), draws) == (distribution == "initial")
    with pytest.raises(ValueError, match="without labels"):
        model.sample(2, 3)


def test_the_gaussian_is_fitted_before_it_is_used():
    """At the start of validation, and at the end of an epoch without one."""
    apart = []
    note = LambdaCallback(
        on_validation_end=lambda trainer, model: apart.append((model.table.mean - model.table.codes.mean(dim=0)).norm())
    )
    model = glo(code_lr=30.0)
    fitted(model, loader(8), max_epochs=2, limit_val_batches=0)
    torch.testing.assert_close(model.table.mean, model.table.codes.mean(dim=0))
    data = DigitsDataModule(batch_size=100, val_size=200, labels_per_class=20)
    model = glo(image_shape=(1, 28, 28), code_lr=30.0)
    fitted(model, data, note, max_epochs=2, num_sanity_val_steps=0)  # type: ignore[arg-type]
    assert len(apart) == 2 and max(apart) < 1e-6


# Codes of other images.


def searcher(**options: Any) -> Any:
    return glo(generator=MLPGenerator((32,)), encode_steps=150, encode_lr=0.05, **options).eval()


@pytest.mark.parametrize("loss", ["mse", "laplacian"])
def test_the_code_of_a_generated_image_is_found(loss: str):
    model = searcher(loss=loss)
    codes = model.table.sample_initial(20) * torch.linspace(0.2, 1, 20)[:, None]
    with torch.no_grad():
        found = model.encode(model.decode(codes))
        far = (codes - model.table.mean).norm(dim=1)
        assert ((found - codes).norm(dim=1) < 0.03 * far).all()
        for half in (torch.float16, torch.bfloat16):
            with torch.autocast("cpu", half):
                images = model.decode(codes).float()
                mixed = model.encode(images)
            assert torch.equal(mixed, model.encode(images))


class Hollow(nn.Module):
    """A generator that shows nothing, and has no slope, of codes in the middle of the ball."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, codes: Tensor) -> Tensor:
        return self.generator(codes) * (2 * codes.norm(dim=1) - 1).relu().view(-1, 1, 1, 1)


def test_the_optimization_of_a_code_does_not_start_where_the_gradient_vanishes():
    model = searcher(loss="mse")
    model.generator = Hollow(model.generator)
    with torch.no_grad():
        assert not model.decode(model.table.mean[None]).any()
        images = model.decode(model.table.sample_initial(20))
        assert F.mse_loss(model.reconstruct(images), images) < 1e-3 * images.square().mean()


def test_a_code_depends_on_its_image_only_in_any_mode():
    torch.manual_seed(0)
    model = glo(generator=DCGANGenerator(4, 1), encode_steps=5).double()
    with torch.no_grad():
        for _ in range(20):
            model.generator(torch.randn(16, DIM, dtype=torch.float64))  # gives batch norms their statistics
    images = torch.rand(6, 1, SIDE, SIDE, dtype=torch.float64)
    before = weights_of(model)
    expected = model.eval().encode(images)
    one_by_one = torch.cat([model.encode(image[None]) for image in images])
    torch.testing.assert_close(one_by_one, expected, rtol=0, atol=1e-9)
    assert not torch.allclose(expected[:1], expected[1:2])
    for training in (False, True):
        model.train(training)
        for context in (torch.no_grad(), torch.inference_mode(), torch.enable_grad()):
            with context:
                found = model.encode(images.clone())
            assert torch.equal(found, expected) and not found.requires_grad and found.grad_fn is None
        assert all(module.training == training for module in model.generator.modules())
    assert equal(weights_of(model), before)
    assert all(p.requires_grad and p.grad is None for p in model.generator.parameters())


def test_a_test_logs_the_error_of_held_out_images():
    model = searcher()
    trainer = fitted(model, loader(8))
    images = torch.cat([batch[0] for batch in loader(8, return_index=False)])
    [found] = trainer.test(model, loader(8, return_index=False), verbose=False)
    with torch.no_grad():
        assert found == {"test/mse": pytest.approx(F.mse_loss(model.reconstruct(images), images).item(), rel=1e-4)}
    assert found["test/mse"] < F.mse_loss(model.decode(model.table.mean[None]).expand_as(images), images)


# What is refused.


def test_invalid_options_raise_an_error_of_one_line(tmp_path: Path):
    for options in ({"latent_dim": 0}, {"encode_steps": 0}, {"code_lr": 0.0}, {"encode_lr": -1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} (is )?{next(iter(options.values()))}"):
            glo(**options)
    with pytest.raises(MisconfigurationException, match="do not change in half precision"):
        trained(MODELS["glo"], GLO(4, DCGANGenerator(2)), tmp_path, precision="bf16-true")
    with pytest.raises(MisconfigurationException, match="return_index=True"):
        fitted(glo(), loader(8, return_index=False))
