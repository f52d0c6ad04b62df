"""A model whose losses are given in advance, and a trainer that keeps its run as train.py does."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from genlab.callbacks import BestCheckpoint, LastCheckpoint, RunRecord

HEALTHY = {"loss_d": 1.3, "loss_g": 0.8, "d_real": 0.6, "d_fake": 0.4}


class Script(LightningModule):
    """Returns `step_of(i)` from the training step of batch i, and logs `scores[epoch]` in validation."""

    def __init__(
        self,
        step_of: Callable[[int], dict[str, float] | Tensor],
        scores: list[dict[str, float]] | None = None,
        probability: bool = True,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = nn.Parameter(torch.zeros(1))
        self.objective = SimpleNamespace(score_is_probability=probability)
        self.step_of = step_of
        self.scores = scores

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.optimizers().step()  # type: ignore[union-attr]
        step = self.step_of(self.trainer.fit_loop.epoch_loop.total_batch_idx)
        return step if isinstance(step, Tensor) else {name: torch.tensor(value) for name, value in step.items()}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if self.scores is not None:
            self.log_dict(self.scores[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(
    folder: Path,
    model: Script,
    callbacks: list[Callback],
    epochs: int,
    steps: int,
    checkpoint: Path | None = None,
    more: list[Callback] | None = None,
    mode: Literal["min", "max"] = "min",
    **options: Any,
) -> Trainer:
    """`more` callbacks come after those that keep the run; the options are the trainer's."""
    watched = {name for scores in model.scores or [] for name in scores}
    record = RunRecord(folder, {})
    best = [BestCheckpoint(folder / "checkpoints", "val/distance", mode)] if "val/distance" in watched else []
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[*callbacks, record, *best, LastCheckpoint(), *(more or [])],
        logger=record.history,
        default_root_dir=folder,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    data = DataLoader(TensorDataset(torch.zeros(steps, 1)), batch_size=1)
    trainer.fit(model, data, data if model.scores else None, ckpt_path=checkpoint, weights_only=True)
    record.finish(record.metrics)
    return trainer
