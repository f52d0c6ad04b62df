import os
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is whole.

    Lightning's own writer copies from the system's temporary folder, and leaves half a file, and not the old one,
    when the disk is full or the process is killed at that moment.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        try:
            with open(part, "wb") as file:
                _save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _save(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    """torch.save, which tells of a full disk as a RuntimeError of its own, with the file's own error."""
    errors: list[OSError] = []

    class Honest:
        def write(self, data: bytes) -> int:
            try:
                return file.write(data)
            except OSError as error:
                errors.append(error)
                raise

        def flush(self) -> None:
            file.flush()

    try:
        torch.save(checkpoint, Honest())  # type: ignore[arg-type]
    except RuntimeError:
        if errors:
            raise errors[0] from None
        raise
