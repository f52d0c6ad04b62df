"""What a sweep leaves to look at: runs.csv, tables of means and correlations, charts as PNG."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from harness import charts
from harness.errors import UsageError
from harness.records import load_runs, varied


def write_report(folder: Path, metrics: list[str] | None = None) -> list[Path]:
    """Writes report/ inside an experiment's folder and returns the files.

    Args:
        folder: runs/<experiment>.
        metrics: what to draw; by default everything measured on the test set.

    Raises:
        UsageError: the folder holds no finished run.
    """
    runs = load_runs(folder)
    report = folder / "report"
    report.mkdir(exist_ok=True)
    written = [_csv(runs, report / "runs.csv")]
    finished = runs[runs["state"] == "finished"]
    if finished.empty:
        raise UsageError(f"no run in {folder} has finished; their states are in {written[0]}")
    metrics = metrics or [c for c in finished.columns if c.startswith("test/") and finished[c].notna().any()]
    hyperparameters = varied(finished)
    if not hyperparameters:
        return written
    written.append(_csv(charts.means_table(finished, metrics, hyperparameters), report / "means.csv"))
    table = charts.correlations(finished, metrics, hyperparameters)
    written.append(_csv(table.rename_axis("hyperparameter").reset_index(), report / "correlations.csv"))
    for metric in metrics:
        figure = charts.grouped_figure(finished, metric, hyperparameters)
        written.append(charts.save_figure(figure, report / f"{metric.replace('/', '_')}.png"))
    if not table.dropna(how="all").empty:
        written.append(charts.save_figure(charts.correlation_figure(table), report / "correlations.png"))
    return written


class Best(NamedTuple):
    folder: Path
    score: float


def best_run(folder: Path, metric: str, goal: str) -> Best | None:
    """The finished run with the best value of a metric, if any has one."""
    runs = load_runs(folder)
    if metric not in runs or not (runs["state"] == "finished").any():
        return None
    scores = runs.loc[runs["state"] == "finished", metric].dropna()
    if scores.empty:
        return None
    at = int(scores.to_numpy().argmin() if goal == "minimize" else scores.to_numpy().argmax())
    return Best(folder / str(runs.loc[scores.index[at], "run"]), float(scores.iloc[at]))


def _csv(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path, index=False)
    return path
