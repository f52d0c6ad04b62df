import random
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from datamodules import BatchLoader
from lit_models.common.processes import of_all_processes


class ExactResume(Callback):
    """Puts the random streams and the loader's position into the checkpoint, and keeps evaluation out of them.

    Training draws from one stream a rank. A checkpoint carries the streams of all ranks, and a resumed run takes them
    up where they were, so that it goes on as if it had never stopped. Validation and test draw from streams of their
    own, the same each time: training does not depend on how often a model is looked at, one epoch is compared with the
    next by the same draws, and a checkpoint that is tested again has the same numbers.
    """

    def __init__(self) -> None:
        self._restored: list[dict[str, Any]] | None = None
        self._loader: dict[str, Any] | None = None
        self._training: dict[str, Any] | None = None
        self._trainer: Trainer | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._restored is not None and len(self._restored) == trainer.world_size:
            set_random_state(self._restored[trainer.global_rank])
        elif trainer.world_size > 1:
            torch.manual_seed(torch.initial_seed() + trainer.global_rank)  # or all ranks would draw the same noise
        if self._loader is not None:
            # Lightning restores it too, but not when the loader was made before the checkpoint was read.
            trainer.train_dataloader.load_state_dict(self._loader)  # type: ignore[union-attr]
        self._restored = self._loader = None
        self._trainer = trainer

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training = random_state()
        seed = trainer.global_rank
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._training is not None:
            set_random_state(self._training)
            self._training = None

    on_test_start = on_validation_start
    on_test_end = on_validation_end

    def state_dict(self) -> dict[str, Any]:
        mine = self._training if self._training is not None else random_state()
        loader = self._trainer.train_dataloader if self._trainer is not None else None
        position = loader.state_dict() if isinstance(loader, BatchLoader) else None
        return {"ranks": of_all_processes(mine), "loader": position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict["ranks"]
        self._loader = state_dict["loader"]


def random_state() -> dict[str, Any]:
    """Python's, numpy's and torch's global generators, as values that load with weights_only=True."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "numpy": [str(name), torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss],
        "python": [version, list(internal), gauss_next],
    }


def set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
