"""Charts of a sweep as PNG: a metric grouped by each hyperparameter, and the importance of each hyperparameter."""

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from genlab.report.importance import as_numbers
from genlab.report.records import SEED, as_text

MAX_NAMED_LINES = 8
MAX_LEVELS = 12  # a number with more values is drawn as points
GROUPS = 8
LOG_SPAN = 30  # from this ratio of maximum to minimum, an axis is logarithmic
MAX_TICK_LENGTH = 24
without_math = mpl.rc_context({"text.parse_math": False})  # a $ in a name does not start a formula


@without_math
def grouped_figure(runs: pd.DataFrame, metric: str, hyperparameters: list[str]) -> Figure:
    """Draws one panel per hyperparameter: the metric by its value, with a line for each setting of the others.

    Thin lines are means over seeds with a bar of one standard deviation over seeds; they are grey and have no names if
    there are many. The thick line is the mean over all other hyperparameters, and its bar is the standard deviation of
    that mean over seeds. For a number with many values, each run is a point, and the thick line connects the means of
    groups of equal size.
    """
    figure = Figure(figsize=(4.8 * len(hyperparameters), 4.0), layout="constrained")
    panels = figure.subplots(1, len(hyperparameters), squeeze=False, sharey=True)[0]
    for axes, by in zip(panels, hyperparameters, strict=True):
        numbers = as_numbers(runs[by])
        if numbers is not None and numbers.nunique() > MAX_LEVELS:
            _scatter(axes, numbers, runs[metric])
        else:
            _levels(axes, runs, metric, by, [name for name in hyperparameters if name != by])
        axes.set_xlabel(by)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    panels[0].set_ylabel(metric)
    seeds = int(runs[SEED].nunique()) if SEED in runs else 1
    figure.suptitle(f"{metric} by hyperparameter ({len(runs)} runs, {seeds} seed{'s' * (seeds != 1)})", fontsize=11)
    return figure


def _levels(axes: Axes, runs: pd.DataFrame, metric: str, by: str, others: list[str]) -> None:
    values = sorted(runs[by].dropna().unique(), key=value_order)
    lines = _settings(runs, metric, by, values, others) if others else {}
    if len(lines) <= MAX_NAMED_LINES:
        for setting, (mean, spread) in lines.items():
            label = ", ".join(f"{short_name(n)} {as_text(v)}" for n, v in zip(others, setting, strict=True))
            axes.errorbar(range(len(values)), mean, spread, label=label, marker="o", ms=3, lw=1, capsize=2)
    else:  # one line with gaps, because a thousand lines take seconds to draw
        x = [*range(len(values)), math.nan] * len(lines)
        y, spreads = ([v for line in lines.values() for v in (*line[part], math.nan)] for part in (0, 1))
        axes.errorbar(x, y, spreads, color="0.75", marker="o", ms=3, lw=1, capsize=2)
    mean, spread = _over_seeds(runs, metric, by, values)
    axes.errorbar(range(len(values)), mean, spread, label="mean", color="0.25", marker="s", lw=3, capsize=4)
    axes.set_xticks(range(len(values)), [as_text(v)[:MAX_TICK_LENGTH] for v in values])


def _scatter(axes: Axes, numbers: pd.Series, metric: pd.Series) -> None:
    axes.plot(numbers, metric, "o", ms=3, color="0.7")
    groups = pd.qcut(numbers, GROUPS, duplicates="drop")
    means, spreads = metric.groupby(groups, observed=True).mean(), metric.groupby(groups, observed=True).std()
    middles = numbers.groupby(groups, observed=True).median()
    axes.errorbar(middles, means, spreads, label="mean of a group", color="0.25", marker="s", lw=3, capsize=4)
    if numbers.min() > 0 and numbers.max() / numbers.min() > LOG_SPAN:
        axes.set_xscale("log")


@without_math
def importance_figure(importances: pd.DataFrame, correlations: pd.DataFrame) -> Figure:
    """Draws for each metric (column) two panels: the importance and the correlation of each hyperparameter."""
    metrics = list(importances.columns)
    seed = {SEED: f"{SEED} (noise floor)"}
    importances, correlations = importances.rename(index=seed), correlations.rename(index=seed)
    figure = Figure(figsize=(9, (0.7 + 0.32 * len(importances)) * len(metrics) + 0.4), layout="constrained")
    panels = figure.subplots(len(metrics), 2, squeeze=False, sharey="row", sharex="col")
    for (left, right), metric in zip(panels, metrics, strict=True):
        weights = importances[metric].sort_values()
        names = list(weights.index)
        signed = correlations[metric].reindex(names).fillna(0.0)
        left.barh(names, weights.fillna(0.0), color="tab:purple")
        right.barh(names, signed, color=["tab:green" if value > 0 else "tab:red" for value in signed])
        right.axvline(0, color="0.3", lw=1)
        left.set_title(metric, loc="left", fontsize=10)
        for axes in (left, right):
            axes.grid(axis="x", alpha=0.3)
    panels[-1][0].set_xlim(0, 1)
    panels[-1][0].set_xlabel("importance (random forest)")
    panels[-1][1].set_xlim(-1, 1)
    panels[-1][1].set_xlabel("Pearson correlation over runs")
    return figure


def means_table(runs: pd.DataFrame, metrics: list[str], hyperparameters: list[str]) -> pd.DataFrame:
    """Returns the mean of each metric at each value of each hyperparameter, and its standard deviation over seeds."""
    rows = []
    for by in hyperparameters:
        values = sorted(runs[by].dropna().unique(), key=value_order)
        row: dict[str, Any] = {}
        for metric in metrics:
            row[metric] = list(zip(*_over_seeds(runs, metric, by, values), strict=True))
        for index, value in enumerate(values):
            cells = {}
            for metric in metrics:
                cells[metric], cells[f"{metric} sd over seeds"] = row[metric][index]
            rows.append({"hyperparameter": by, "value": as_text(value), **cells})
    return pd.DataFrame(rows)


def side_by_side(pictures: list[Path], titles: list[str]) -> Figure:
    """Draws pictures side by side, each with its title."""
    images = [np.asarray(Image.open(path)) for path in pictures]
    figure = Figure(figsize=(5.2 * len(images), 0.5 + 5.2 * images[0].shape[0] / images[0].shape[1]))
    for axes, image, title in zip(figure.subplots(1, len(images), squeeze=False)[0], images, titles, strict=True):
        axes.imshow(image)
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    figure.tight_layout()
    return figure


@without_math
def save_figure(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": "genlab"})
    return path


def short_name(key: str) -> str:
    """Returns the last word of a dotted key."""
    return key.rsplit(".", 1)[-1]


def _settings(
    runs: pd.DataFrame, metric: str, by: str, values: list[Any], others: list[str]
) -> dict[tuple[Any, ...], tuple[list[float], list[float]]]:
    """Returns the mean and standard deviation over seeds at each value, for each setting of the other parameters."""
    grouped = runs.groupby([*others, by], dropna=False)[metric]
    mean = grouped.mean().unstack().reindex(columns=values)
    spread = grouped.std(ddof=1).unstack().reindex(columns=values).fillna(0.0)
    settings = [setting if isinstance(setting, tuple) else (setting,) for setting in mean.index]
    return dict(zip(settings, zip(mean.to_numpy().tolist(), spread.to_numpy().tolist(), strict=True), strict=True))


def _over_seeds(runs: pd.DataFrame, metric: str, by: str, values: list[Any]) -> tuple[list[float], list[float]]:
    """Returns the mean of the metric at each value, and the standard deviation of the means of each seed."""
    seeds = runs[SEED] if SEED in runs else pd.Series(0, index=runs.index)
    per_seed = runs[metric].groupby([runs[by], seeds]).mean().unstack()
    per_seed = per_seed.reindex(values)
    return per_seed.mean(axis=1).tolist(), per_seed.std(axis=1, ddof=1).fillna(0.0).tolist()


def value_order(value: Any) -> tuple[int, Any]:
    """Returns a sort key: numbers by size, then texts."""
    number = isinstance(value, int | float | np.integer | np.floating | np.bool_)
    return (0, value) if number else (1, str(value))
