import errno
from pathlib import Path

import pytest
import torch

from genlab.runs.checkpoint_io import AtomicCheckpointIO


def test_no_temporary_file_is_left(tmp_path: Path):
    AtomicCheckpointIO().save_checkpoint({"x": torch.arange(3)}, tmp_path / "deep" / "a.ckpt")
    assert torch.load(tmp_path / "deep" / "a.ckpt", weights_only=True)["x"].tolist() == [0, 1, 2]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.ckpt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_raises_its_os_error(tmp_path: Path, monkeypatch):
    """torch.save alone raises a RuntimeError about its file format."""
    monkeypatch.setattr("builtins.open", lambda path, mode, opened=open: opened("/dev/full", mode))
    with pytest.raises(OSError, match="No space left on device"):
        AtomicCheckpointIO().save_checkpoint({"x": torch.zeros(100_000)}, tmp_path / "a.ckpt")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_keeps_the_old_checkpoint(error: BaseException, tmp_path: Path, monkeypatch):
    AtomicCheckpointIO().save_checkpoint({"x": 1}, tmp_path / "a.ckpt")

    def half(checkpoint: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(type(error)):
        AtomicCheckpointIO().save_checkpoint({"x": 2}, tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True) == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]
