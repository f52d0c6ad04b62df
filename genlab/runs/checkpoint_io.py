import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically: to a temporary file in the same folder, which is renamed once it is complete.

    Lightning's own writer leaves a truncated file in place of the earlier one if the disk is full or the process is
    killed while it writes.

    Args:
        trained_on: Seed and data of the run, as in its config.yaml, which every checkpoint holds, so that it can be
            tested outside its run's folder too.
    """

    def __init__(self, trained_on: Mapping[str, Any] | None = None) -> None:
        self.trained_on = trained_on

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        if self.trained_on is not None:
            checkpoint = {**checkpoint, "trained_on": self.trained_on}
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part")
        try:
            with open(temporary, "wb") as file:
                _save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _save(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    """Calls torch.save, and raises the OSError of the file (disk full) in place of the RuntimeError of torch."""
    errors: list[OSError] = []

    class Recorder:
        def write(self, data: bytes) -> int:
            try:
                return file.write(data)
            except OSError as error:
                errors.append(error)
                raise

        def flush(self) -> None:
            file.flush()

    try:
        torch.save(checkpoint, Recorder())  # type: ignore[arg-type]
    except RuntimeError:
        if errors:
            raise errors[0] from None
        raise
