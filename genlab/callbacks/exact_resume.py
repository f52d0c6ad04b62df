import random
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from datamodules import BatchLoader
from lit_models.common.processes import all_gather_objects


class ExactResume(Callback):
    """Saves the random states and the position of the data loader in checkpoints, so that a run resumes exactly.

    Each process has one random stream for training, and a checkpoint holds the states of all processes. Validation and
    test use random streams of their own, with the same seeds each time. Training therefore does not depend on how
    often a model is validated, epochs are compared with equal random draws, and a checkpoint that is tested again has
    the same metrics.
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
            torch.manual_seed(
                torch.initial_seed() + trainer.global_rank
            )  # else all processes would draw the same noise
        if self._loader is not None:
            # Lightning restores it too, but not if the loader was made before the checkpoint was read.
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
        own = self._training if self._training is not None else random_state()
        loader = self._trainer.train_dataloader if self._trainer is not None else None
        position = loader.state_dict() if isinstance(loader, BatchLoader) else None
        return {"ranks": all_gather_objects(own), "loader": position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict["ranks"]
        self._loader = state_dict["loader"]


def random_state() -> dict[str, Any]:
    """The states of the global generators of Python, NumPy and PyTorch, as values that load with weights_only=True."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "numpy": [str(name), torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss],
        "python": [version, list(internal), gauss_next],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restores the states that `random_state` returned."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
