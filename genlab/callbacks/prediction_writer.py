from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from genlab.media import write_file
from lit_models.common.processes import all_gather_objects


class PredictionWriter(Callback):
    """Saves the outputs of `predict_step` as predict/predictions.npz in the run folder, in the order of the data."""

    def __init__(self) -> None:
        self._batches: list[dict[str, Tensor]] = []

    @staticmethod
    def path(trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / "predictions.npz"

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._batches.append({name: value.detach().cpu() for name, value in outputs.items()})

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        batches, self._batches = _in_order(self._batches), []
        if not trainer.is_global_zero or not batches:
            return
        whole = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
        arrays = {name: (x.float() if x.is_floating_point() else x).numpy() for name, x in whole.items()}
        path = self.path(trainer)
        write_file(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]
        print(f"wrote {path} ({', '.join(f'{k} {list(v.shape)}' for k, v in arrays.items())})")


def _in_order(own_batches: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """The batches of all processes in the order of the data: batch 0 of each process, then batch 1, and so on."""
    return [batch for batches in zip(*all_gather_objects(own_batches), strict=True) for batch in batches]
