"""What a sweep is told of a training, and how it ends one."""

from pathlib import Path
from typing import Any

import pytest

from genlab.callbacks import ProgressReporter
from genlab.runs.folder import read_summary
from genlab.runs.progress import TrainingProgress
from tests.genlab.callbacks.scripted_training import HEALTHY, Script, train

SCORES = [{"val/distance": 1.0 - epoch / 8} for epoch in range(4)]


def reports(folder: Path, stop_at: int | None = None, **options: Any) -> list[TrainingProgress]:
    """Trains for four epochs of four steps, up to the report of this number; returns all reports."""
    seen: list[TrainingProgress] = []

    def report(progress: TrainingProgress) -> bool:
        seen.append(progress)
        return len(seen) == stop_at

    train(folder, Script(lambda i: HEALTHY, SCORES), [ProgressReporter(report)], 4, 4, **options)
    return seen


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, [(1, 4, 1.0), (2, 8, 0.875), (3, 12, 0.75), (4, 16, 0.625)]),
        ({"check_val_every_n_epoch": 2}, [(1, 4, None), (2, 8, 0.875), (3, 12, None), (4, 16, 0.625)]),
        ({"val_check_interval": 0.5}, [(e + h, 4 * e + 2 + 2 * h, 1 - e / 8) for e in range(4) for h in (0, 1)]),
    ],
)
def test_each_validation_is_reported_once(options: dict[str, Any], told: list[tuple], tmp_path: Path):
    """As W&B counts the values that early termination compares."""
    seen = reports(tmp_path, **options)
    assert [(one.epoch, one.step, one.metrics.get("val/distance")) for one in seen] == told


@pytest.mark.parametrize("stop_at", [None, 2])
def test_the_record_says_whether_the_training_was_ended_early(stop_at: int | None, tmp_path: Path):
    assert len(reports(tmp_path, stop_at)) == (stop_at or 4)
    summary = read_summary(tmp_path)
    assert summary is not None
    assert summary["state"] == "finished" and summary.get("ended_early") == (True if stop_at else None)
