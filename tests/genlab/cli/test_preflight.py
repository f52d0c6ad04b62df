"""Settings that the trainer, the optimizer or the model cannot use are one line, and nothing is left behind."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import DigitsDataModule
from genlab.cli.preflight import check_seed, check_training, compile_refusal, memory_refusal, trial_trainer
from genlab.runs.errors import UsageError
from genlab.runs.folder import read_summary
from lit_models import GAN, GLO, Autoencoder, GenerativeModule
from lit_models.common.adversarial import AdversarialRecipe
from tests.helpers import fit

DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(Trainer).parameters.items()}
WRONG = {
    "accelerator": ["nonsense", "mps", "tpu"],
    "strategy": ["nonsense", "fsdp", "single_tpu"],
    "devices": [0, -3, "nonsense", 100, []],
    "num_nodes": [0, -1, 2],
    "precision": ["transformer-engine", "17"],
    "max_epochs": [0, -5],
    "min_epochs": [-1],
    "max_steps": [0, -5],
    "min_steps": [-1],
    "max_time": ["nonsense", "00:00:00:00", {"minutes": 0}],
    "fast_dev_run": [-1],
    "limit_train_batches": [0, 0.0, -1, 1.5, float("nan")],
    "limit_val_batches": [-1, 1.5, float("inf")],
    "limit_test_batches": [-1, 1.5],
    "limit_predict_batches": [-1, 1.5],
    "overfit_batches": [-1, 1.5],
    "val_check_interval": [0, -1, 2.5, "nonsense"],
    "check_val_every_n_epoch": [0, -1],
    "num_sanity_val_steps": [-5],
    "log_every_n_steps": [-1],
    "accumulate_grad_batches": [0, -1],
    "gradient_clip_val": [-1, float("nan"), float("inf")],
    "gradient_clip_algorithm": ["nonsense"],
    "profiler": ["nonsense", "xla"],
    "barebones": [True],
    "reload_dataloaders_every_n_epochs": [-1],
    "default_root_dir": ["elsewhere"],
}
"""Values that make no sense, of each option of the trainer."""
HARMLESS = {
    *("logger", "callbacks", "plugins", "deterministic"),  # the parser checks them
    *("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "enable_autolog_hparams"),
    *("benchmark", "inference_mode", "use_distributed_sampler", "detect_anomaly", "sync_batchnorm"),
    "model_registry",
}
"""Options that are true or false, or that have no wrong value here."""
CASES = [(name, value) for name, values in WRONG.items() for value in values]


def trial(**settings: object) -> Trainer:
    return trial_trainer({**DEFAULTS, "accelerator": "cpu", **settings})


def test_every_option_of_the_trainer_is_tried():
    assert WRONG.keys() | HARMLESS == DEFAULTS.keys()


@pytest.mark.parametrize(("name", "value"), CASES, ids=str)
def test_a_setting_that_cannot_be_used_is_refused(name: str, value: object, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"--trainer.{name} ") as error:
        trial(**{name: value})
    said = str(error.value)
    assert "\n" not in said and "`" not in said and "<class" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "settings",
    [
        {"max_epochs": -1, "max_steps": -1, "num_sanity_val_steps": -1, "log_every_n_steps": 0},
        {"limit_val_batches": 0, "limit_test_batches": 0, "gradient_clip_val": 0, "max_time": "00:00:00:01"},
        {"val_check_interval": 0.5, "devices": 2, "strategy": "ddp", "precision": "bf16-mixed", "profiler": "simple"},
        {"val_check_interval": "00:00:01:00", "check_val_every_n_epoch": None, "limit_train_batches": 1.0},
    ],
)
def test_a_setting_that_can_be_used_is_not(settings: dict[str, object]):
    trial(**settings)


def test_settings_that_contradict_each_other_are_refused():
    for one, other in (("min_epochs", "max_epochs"), ("min_steps", "max_steps")):
        with pytest.raises(UsageError, match=f"--trainer.{one} is above --trainer.{other}"):
            trial(**{one: 5, other: 4})


@pytest.mark.parametrize("seed", [-1, 2**32, 2**64])
def test_a_seed_that_no_generator_has_is_refused(seed: int):
    with pytest.raises(UsageError, match=f"--seed_everything is {seed}; give a whole number from 0 to 4294967295"):
        check_seed(seed)
    for good in (0, 2**32 - 1, True, False, None):
        check_seed(good)


@pytest.fixture(scope="module")
def digits() -> DigitsDataModule:
    data = DigitsDataModule(batch_size=200)
    data.prepare_data()
    data.setup("fit")
    return data


def small(optimizer: object = torch.optim.Adam) -> Autoencoder:
    return Autoencoder(
        latent_dim=2, depth=2, channel_factor=2, hidden_dim=4, image_shape=(1, 28, 28), optimizer=optimizer
    )


def small_gan(optimizer: object = torch.optim.Adam, pack: int = 1, **recipe: float) -> GAN:
    return GAN(
        latent_dim=2, image_shape=(1, 28, 28), optimizer=optimizer, pack=pack, recipe=AdversarialRecipe(**recipe)
    )


class NeedsClosure(torch.optim.SGD):
    """Takes no step without a function that computes the loss."""

    def step(self, closure):
        return closure()


OPTIMIZERS = {
    "rate": (lambda parameters: torch.optim.Adam(parameters, lr=-1), "Invalid learning rate: -1"),
    "infinite": (lambda parameters: torch.optim.Adam(parameters, lr=float("inf")), "Adam .*: lr is inf"),
    "betas": (lambda parameters: torch.optim.Adam(parameters, betas=(2, 2)), "Invalid beta parameter"),
    "decay": (lambda parameters: torch.optim.Adam(parameters, weight_decay=-1), "Invalid weight_decay value"),
    "nesterov": (lambda parameters: torch.optim.SGD(parameters, nesterov=True), "Nesterov momentum requires"),
    "muon": (torch.optim.Muon, "Muon only supports 2D parameters"),
    "sparse": (torch.optim.SparseAdam, "SparseAdam .*does not support dense gradients"),
    "capturable": (lambda parameters: torch.optim.Adam(parameters, capturable=True), "Adam .*capturable=True"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("make", [small, small_gan])
def test_an_optimizer_that_cannot_train_the_model_is_refused(name: str, make, digits: DigitsDataModule):
    optimizer, complaint = OPTIMIZERS[name]
    with pytest.raises(
        UsageError, match=f"--model.optimizer.* cannot train {make().__class__.__name__}: .*{complaint}|{complaint}"
    ):
        check_training(trial(), make(optimizer), digits)


@pytest.mark.parametrize("optimizer", [torch.optim.LBFGS, NeedsClosure])
def test_a_closure_is_for_models_of_one_optimizer(optimizer, digits: DigitsDataModule):
    check_training(trial(), small(optimizer), digits)
    with pytest.raises(UsageError, match=f"{optimizer.__name__} cannot train GAN: it computes the loss several times"):
        check_training(trial(), small_gan(optimizer), digits)


@pytest.mark.parametrize(
    ("model", "settings", "complaint"),
    [
        (small_gan, {"gradient_clip_val": 1.0}, "give --model.recipe.gradient_clip_val 1.0"),
        (small_gan, {"accumulate_grad_batches": 2}, "give --model.recipe.accumulate_grad_batches 2"),
        (small_gan, {"gradient_clip_algorithm": "value"}, "GAN, which steps its optimizers itself; leave it out"),
        (lambda: small_gan(ema_decay=0.9), {"precision": "bf16-true"}, "an EMA of weights does not change in half"),
        (lambda: GLO(2, image_shape=(1, 28, 28)), {"precision": "16-true"}, "codes do not change in half precision"),
        (
            lambda: small_gan(accumulate_grad_batches=7),
            {},
            "a batch of size 200 cannot be split evenly: number of parts 7",
        ),
        (lambda: small_gan(pack=300), {}, "size of a part at least 300"),
        (small, {"val_check_interval": 7}, "val_check_interval is 7, and an epoch has 6 batches; give at most 6"),
        (small, {"limit_train_batches": 2, "val_check_interval": 3}, "an epoch has 2 batches"),
        (small, {"limit_train_batches": 0.1}, "limit_train_batches is 0.1, which is less than one of 6 batches"),
        (small, {"limit_test_batches": 0.1}, "limit_test_batches is 0.1, which is less than one of 1 batches"),
    ],
)
def test_a_setting_that_does_not_fit_model_or_data_is_refused(
    model, settings: dict[str, object], complaint: str, digits: DigitsDataModule
):
    with pytest.raises((UsageError, MisconfigurationException), match=complaint):
        check_training(trial(**settings), model(), digits)


@pytest.mark.parametrize(
    ("callback", "complaint"),
    [
        (
            ["EarlyStopping", "monitor=val/nothing"],
            "EarlyStopping cannot be used: .* val/nothing which is not available",
        ),
        (["LearningRateFinder"], "LearningRateFinder cannot be used: "),
        (["Timer", "duration=nonsense"], "^`Timer.* is not a valid duration.* DD:HH:MM:SS.$"),
    ],
)
def test_a_callback_that_cannot_be_used_is_refused_in_one_line(callback: list[str], complaint: str, tmp_path: Path):
    name, *options = callback
    given = [f"--trainer.callbacks={name}", *(f"--trainer.callbacks.{option}" for option in options)]
    with pytest.raises(UsageError, match=complaint) as error:
        fit(tmp_path, "--trainer.max_epochs=1", "--trainer.limit_train_batches=1", *given)
    assert "\n" not in str(error.value)


def test_the_checks_leave_model_data_and_random_numbers_as_they_were(digits: DigitsDataModule):
    model: GenerativeModule = small_gan(ema_decay=0.9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    check_training(trial(val_check_interval=3, check_val_every_n_epoch=None), model, digits)
    assert torch.equal(random, torch.get_rng_state()) and model._trainer is None and digits.trainer is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_finished_run_is_left_alone(tmp_path: Path):
    finished = fit(tmp_path, "--run.name=a", "--trainer.max_epochs=1").folder
    kept = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    for wrong in ("model.optimizer.lr=-1", "trainer.accumulate_grad_batches=0", "trainer.strategy=nonsense"):
        for how in (["--run.overwrite=true"], ["--ckpt_path=last", "--trainer.max_epochs=3"]):
            with pytest.raises(UsageError):
                fit(tmp_path, "--run.name=a", f"--{wrong}", *how)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == kept
    assert (read_summary(finished) or {})["state"] == "finished"


@pytest.mark.parametrize(
    ("refusal", "error", "said"),
    [
        (
            memory_refusal,
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            "(CUDA out of memory)",
        ),
        (memory_refusal, RuntimeError("CUDA error: out of memory\nCUDA kernel errors"), "(CUDA error: out of memory)"),
        (
            compile_refusal,
            RuntimeError("aot_autograd does not currently support double backward"),
            "--run.compile none",
        ),
    ],
)
def test_errors_of_torch_that_options_cause_are_one_line(refusal: Callable[..., Any], error: Exception, said: str):
    data = [DigitsDataModule()] if refusal is memory_refusal else []
    assert said in str(refusal(error, *data)) and refusal(RuntimeError("another one"), *data) is None
