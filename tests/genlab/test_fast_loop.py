"""The fast loop trains as Lightning's own does, to the last bit, and calls the same hooks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

import train
from genlab.fast_loop import FastEpochLoop, use_fast_loop
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
    "accumulated": (False, ["--trainer.accumulate_grad_batches=2"]),
    "manual": (False, [*GAN, "--data.val_size=0"]),
}


class Watch(Callback):
    """Notes when it is called, and logs in some of the batches."""

    calls: list[tuple[Any, ...]]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        type(self).calls = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.calls.append(("validates", trainer.fit_loop.epoch_loop._should_check_val_epoch()))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.calls.append(("start", batch_idx, trainer.global_step, batch[0].mean().item()))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        made = None if outputs is None else {name: float(value) for name, value in outputs.items()}
        self.calls.append(("end", batch_idx, trainer.global_step, made, dict(trainer.callback_metrics)))
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


class Toy(LightningModule):
    """Lines through a few points."""

    optimizer: Callable[[Any], Any] = staticmethod(lambda parameters: torch.optim.SGD(parameters, 0.05))

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Linear(3, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        loss = (self.line(batch) - 1).square().mean()
        if batch_idx % 2:
            self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.line(batch).square().mean())

    def on_train_epoch_end(self) -> None:
        self.log("train/end", 0.1 + self.current_epoch / 7)

    def configure_optimizers(self) -> Any:
        return self.optimizer(self.parameters())


class AtTimesNone(Toy):
    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx in (0, 2) else {"more": 1, "loss": loss}


class WithoutLoss(Toy):
    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx) if batch_idx < 2 else {"loss": None}


class Number(Toy):
    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx) if batch_idx < 2 else 1.0


class OneArgument(Toy):
    def training_step(self, batch: Tensor) -> Any:
        return super().training_step(batch, 1)


class ChangesItsLoss(Toy):
    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        self.loss = super().training_step(batch, batch_idx)
        return self.loss

    def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        if outputs is not None:
            self.loss.detach().zero_()
            self.log("train/kept", outputs["loss"])


class SkipsTheRest(Toy):
    """Of epochs, by a hook that differs from epoch to epoch."""

    def on_train_epoch_start(self) -> None:
        self.on_train_batch_start = lambda batch, batch_idx: -1 if batch_idx == 2 * self.current_epoch else None


class TakesPart(Toy):
    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.log("train/gradient", self.line.weight.grad.norm())


class Plateau(Toy):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=1)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": "train/loss", "interval": "step", "strict": False},
        }


class WithoutGradients(torch.optim.SGD):
    """Of weight decay alone, and its closure has a name."""

    @torch.no_grad()
    def step(self, *, closure: Any) -> Any:  # type: ignore[override]
        assert not closure().requires_grad
        return super().step()


class NeverLooks(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        return None


def by(optimizer: Callable[[Any], Any]) -> type[Toy]:
    return type("Toy", (Toy,), {"optimizer": staticmethod(optimizer)})


class Accumulates(Callback):
    """In the middle of an epoch."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        trainer.accumulate_grad_batches = 2 if batch_idx > 1 else 1


class Stops(Callback):
    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        trainer.should_stop |= trainer.global_step == 3


class Saves(Callback):
    """Within a validation within an epoch."""

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == 4:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "within.ckpt")


TOYS: dict[str, tuple[type[Toy], dict[str, Any]]] = {
    "validation_in_some_epochs": (Toy, {"check_val_every_n_epoch": 2, "max_epochs": 3}),
    "resumed": (Toy, {"val_check_interval": 2, "callbacks": [Saves]}),
    "stopped": (Toy, {"callbacks": [Stops]}),
    "accumulates": (Toy, {"callbacks": [Accumulates]}),
    "none": (AtTimesNone, {"max_steps": 7, "max_epochs": -1}),
    "no_loss": (WithoutLoss, {}),
    "number": (Number, {}),
    "one_argument": (OneArgument, {"detect_anomaly": True}),
    "changed_loss": (ChangesItsLoss, {}),
    "skipped": (SkipsTheRest, {"max_epochs": 3}),
    "takes_part": (TakesPart, {"gradient_clip_val": 0.1, "gradient_clip_algorithm": "value"}),
    "plateau": (Plateau, {"val_check_interval": 0.5}),
    "lbfgs": (by(lambda parameters: torch.optim.LBFGS(parameters, 0.1, 3)), {"gradient_clip_val": 0.1}),
    "own_optimizer": (by(lambda parameters: WithoutGradients(parameters, 0.1, weight_decay=0.1)), {}),
    "idle_optimizer": (by(lambda parameters: NeverLooks(parameters, 0.1)), {}),
    "wrapped_optimizer": (
        by(lambda parameters: LightningOptimizer(torch.optim.SGD(parameters, 0.1))),
        {"gradient_clip_val": 0.1},
    ),
}
FAILING = ("no_loss", "number", "idle_optimizer")


@pytest.mark.parametrize("case", TOYS)
def test_it_trains_a_foreign_model_as_lightnings_loop(case: str, tmp_path: Path):
    fast, slow = (toy_fit(*TOYS[case], use, tmp_path / str(use)) for use in (True, False))
    assert fast == slow
    assert bool(fast["error"]) == (case in FAILING), fast["error"]


def toy_fit(kind: type[Toy], options: dict[str, Any], fast: bool, folder: Path) -> dict[str, Any]:
    """Two fits by one trainer, the second one resumed if there is a checkpoint; all that they leave, or their error."""
    points = torch.randn(55, 3, generator=torch.Generator().manual_seed(0))
    batches = DataLoader(range(55), 11, collate_fn=lambda rows: None if 33 in rows else points[rows])  # type: ignore
    validation = DataLoader(points, 11)  # type: ignore[arg-type]
    callbacks = [Watch(), *(make() for make in options.get("callbacks", []))]
    logger, model = CSVLogger(folder, "", ""), kind()
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings = {"max_epochs": 2, "log_every_n_steps": 2, **quiet, **options, "callbacks": callbacks}
    trainer = Trainer(accelerator="cpu", logger=logger, default_root_dir=folder, **settings)
    if fast:
        use_fast_loop(trainer)
    error, calls = "", []
    try:
        trainer.fit(model, batches, validation)
        calls = Watch.calls
        saved = folder / "within.ckpt"
        if not saved.exists():
            trainer.fit_loop.max_epochs = 5
        trainer.fit(model, batches, validation, ckpt_path=saved if saved.exists() else None)
    except Exception as failed:
        error = str(failed)
    return {
        "calls": [*calls, *Watch.calls],
        "weights": [parameter.tolist() for parameter in model.parameters()],
        "loops": trainer.fit_loop.state_dict(),
        "metrics": (folder / "metrics.csv").read_text() if (folder / "metrics.csv").exists() else "",
        "error": error,
    }
