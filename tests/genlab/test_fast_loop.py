"""The fast loop trains as Lightning's own does, to the last bit, and calls the same hooks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

import train
from genlab.fast_loop import FastEpochLoop
from tests.helpers import same, weights

GENERATOR = ["--model.latent_dim=5", "--model.generator=DCGANGenerator", "--model.generator.channels=4"]
GAN = [
    "--model=GAN",
    *GENERATOR,
    "--model.discriminator=DCGANDiscriminator",
    "--model.discriminator.channels=4",
    "--model.recipe.ema_decay=0.9",
    "--model.recipe.lr_decay_start=0.5",
]
SMALL = ["--model=Autoencoder", "--model.latent_dim=3", "--model.depth=2", "--model.channel_factor=4"]
COMMON = [
    "--data=DigitsDataModule",
    "--data.batch_size=128",
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=2",
    "--trainer.log_every_n_steps=2",
    "--trainer.callbacks+=tests.genlab.test_fast_loop.Watch",
    "--run.pictures=false",
]
CASES = {
    "validation_within_an_epoch": (True, ["--trainer.val_check_interval=4", "--trainer.check_val_every_n_epoch=1"]),
    "clipped_bf16": (True, ["--trainer.gradient_clip_val=0.01", "--trainer.precision=bf16-mixed"]),
    "one_cycle": (True, ["--model=Classifier", "--model.channels=[4,8]", "--trainer.log_every_n_steps=50"]),
    "hook_of_the_module": (True, ["--model=VAE", "--model.latent_dim=3", "--model.kl_warmup_steps=9"]),
    "max_steps": (True, ["--trainer.max_epochs=-1", "--trainer.max_steps=8"]),
    "steps_with_hooks": (False, ["--model=GLO", *GENERATOR, "--data.val_size=0"]),
    "accumulated": (False, ["--trainer.accumulate_grad_batches=2"]),
    "manual": (False, [*GAN, "--data.val_size=0"]),
}


class Watch(Callback):
    """Notes when it is called, and logs in some of the batches."""

    calls: list[tuple[Any, ...]]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        type(self).calls = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.calls.append(("start", batch_idx, trainer.global_step, batch[0].mean().item()))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.calls.append(("end", batch_idx, trainer.global_step, outputs.get("loss"), dict(trainer.callback_metrics)))
        if batch_idx % 3 == 1:
            pl_module.log("train/watched", float(batch_idx), on_step=True, on_epoch=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.calls.append(("epoch", trainer.current_epoch, dict(trainer.callback_metrics)))


@pytest.mark.parametrize("case", CASES)
def test_it_trains_as_lightnings_loop(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps_itself, options = CASES[case]
    own_step, own_steps = FastEpochLoop._step, []
    monkeypatch.setattr(FastEpochLoop, "_step", lambda *args: (own_steps.append(1), own_step(*args))[1])
    model = [] if any(option.startswith("--model=") for option in options) else SMALL
    ended = []
    for fast in ("true", "false"):
        own = [f"--run.fast_loop={fast}", f"--run.name={fast}", f"--run.root={tmp_path}"]
        run = train.main(["fit", *model, *COMMON, *options, *own])
        ended.append((run, Watch.calls, len(own_steps)))
    (fast_run, fast_calls, taken), (run, calls, taken_by_both) = ended
    assert (taken > 0) == steps_itself and taken_by_both == taken
    assert fast_calls == calls
    assert same(weights(fast_run.folder), weights(run.folder))
    assert loops(fast_run.folder) == loops(run.folder)
    assert fast_run.metrics == run.metrics
    assert (fast_run.folder / "metrics.csv").read_text() == (run.folder / "metrics.csv").read_text()


def loops(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["loops"]
