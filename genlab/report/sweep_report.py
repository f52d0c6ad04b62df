"""What a sweep leaves to look at: a page, tables, charts as PNG."""

import math
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from genlab.report import charts
from genlab.report.html_page import write_page
from genlab.report.importance import correlations, importances, relations
from genlab.report.records import SEED, SweepData, load_runs, load_sweep, varied
from genlab.runs.errors import UsageError
from genlab.runs.folder import safe_name


def write_report(folder: Path, metrics: list[str] | None = None) -> list[Path]:
    """Writes report/ inside an experiment's folder and returns the files.

    Args:
        folder: runs/<experiment>.
        metrics: what to draw; by default the sweep's metric and everything measured on the test set.

    Raises:
        UsageError: the folder holds no run, or none that has finished; then the page and runs.csv say why.
    """
    return write_sweep_report(load_sweep(folder), folder / "report", metrics)


def write_sweep_report(data: SweepData, report: Path, metrics: list[str] | None = None) -> list[Path]:
    """Writes index.html, runs.csv and, where the runs differ, tables of means, correlations and importances and PNGs.

    Raises:
        UsageError: no run has finished.
    """
    report.mkdir(parents=True, exist_ok=True)
    metrics = metrics or offered_metrics(data)
    finished = _finite(data.finished, metrics)
    hyperparameters = varied(finished, data.parameters)
    with_noise = [*hyperparameters, *([SEED] if SEED in finished and finished[SEED].nunique() > 1 else [])]
    tables = {metric: relations(finished, metric, with_noise) for metric in metrics}
    written = [
        write_page(data, tables, hyperparameters, report / "index.html"),
        _csv(data.runs, report / "runs.csv"),
    ]
    if finished.empty:
        raise UsageError(f"no run in {data.name} has finished; {written[0]} says what became of them")
    if not hyperparameters or not metrics:
        return written
    written.append(_csv(charts.means_table(finished, metrics, hyperparameters), report / "means.csv"))
    signed = correlations(finished, metrics, with_noise)
    weights = importances(tables)
    for table, name in ((signed, "correlations.csv"), (weights, "importances.csv")):
        written.append(_csv(table.rename_axis("hyperparameter").reset_index(), report / name))
    for metric in metrics:
        figure = charts.grouped_figure(finished, metric, hyperparameters)
        written.append(charts.save_figure(figure, report / f"{safe_name(metric)}.png"))
    written.append(charts.save_figure(charts.importance_figure(weights, signed), report / "correlations.png"))
    return written


def offered_metrics(data: SweepData) -> list[str]:
    """The sweep's metric first, then all that was measured on the test set, or else in validation or training."""
    finished = data.finished.dropna(axis="columns", how="all")
    own = [data.metric] if data.metric is not None and data.metric in finished else []
    for prefix in ("test/", "val/", "train/"):
        found = [*own, *(name for name in finished.columns if name.startswith(prefix) and name not in own)]
        if found:
            return found
    return []


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


def _finite(runs: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """A metric that diverged counts as one that was not measured."""
    return runs.assign(**{metric: runs[metric].replace([math.inf, -math.inf], math.nan) for metric in metrics})


def _csv(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path, index=False)
    return path
