import errno
import os
from pathlib import Path

import pytest
import torch

import train
from genlab.callbacks import LastCheckpoint
from genlab.runs.checkpoint_io import AtomicCheckpointIO
from tests.helpers import fit, same, small_autoencoder, weights


def test_a_checkpoint_is_moved_into_place_when_it_is_whole(tmp_path: Path):
    AtomicCheckpointIO().save_checkpoint({"x": torch.arange(3)}, tmp_path / "deep" / "a.ckpt")
    assert torch.load(tmp_path / "deep" / "a.ckpt", weights_only=True)["x"].tolist() == [0, 1, 2]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.ckpt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_told_as_what_it_is(tmp_path: Path, monkeypatch):
    """torch.save alone makes a RuntimeError about its own file format of it."""
    monkeypatch.setattr("builtins.open", lambda path, mode, opened=open: opened("/dev/full", mode))
    with pytest.raises(OSError, match="No space left on device"):
        AtomicCheckpointIO().save_checkpoint({"x": torch.zeros(100_000)}, tmp_path / "a.ckpt")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_checkpoint(error: BaseException, tmp_path: Path, monkeypatch):
    AtomicCheckpointIO().save_checkpoint({"x": 1}, tmp_path / "a.ckpt")

    def half(checkpoint: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(type(error)):
        AtomicCheckpointIO().save_checkpoint({"x": 2}, tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True) == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_disk_that_fills_up_costs_nothing_that_was_saved(tmp_path: Path, monkeypatch, capsys):
    whole = fit(tmp_path, "--run.name=whole")
    saves, save = [], torch.save

    def full_from_the_fourth(checkpoint: object, file: object) -> None:
        saves.append(1)
        if len(saves) >= 4:  # best and last of the first epoch, best of the second, then last
            raise OSError(errno.ENOSPC, "No space left on device")
        save(checkpoint, file)

    monkeypatch.setattr(torch, "save", full_from_the_fourth)
    monkeypatch.setattr("sys.argv", ["train.py", "fit", *small_autoencoder(), f"--run.root={tmp_path}", "--run.name=x"])
    assert train.command() == 1
    assert "the disk is full" in capsys.readouterr().err
    monkeypatch.setattr(torch, "save", save)
    resumed = fit(tmp_path, "--run.name=x", "--ckpt_path=last")
    assert same(weights(resumed.folder), weights(whole.folder)) and resumed.metrics == whole.metrics


def test_last_is_written_as_often_as_asked_and_at_the_end(tmp_path: Path, monkeypatch):
    steps = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        if target.name == "last.ckpt":
            steps.append(torch.load(self, weights_only=True)["global_step"])
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    fit(tmp_path, "--checkpoint.every_n_epochs=2", "--checkpoint.every_n_steps=4", "--trainer.max_epochs=3")
    assert steps == [4, 10, 12, 16, 18]  # six batches an epoch: within epochs at 4, at the end of the second and last


def test_impossible_intervals_are_refused():
    with pytest.raises(ValueError, match="every_n_epochs"):
        LastCheckpoint(every_n_epochs=0)
    with pytest.raises(ValueError, match="every_n_steps"):
        LastCheckpoint(every_n_steps=-1)


def test_nothing_temporary_is_left_in_a_run(tmp_path: Path):
    folder = fit(tmp_path).folder
    assert not [path for path in folder.rglob(".*")] and os.listdir(folder / "checkpoints")
