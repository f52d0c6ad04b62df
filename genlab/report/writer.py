"""Writes the report of a sweep: an HTML page, tables as CSV and charts as PNG."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from genlab.report import charts
from genlab.report.axes import with_short_classes
from genlab.report.html_page import write_page
from genlab.report.importance import correlations, importances, relations, why_no_importance
from genlab.report.records import SweepData, load_sweep, moved_together, varied
from genlab.runs.config import SEED
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
    runs_csv = _csv(data.runs, report / "runs.csv")
    hyperparameters = varied(data.counted, data.parameters)
    moved = moved_together(data.counted, data.parameters)
    keys = [*hyperparameters, *(key for key in varied(data.runs, data.parameters) if key not in hyperparameters)]
    data = dataclasses.replace(data, runs=with_short_classes(data.runs, keys))
    finished = _finite(data.counted, metrics)
    with_noise = [*hyperparameters, *([SEED] if SEED in finished and finished[SEED].nunique() > 1 else [])]
    tables = {metric: relations(finished, metric, with_noise, data.parameters) for metric in metrics}
    reasons = {metric: reason for metric in metrics if (reason := why_no_importance(finished, metric)) is not None}
    written = [write_page(data, tables, hyperparameters, report / "index.html", moved, reasons), runs_csv]
    if finished.empty:
        raise UsageError(f"no run in {data.name} has finished; {written[0]} shows the state of each run")
    if not hyperparameters or not metrics:
        return written
    written.append(_csv(charts.means_table(finished, metrics, hyperparameters), report / "means.csv"))
    pearson, spearman = (correlations(finished, metrics, with_noise, ranks) for ranks in (False, True))
    weights = importances(tables)
    noted = {"correlations.csv": pearson, "correlations_spearman.csv": spearman, "importances.csv": weights}
    for name, table in noted.items():
        rows = with_notes(table, moved, reasons if table is weights else {})
        written.append(_csv(rows.rename_axis("hyperparameter").reset_index(), report / name))
    for metric in metrics:
        figure = charts.grouped_figure(finished, metric, hyperparameters, data.scales)
        written.append(charts.save_figure(figure, report / f"{safe_name(metric)}.png"))
    footer = "; ".join(f"{key} moved with {other}" for key, other in moved.items())
    figure = charts.importance_figure(weights, pearson, spearman, reasons, footer)
    written.append(charts.save_figure(figure, report / "correlations.png"))
    return written


def with_notes(table: pd.DataFrame, moved: Mapping[str, str], reasons: Mapping[str, str]) -> pd.DataFrame:
    """Adds the hyperparameters that moved together with others to a table, and a column of notes where there are any.

    Args:
        table: A row per hyperparameter, a column per metric.
        moved: Hyperparameter -> the one with which it moved.
        reasons: Metric -> why its column is empty.
    """
    if not moved and not reasons:
        return table
    table = table.reindex([*table.index, *(key for key in moved if key not in table.index)])
    why = list(reasons.values())
    notes = ["; ".join([*([f"moved with {moved[key]}"] if key in moved else []), *why]) for key in table.index]
    return table.assign(note=notes)


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
