import errno
import os
from pathlib import Path

import pytest
import torch

import train
from genlab.callbacks import LastCheckpoint
from tests.helpers import fit, same, small_autoencoder, weights


def test_a_run_resumes_exactly_after_the_disk_was_full(tmp_path: Path, monkeypatch, capsys):
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


def test_last_checkpoint_is_saved_at_the_intervals_and_at_the_end(tmp_path: Path, monkeypatch):
    steps = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        if target.name == "last.ckpt":
            steps.append(torch.load(self, weights_only=True)["global_step"])
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    fit(tmp_path, "--checkpoint.every_n_epochs=2", "--checkpoint.every_n_steps=4", "--trainer.max_epochs=3")
    assert steps == [4, 10, 12, 16, 18]  # six batches an epoch: within epochs at 4, at the end of the second and last


def test_invalid_intervals_are_refused():
    with pytest.raises(ValueError, match="every_n_epochs"):
        LastCheckpoint(every_n_epochs=0)
    with pytest.raises(ValueError, match="every_n_steps"):
        LastCheckpoint(every_n_steps=-1)


def test_a_run_leaves_no_temporary_files(tmp_path: Path):
    folder = fit(tmp_path).folder
    assert not [path for path in folder.rglob(".*")] and os.listdir(folder / "checkpoints")
