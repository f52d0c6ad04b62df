"""Writes the report of a sweep: an HTML page, tables as CSV and charts as PNG."""

import math
from pathlib import Path

import pandas as pd

from genlab.report import charts
from genlab.report.html_page import write_page
from genlab.report.importance import correlations, importances, relations
from genlab.report.records import SEED, SweepData, load_sweep, varied
from genlab.runs.errors import UsageError
from genlab.runs.folder import safe_name


def write_report(folder: Path, metrics: list[str] | None = None, include_early: bool = False) -> list[Path]:
    """Writes the folder report/ in an experiment's folder and returns the files.

    Args:
        folder: The folder of the experiment, runs/<experiment>.
        metrics: The metrics to draw. By default the sweep's metric and all test metrics.
        include_early: Let the runs that were ended early count like those that finished.

    Raises:
        UsageError: The folder contains no run, or no finished one. In the second case the page and runs.csv are written
            and show what happened to the runs.
    """
    return write_report_files(load_sweep(folder, include_early), folder / "report", metrics)


def write_report_files(data: SweepData, report: Path, metrics: list[str] | None = None) -> list[Path]:
    """Writes a report and returns its files: index.html and runs.csv.

    If the finished runs differ in a hyperparameter, it also writes tables of means, correlations and importances, and
    charts as PNG.

    Args:
        data: The runs of the sweep.
        report: The folder to write to.
        metrics: The metrics to draw. By default the sweep's metric and all test metrics.

    Raises:
        UsageError: No run has finished.
    """
    report.mkdir(parents=True, exist_ok=True)
    metrics = metrics or default_metrics(data)
    finished = _finite(data.counted, metrics)
    hyperparameters = varied(finished, data.parameters)
    with_noise = [*hyperparameters, *([SEED] if SEED in finished and finished[SEED].nunique() > 1 else [])]
    tables = {metric: relations(finished, metric, with_noise) for metric in metrics}
    written = [
        write_page(data, tables, hyperparameters, report / "index.html"),
        _csv(data.runs, report / "runs.csv"),
    ]
    if finished.empty:
        raise UsageError(f"no run in {data.name} has finished; {written[0]} shows the state of each run")
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


def default_metrics(data: SweepData) -> list[str]:
    """Returns the sweep's metric and the test metrics; if there are none, those of validation, else of training."""
    finished = data.counted.dropna(axis="columns", how="all")
    own = [data.metric] if data.metric is not None and data.metric in finished else []
    for prefix in ("test/", "val/", "train/"):
        found = [*own, *(name for name in finished.columns if name.startswith(prefix) and name not in own)]
        if found:
            return found
    return []


def _finite(runs: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """Replaces infinite values of metrics by NaN, so that a diverged metric counts as missing."""
    return runs.assign(**{metric: runs[metric].replace([math.inf, -math.inf], math.nan) for metric in metrics})


def _csv(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path, index=False)
    return path
