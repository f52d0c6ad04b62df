import csv
from pathlib import Path

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


def test_a_resumed_run_deletes_the_rows_that_it_writes_again(tmp_path: Path):
    first = MetricsCSV(tmp_path)
    for step in range(6):
        first.log_metrics({"epoch": step // 3, "loss": float(step)}, step)
    second = MetricsCSV(tmp_path)
    second.log_metrics({"epoch": 1, "loss": 30.0}, 3)
    second.log_metrics({"epoch": 1, "loss": 40.0}, 4)
    assert [row["loss"] for row in rows(tmp_path)] == ["0.0", "1.0", "2.0", "30.0", "40.0"]


def test_a_row_that_a_crash_cut_is_deleted(tmp_path: Path):
    MetricsCSV(tmp_path).log_metrics({"epoch": 0, "loss": 1.0}, 0)
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("1,0")
    MetricsCSV(tmp_path).log_metrics({"epoch": 0, "loss": 2.0}, 5)
    assert [row["step"] for row in rows(tmp_path)] == ["0", "5"]
