import csv
from pathlib import Path

import pytest

from genlab.runs.clock import SECONDS, Clock, read_seconds
from genlab.runs.history import MetricsCSV


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_new_columns_are_added_and_old_rows_keep_their_values(tmp_path: Path):
    log = MetricsCSV(tmp_path)
    log.log_metrics({"epoch": 0, "train/mse": 0.5}, 1)
    log.log_metrics({"epoch": 0, "val/mse": 0.25, 'odd,"name': 3.0}, 2)
    log.log_metrics({"epoch": 1, "train/mse": 0.125}, 3)
    found = rows(tmp_path)
    assert [row["train/mse"] for row in found] == ["0.5", "", "0.125"]
    assert [row["val/mse"] for row in found] == ["", "0.25", ""] and found[1]['odd,"name'] == "3.0"


@pytest.mark.parametrize("written", [3, 4, 6])
@pytest.mark.parametrize("last", [None, {"step": 3, "loss": 3.5, "epoch": 1, "new": 1.0}])
def test_a_resumed_run_keeps_the_rows_of_its_checkpoint(written: int, last: dict[str, float] | None, tmp_path: Path):
    """The checkpoint is of four rows. The last one may be that which the process was about to write."""
    killed = MetricsCSV(tmp_path)
    for step in range(written):
        killed.log_metrics({"loss": float(step), "epoch": step // 3, **({"late": 1.0} if step > 4 else {})}, step)
    (tmp_path / SECONDS).write_text("".join(f"{5 + step}\n" for step in range(written)))
    older = tmp_path / "older"
    older.mkdir()
    older_clock = Clock(older / SECONDS)
    older_clock.resume(4)
    older_clock.append()
    assert read_seconds(older / SECONDS) == []  # the time of its first rows is unknown
    assert killed.count() == MetricsCSV(tmp_path).count() == written
    resumed = MetricsCSV(tmp_path)
    resumed.resume(4, last)
    resumed.log_metrics({"loss": 40.0, "epoch": 1}, 4)
    kept = ["0.0", "1.0", "2.0", *(["3.5"] if last else ["3.0"] if written > 3 else [])]
    assert [row["loss"] for row in rows(tmp_path)] == [*kept, "40.0"]
    assert list(rows(tmp_path)[0]) == ["step", "epoch", "loss", *(["new"] if last else [])]
    seconds = read_seconds(tmp_path / SECONDS)
    assert len(seconds) == len(kept) + 1 and seconds == sorted(seconds) and seconds[0] == 5


def test_a_run_in_a_new_folder_has_only_rows_of_its_own(tmp_path: Path):
    MetricsCSV(tmp_path).resume(4, {"step": 3, "loss": 3.5})
    assert rows(tmp_path) == []


def test_a_row_that_a_crash_cut_is_deleted(tmp_path: Path):
    MetricsCSV(tmp_path).log_metrics({"epoch": 0, "loss": 1.0}, 0)
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("1,0")
    MetricsCSV(tmp_path).log_metrics({"epoch": 0, "loss": 2.0}, 5)
    assert [row["step"] for row in rows(tmp_path)] == ["0", "5"]
