"""Charts of a sweep: a metric grouped by each hyperparameter, and what correlates with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from harness.records import SEED

MOST_NAMED_LINES = 8


def grouped_figure(runs: pd.DataFrame, metric: str, hyperparameters: list[str]) -> Figure:
    """One panel a hyperparameter: the metric by its value, a line for each setting of the others.

    Lines are means over seeds with a bar of one standard deviation over seeds, grey and unnamed where there are many;
    the thick line is the mean over all other hyperparameters, its bar the standard deviation of that mean over seeds.
    """
    figure = Figure(figsize=(4.8 * len(hyperparameters), 4.0), layout="constrained")
    panels = figure.subplots(1, len(hyperparameters), squeeze=False, sharey=True)[0]
    for axes, by in zip(panels, hyperparameters, strict=True):
        values = sorted(runs[by].dropna().unique(), key=_order)
        others = [name for name in hyperparameters if name != by]
        groups: list[Any] = list(runs.groupby(others, dropna=False)) if others else []
        for setting, group in groups:
            mean, spread = _over_seeds(group, metric, by, values)
            label = ", ".join(f"{short(n)} {_text(v)}" for n, v in zip(others, setting, strict=True))
            style = {"label": label} if len(groups) <= MOST_NAMED_LINES else {"color": "0.75"}
            axes.errorbar(range(len(values)), mean, spread, marker="o", ms=3, lw=1, capsize=2, **style)
        mean, spread = _over_seeds(runs, metric, by, values)
        axes.errorbar(range(len(values)), mean, spread, label="mean", color="0.25", marker="s", lw=3, capsize=4)
        axes.set_xticks(range(len(values)), [_text(v) for v in values])
        axes.set_xlabel(by)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    panels[0].set_ylabel(metric)
    seeds = int(runs[SEED].nunique()) if SEED in runs else 1
    figure.suptitle(f"{metric} by hyperparameter ({len(runs)} runs, {seeds} seed{'s' * (seeds != 1)})", fontsize=11)
    return figure


def correlation_figure(correlations: pd.DataFrame) -> Figure:
    """Bars of the Pearson correlation of each hyperparameter with each metric."""
    figure = Figure(figsize=(7, 0.6 + 0.32 * correlations.size), layout="constrained")
    axes = figure.subplots()
    bars = [
        (f"{hyperparameter}  {metric}", float(correlations.loc[hyperparameter, metric]))
        for metric in reversed(correlations.columns)
        for hyperparameter in reversed(correlations.index)
    ]
    colors = ["tab:green" if value > 0 else "tab:red" for _, value in bars]
    axes.barh([name for name, _ in bars], [value for _, value in bars], color=colors)
    axes.axvline(0, color="0.3", lw=1)
    axes.set_xlim(-1, 1)
    axes.set_xlabel("Pearson correlation over runs")
    axes.grid(axis="x", alpha=0.3)
    return figure


def correlations(runs: pd.DataFrame, metrics: list[str], hyperparameters: list[str]) -> pd.DataFrame:
    """Pearson correlation of each hyperparameter (row) with each metric (column); yes/no counts as 1/0."""
    numeric = {name: pd.to_numeric(runs[name], errors="coerce") for name in (*hyperparameters, *metrics)}
    able = [name for name in hyperparameters if numeric[name].notna().all()]
    table = {metric: [float(numeric[name].astype(float).corr(numeric[metric])) for name in able] for metric in metrics}
    return pd.DataFrame(table, index=able)


def means_table(runs: pd.DataFrame, metrics: list[str], hyperparameters: list[str]) -> pd.DataFrame:
    """The mean of each metric at each value of each hyperparameter, and the spread of that mean over seeds."""
    rows = []
    for by in hyperparameters:
        values = sorted(runs[by].dropna().unique(), key=_order)
        row: dict[str, Any] = {}
        for metric in metrics:
            row[metric] = list(zip(*_over_seeds(runs, metric, by, values), strict=True))
        for index, value in enumerate(values):
            cells = {}
            for metric in metrics:
                cells[metric], cells[f"{metric} sd over seeds"] = row[metric][index]
            rows.append({"hyperparameter": by, "value": _text(value), **cells})
    return pd.DataFrame(rows)


def side_by_side(pictures: list[Path], titles: list[str]) -> Figure:
    """Pictures beside one another under their titles."""
    images = [np.asarray(Image.open(path)) for path in pictures]
    figure = Figure(figsize=(5.2 * len(images), 0.5 + 5.2 * images[0].shape[0] / images[0].shape[1]))
    for axes, image, title in zip(figure.subplots(1, len(images), squeeze=False)[0], images, titles, strict=True):
        axes.imshow(image)
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    figure.tight_layout()
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": "litgen"})
    return path


def short(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def _over_seeds(runs: pd.DataFrame, metric: str, by: str, values: list[Any]) -> tuple[list[float], list[float]]:
    """Mean of the metric at each value, and the standard deviation over seeds of the per-seed means."""
    seeds = runs[SEED] if SEED in runs else pd.Series(0, index=runs.index)
    per_seed = runs[metric].groupby([runs[by], seeds]).mean().unstack()
    per_seed = per_seed.reindex(values)
    return per_seed.mean(axis=1).tolist(), per_seed.std(axis=1, ddof=1).fillna(0.0).tolist()


def _order(value: Any) -> tuple[int, Any]:
    number = isinstance(value, int | float | np.integer | np.floating | np.bool_)
    return (0, value) if number else (1, str(value))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)
