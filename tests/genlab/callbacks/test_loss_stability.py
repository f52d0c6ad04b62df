import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from genlab.callbacks.loss_stability import LossStability
from genlab.runs.folder import read_summary
from tests.genlab.callbacks.scripted_training import Script, train
from tests.helpers import StopAt

random = np.random.default_rng(0)
LOSS_D = (random.normal(size=400) + np.linspace(3, -5, 400)).astype(np.float32)
LOSS_G = (0.1 * random.normal(size=400) + 7).astype(np.float32)


def by_polyfit(values: np.ndarray) -> float:
    steps = np.arange(len(values))
    line = np.polyval(np.polyfit(steps, values.astype(np.float64), 1), steps)
    return float(np.sqrt(((values - line) ** 2).sum() / (len(values) - 2)))


def losses(step: int) -> dict[str, float]:
    return {"loss_d": float(LOSS_D[step]), "loss_g": float(LOSS_G[step])}


def history(folder: Path, name: str) -> list[float]:
    with open(folder / "metrics.csv") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def test_an_epoch_logs_the_mean_of_its_windows(tmp_path: Path):
    """25 steps are two windows of ten steps; five steps are left over."""
    trainer = train(tmp_path, Script(losses), [LossStability(10)], epochs=3, steps=25)
    for name, values in (("train/loss_d_std", LOSS_D), ("train/loss_g_std", LOSS_G)):
        wanted = [
            np.mean([by_polyfit(values[start : start + 10]) for start in (25 * e, 25 * e + 10)]) for e in range(3)
        ]
        assert history(tmp_path, name) == pytest.approx(wanted, rel=1e-4)
        assert trainer.callback_metrics[name].item() == pytest.approx(wanted[-1], rel=1e-4)
        summary = read_summary(tmp_path)
        assert summary is not None and summary["metrics"][name] == pytest.approx(wanted[-1], rel=1e-4)


@pytest.mark.parametrize("steps", [2, 3, 7])
def test_a_short_epoch_is_one_window(steps: int, tmp_path: Path):
    train(tmp_path, Script(losses), [LossStability(10)], epochs=2, steps=steps)
    found = history(tmp_path, "train/loss_d_std")
    if steps < 3:
        assert len(found) == 2 and all(map(math.isnan, found))
    else:
        wanted = [by_polyfit(LOSS_D[:steps]), by_polyfit(LOSS_D[steps : 2 * steps])]
        assert found == pytest.approx(wanted, rel=1e-4)


def test_the_generator_has_windows_of_its_own_steps(tmp_path: Path):
    def step_of(step: int) -> dict[str, float]:
        return losses(step) if step % 5 == 4 else {"loss_d": losses(step)["loss_d"]}

    train(tmp_path, Script(step_of), [LossStability(10)], epochs=1, steps=60)
    assert history(tmp_path, "train/loss_g_std") == pytest.approx([by_polyfit(LOSS_G[4:50:5])], rel=1e-4)
    wanted = np.mean([by_polyfit(LOSS_D[start : start + 10]) for start in range(0, 60, 10)])
    assert history(tmp_path, "train/loss_d_std") == pytest.approx([wanted], rel=1e-4)


def test_other_models_log_nothing(tmp_path: Path):
    trainer = train(tmp_path, Script(lambda step: torch.tensor(1.0)), [LossStability(10)], epochs=1, steps=20)
    assert not [name for name in trainer.callback_metrics if "std" in name]


@pytest.mark.parametrize("stop", [4, 17])
def test_a_run_resumed_within_an_epoch_logs_the_same_values(stop: int, tmp_path: Path):
    """The run stops in its second epoch, within the first or the second window."""
    for folder in ("whole", "blocks"):
        (tmp_path / folder).mkdir()
    train(tmp_path / "whole", Script(losses), [LossStability(10)], epochs=2, steps=25)
    model, blocks = Script(losses), tmp_path / "blocks"
    keeper = SaveAt(25 + stop, blocks / "mid.ckpt")
    with pytest.raises(RuntimeError, match="stopped by the test"):
        train(blocks, model, [LossStability(10)], 2, 25, more=[keeper, StopAt(25 + stop)])
    train(blocks, Script(losses), [LossStability(10)], 2, 25, checkpoint=blocks / "mid.ckpt")
    for name in ("train/loss_d_std", "train/loss_g_std"):
        assert history(blocks, name)[-1] == history(tmp_path / "whole", name)[-1]


class SaveAt(StopAt):
    def __init__(self, batch: int, path: Path) -> None:
        super().__init__(batch)
        self.path = path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):  # type: ignore[no-untyped-def]
        self.seen += 1
        if self.seen == self.batch:
            trainer.save_checkpoint(self.path)


def test_a_window_of_two_steps_is_refused():
    with pytest.raises(ValueError, match="window is 2; it must be at least 3 steps"):
        LossStability(2)
