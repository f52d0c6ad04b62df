"""Measures how many images a training sees in a second, so that trainings of equal time can be planned."""

import json
import time
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from genlab.runs.folder import write_atomically

WARM_UP = 5
"""Batches at the start that are not timed."""


class Pace(Callback):
    """Writes the training images per second of a run into a file, and stops the run.

    Args:
        path: JSON file that receives {"images/s": number}.
        seconds: Time over which batches are counted, after the first few.

    Examples:
        >>> Pace("runs/pace.json").seconds
        30.0
    """

    def __init__(self, path: str, seconds: float = 30.0) -> None:
        self.path = Path(path)
        self.seconds = seconds
        self.batches = 0
        self.images = 0
        self.start = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.batches += 1
        if self.batches <= WARM_UP:
            self.start = time.perf_counter()
            return
        self.images += len(batch[0])
        elapsed = time.perf_counter() - self.start
        if elapsed >= self.seconds:
            write_atomically(self.path, json.dumps({"images/s": self.images / elapsed}) + "\n")
            trainer.should_stop = True
