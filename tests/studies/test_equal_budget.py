"""Trainings of equal time: their pace, their length, and what an interrupted command does again."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from genlab.runs.errors import UsageError
from studies import equal_budget, pace
from studies.equal_budget import Budget, Entry, schedule


def test_a_pace_counts_the_images_after_the_first_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = iter(range(100))
    monkeypatch.setattr(pace.time, "perf_counter", lambda: next(clock))
    callback, trainer = pace.Pace(str(tmp_path / "pace.json"), seconds=3), SimpleNamespace(should_stop=False)
    seen = 0
    while not trainer.should_stop:
        seen += 1
        callback.on_train_batch_end(trainer, None, None, (torch.zeros(20, 1), None), seen)
    assert seen == pace.WARM_UP + 3 and json.loads((tmp_path / "pace.json").read_text()) == {"images/s": 20.0}


@pytest.mark.parametrize(("images", "expected"), [(600, (1, 0.6)), (1000, (1, 1.0)), (2500, (3, 0.8333))])
def test_epochs_hold_the_images_of_the_budget(images: float, expected: tuple[int, float]):
    assert schedule(images, 1000) == expected
    assert expected[0] * expected[1] * 1000 == pytest.approx(images, rel=1e-3)


def test_a_run_is_trained_once_and_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    commands: list[list[str]] = []

    def run(command: list[str], env: dict[str, str], check: bool) -> Any:
        commands.append(command)
        assert env["OMP_NUM_THREADS"] == "1"
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(equal_budget.subprocess, "run", run)
    monkeypatch.setattr(equal_budget, "ENTRIES", {"a": Entry("a_mnist", ("--model.x", "1"))})
    monkeypatch.setattr(equal_budget, "pace", lambda name, budget: 5.0)
    budget = Budget(tmp_path, tmp_path / "data", minutes=1, threads=1)
    folder = tmp_path / "equal_budget_a_1min" / "seed=3"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"state": "killed", "metrics": {}, "config": {}}))
    equal_budget.train("a", 3, budget, 100)
    assert commands[0][2:5] == ["fit", "--config", "configs/a_mnist.yaml"] and "--run.overwrite" in commands[0]
    assert commands[0][commands[0].index("--trainer.max_epochs") + 1] == "3"  # 60 s of 5 images, 100 an epoch
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").touch()
    equal_budget.train("a", 3, budget, 100)
    assert commands[1][commands[1].index("--ckpt_path") + 1] == str(folder / "checkpoints" / "last.ckpt")
    (folder / "summary.json").write_text(json.dumps({"state": "finished", "metrics": {"m": 1.0}, "config": {}}))
    assert equal_budget.train("a", 3, budget, 100).metrics == {"m": 1.0} and len(commands) == 2


def test_a_failed_training_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(equal_budget.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=2))
    with pytest.raises(UsageError, match="the training of x/y failed"):
        Budget(tmp_path, tmp_path, 1, 1).fit(Entry("a"), "x", "y")


def test_the_pace_of_another_model_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "equal_budget_pace.json").write_text('{"images/s": 7.0}')
    monkeypatch.setattr(equal_budget.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0))
    with pytest.raises(UsageError, match="training of edm ended before its pace was measured"):
        equal_budget.pace("edm", Budget(tmp_path, tmp_path, 1, 1))
