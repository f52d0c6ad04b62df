import errno
import math
import os
from pathlib import Path
from typing import Literal

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import train
from genlab.callbacks import BestCheckpoint, LastCheckpoint
from tests.genlab.callbacks import scripted_training
from tests.genlab.callbacks.scripted_training import Script
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


NAN = math.nan


@pytest.mark.parametrize(
    ("scores", "mode", "best"),
    [
        ([2.0, 1.0, 3.0], "min", 2),
        ([2.0, 1.0, 3.0], "max", 3),
        ([NAN, 2.0, NAN], "min", 2),
        ([1.0, 1.0, 1.0], "min", 1),
        ([NAN, NAN, math.inf], "min", 3),  # nothing to choose by: the last weights
    ],
)
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_run_that_moved_keeps_its_best_checkpoint(
    scores: list[float], mode: Literal["min", "max"], best: int, stop: int, tmp_path: Path
):
    """It stops after an epoch, its folder gets another name, and it goes on there."""
    logged = [{"val/distance": score} for score in scores]

    def script() -> Script:
        return Script(lambda step: torch.zeros(()), logged)

    (tmp_path / "a").mkdir()
    scripted_training.train(tmp_path / "a", script(), [], stop, 2, mode=mode)
    moved = (tmp_path / "a").rename(tmp_path / "b")
    last = moved / "checkpoints" / "last.ckpt"
    scripted_training.train(moved, script(), [], len(scores), 2, last, mode=mode)
    saved = torch.load(moved / "checkpoints" / "best.ckpt", weights_only=True)
    assert saved["global_step"] == 2 * best
    assert saved["metrics"] == pytest.approx(logged[best - 1], nan_ok=True)
    assert str(tmp_path) not in str(torch.load(last, weights_only=True)["callbacks"])


def test_a_metric_that_validation_does_not_log_is_named(tmp_path: Path):
    best = BestCheckpoint(tmp_path, "val/mse")
    with pytest.raises(MisconfigurationException, match="val/mse selects the best weights.* it logs val/distance"):
        scripted_training.train(tmp_path, Script(lambda step: torch.zeros(()), [{"val/distance": 1.0}]), [best], 1, 2)
