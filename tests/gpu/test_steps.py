"""Steps of every model on a GPU, in each precision."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import MixedPrecision

from genlab.fast_loop import use_fast_loop
from lit_models.common.adversarial import AdversarialRecipe
from lit_models.common.image_optimization import ImageOptimization
from tests.gpu import ACCELERATOR, DEVICE, ON_CUDA
from tests.lit_models.adversaries import Overflowing, StateRecorder, adam, fitted
from tests.lit_models.common.test_adversarial import loader, model_of
from tests.test_models import MODELS, check_finite, data_of, seed_everything

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
STEPS = 4


def options(precision: str, scale: float = 2.0**16) -> dict[str, Any]:
    """Options of a trainer; with the real gradient scaler, also on the CPU, where Lightning takes none."""
    if precision != "16-mixed":
        return {"precision": precision}
    return {"plugins": [MixedPrecision("16-mixed", DEVICE, torch.amp.GradScaler(DEVICE, scale))]}


def train_steps(name: str, encoder: Path, folder: Path, *callbacks: Callback, **settings: Any) -> tuple[Trainer, Any]:
    """A few steps of a model of the table; its images are on the device."""
    row = MODELS[name]
    model = row.build(encoder)
    seed_everything(0, verbose=False)
    trainer = Trainer(
        accelerator=ACCELERATOR,
        devices=1,
        max_epochs=1,
        limit_train_batches=STEPS,
        limit_val_batches=0,
        log_every_n_steps=STEPS // 2,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **settings,
    )
    use_fast_loop(trainer)
    trainer.fit(model, datamodule=data_of(row))
    return trainer, model


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", MODELS)
def test_steps_are_finite(name: str, precision: str, encoder_checkpoint: Path, tmp_path: Path, peaks: dict[str, float]):
    if ON_CUDA:
        torch.cuda.reset_peak_memory_stats()
    kind = MODELS[name].make
    if precision == "16-mixed" and isinstance(kind, type) and issubclass(kind, ImageOptimization):
        pytest.skip("L-BFGS does not work with a gradient scaler, and is refused")
    trainer, model = train_steps(name, encoder_checkpoint, tmp_path, **options(precision))
    check_finite(trainer, model)
    if ON_CUDA:
        peaks[f"{name} {precision}"] = torch.cuda.max_memory_allocated() / 2**20


class NoWaiting(Callback):
    """Makes CUDA raise an error wherever the CPU waits for it, from the start of the third step to the end of the last.

    Lightning waits when it logs a value for the first time, and after each step that logs for the progress bar: those
    are the second step and the time after the last one.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == STEPS // 2:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if trainer.fit_loop.epoch_loop.batch_idx == STEPS - 1:
            torch.cuda.set_sync_debug_mode("default")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
@pytest.mark.parametrize("name", MODELS)
def test_no_step_waits_for_the_device(name: str, encoder_checkpoint: Path, tmp_path: Path):
    """From the batch that is cut on the device to the optimizer's step. Models of one step an epoch are not checked."""
    train_steps(name, encoder_checkpoint, tmp_path, NoWaiting(), precision="bf16-mixed")


@pytest.mark.parametrize("network", ["discriminator", "generator"])
def test_an_overflow_skips_one_step_of_one_network(network: str):
    model = model_of(objective=Overflowing(network, 2), recipe=AdversarialRecipe(gradient_clip_val=1.0), optimizer=adam)
    recorder = StateRecorder()
    fitted(model, loader(16), recorder, accelerator=ACCELERATOR, **options("16-mixed", 2.0**8))
    other = "generator" if network == "discriminator" else "discriminator"
    first, second, third = (state.weights for state in recorder.states[:3])

    def changed(before: Any, after: Any, name: str) -> bool:
        return any(not torch.equal(before[name][key], after[name][key]) for key in before[name])

    assert [state.scale for state in recorder.states] == [256, 128, 128, 128]
    assert not changed(first, second, network) and changed(second, third, network)
    assert changed(first, second, other)
    assert all(values.isfinite().all() for values in model.state_dict().values())
