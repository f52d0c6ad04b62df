"""Charts of a sweep as PNG: a metric grouped by each hyperparameter, and the importance of each hyperparameter."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator
from PIL import Image

from genlab.report.axes import MAX_LEVELS, Axis, category_axis, value_axis
from genlab.report.records import as_text
from genlab.runs.config import SEED
from genlab.runs.short_names import short_labels
from genlab.words import counted

COLUMNS = 4
MAX_NAMED_LINES = 8
GROUPS = 8
MAX_TICK_LENGTH = 24
TICK_DISTANCE = 0.09
"""The smallest distance between the labels of two numbers, as a share of the axis."""
MAX_UPRIGHT = 28
"""The number of characters of all categories together up to which their names are not slanted."""
without_math = mpl.rc_context({"text.parse_math": False})  # a $ in a name does not start a formula


@without_math
def grouped_figure(
    runs: pd.DataFrame, metric: str, hyperparameters: list[str], scales: Mapping[str, str] | None = None
) -> Figure:
    """Draws one panel per hyperparameter: the metric by its value.

    Numbers have a continuous axis. Thin lines are means over seeds with a bar of one standard deviation over seeds, one
    for each setting of the other hyperparameters; they are grey and have no names if there are many. The thick line is
    the mean over all other hyperparameters, and its bar is the standard deviation of that mean over seeds. For a number
    with many values, each run is a point, and the thick line connects the means of groups of equal size. Texts and
    booleans have a bar each, from zero, and the settings are points on it. One seed has no standard deviation.

    Args:
        runs: The runs.
        metric: The metric.
        hyperparameters: The config keys.
        scales: Hyperparameter -> log or linear, where the sweep tells it.
    """
    columns = min(COLUMNS, len(hyperparameters))
    rows = math.ceil(len(hyperparameters) / columns)
    figure = Figure(figsize=(4.8 * columns, 4.0 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat[len(hyperparameters) :]:
        panel.set_visible(False)
    numbers = []  # the panels of numbers, which share their limits
    for panel, by in zip(panels.flat, hyperparameters, strict=False):
        axis = value_axis(runs[by], (scales or {}).get(by))
        others = [name for name in hyperparameters if name != by]
        if axis.categorical:
            _bars(panel, axis, runs, metric, others)
        else:
            draw = _scatter if len(axis.ticks) > MAX_LEVELS else _lines
            draw(panel, axis, runs, metric, others)
            number_ticks(panel, axis)
            numbers.append(panel)
        panel.set_xlabel(by)
        panel.grid(alpha=0.3, axis="y" if axis.categorical else "both")
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)  # not over the data
    limits = [panel.get_ylim() for panel in numbers]
    for panel in numbers:
        panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    for panel in panels[:, 0]:
        panel.set_ylabel(metric)
    seeds = int(runs[SEED].nunique()) if SEED in runs else 1
    counts = f"{counted(len(runs), 'run')}, {counted(seeds, 'seed')}"
    figure.suptitle(f"{metric} by hyperparameter ({counts})", fontsize=11)
    return figure


def _lines(panel: Axes, axis: Axis, runs: pd.DataFrame, metric: str, others: list[str]) -> None:
    x = [at for at, _ in axis.ticks]
    end = len(x) - (axis.none is not None)

    def with_gap(values: list[float]) -> list[float]:
        return [*values[:end], math.nan, *values[end:]]  # no line leads to None

    lines = _settings(runs, metric, axis, others)
    if len(lines) <= MAX_NAMED_LINES:
        for name, (mean, spread) in lines.items():
            panel.errorbar(with_gap(x), with_gap(mean), with_gap(spread), label=name, marker="o", ms=3, lw=1, capsize=2)
    else:  # one line with gaps, because a thousand lines take seconds to draw
        means, spreads = ([v for line in lines.values() for v in (*with_gap(line[k]), math.nan)] for k in (0, 1))
        panel.errorbar([*with_gap(x), math.nan] * len(lines), means, spreads, color="0.75", marker="o", ms=3, lw=1)
    mean, spread = _over_seeds(runs, metric, axis)
    panel.errorbar(
        with_gap(x), with_gap(mean), with_gap(spread), label="mean", color="0.25", marker="s", lw=3, capsize=4
    )


def _bars(panel: Axes, axis: Axis, runs: pd.DataFrame, metric: str, others: list[str]) -> None:
    x = np.array([at for at, _ in axis.ticks])
    mean, spread = _over_seeds(runs, metric, axis)
    panel.bar(x, mean, width=0.7, color="0.82", yerr=spread, ecolor="0.25", capsize=4)
    lines = _settings(runs, metric, axis, others)
    for number, (name, (values, _)) in enumerate(lines.items()):
        aside = 0.5 * ((number + 0.5) / len(lines) - 0.5)
        named = len(lines) <= MAX_NAMED_LINES
        panel.plot(x + aside, values, "o", ms=4, color=None if named else "0.55", label=name if named else None)
    for at, height in zip(x, mean, strict=True):
        if math.isfinite(height):
            box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
            panel.annotate(
                f"{height:.4g}", (at, 0), (0, 4), textcoords="offset points", ha="center", fontsize=8, bbox=box
            )
    category_ticks(panel, [name for _, name in axis.ticks])
    panel.margins(y=0.1)


def _scatter(panel: Axes, axis: Axis, runs: pd.DataFrame, metric: str, others: list[str]) -> None:
    values = runs[metric]
    panel.plot(axis.at, values, "o", ms=3, color="0.7")
    numbers = axis.at[axis.at != axis.none] if axis.none is not None else axis.at
    groups = pd.qcut(numbers, GROUPS, duplicates="drop")
    means, spreads = (getattr(values[numbers.index].groupby(groups, observed=True), kind)() for kind in ("mean", "std"))
    middles = numbers.groupby(groups, observed=True).median()
    panel.errorbar(middles, means, spreads, label="mean of a group", color="0.25", marker="s", lw=3, capsize=4)


def category_ticks(panel: Axes, names: Sequence[str]) -> None:
    """Labels the places 0, 1, 2, ... of categories; slanted if the names together are long."""
    cut = [_cut(name) for name in names]
    slanted = sum(map(len, cut)) > MAX_UPRIGHT
    style: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    panel.set_xticks(range(len(cut)), cut, **style)


def number_ticks(panel: Axes, axis: Axis) -> None:
    """Sets the scale, and labels those values that have room; None always has its label."""
    panel.set_xscale("log" if axis.log else "linear")
    panel.xaxis.set_major_formatter(lambda number, _: f"{number:g}")
    panel.xaxis.set_minor_formatter(NullFormatter())
    if len(axis.ticks) > MAX_LEVELS:
        if axis.none is not None:
            panel.annotate("none", (axis.none, 0), (0, 4), xycoords=("data", "axes fraction"),
                           textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
        return
    at = np.array([position for position, _ in axis.ticks])
    place = np.log(at) if axis.log else at
    distance = TICK_DISTANCE * (place[-1] - place[0])
    kept = [len(at) - 1]
    for i in range(len(at) - 2, -1, -1):
        if place[kept[-1]] - place[i] >= distance:
            kept.append(i)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(at[kept], [axis.ticks[i][1] for i in kept])


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TICK_LENGTH else text[: MAX_TICK_LENGTH - 1] + "…"


@without_math
def importance_figure(
    importances: pd.DataFrame,
    correlations: pd.DataFrame,
    ranks: pd.DataFrame | None = None,
    notes: Mapping[str, str] | None = None,
    footer: str = "",
) -> Figure:
    """Draws for each metric (column) two panels: the importance and the correlation of each hyperparameter.

    Args:
        importances: The importances.
        correlations: Pearson's correlations, drawn as bars.
        ranks: Spearman's correlations, drawn as points.
        notes: Metric -> why it has no importances.
        footer: A text below the panels.
    """
    metrics = list(importances.columns)
    seed = {SEED: f"{SEED} (noise floor)"}
    tables = [importances, correlations, *([] if ranks is None else [ranks])]
    importances, correlations, *rest = (table.rename(index=seed) for table in tables)
    figure = Figure(figsize=(9, (0.7 + 0.32 * len(importances)) * len(metrics) + 0.6), layout="constrained")
    panels = figure.subplots(len(metrics), 2, squeeze=False, sharey="row", sharex="col")
    for (left, right), metric in zip(panels, metrics, strict=True):
        weights = importances[metric].sort_values()
        names = list(weights.index)
        signed = correlations[metric].reindex(names).fillna(0.0)
        left.barh(names, weights.fillna(0.0), color="tab:purple")
        right.barh(names, signed, color=["tab:green" if value > 0 else "tab:red" for value in signed], label="Pearson")
        for table in rest:
            right.plot(table[metric].reindex(names), names, "D", color="0.2", ms=4, label="Spearman")
        right.axvline(0, color="0.3", lw=1)
        left.set_title(metric, loc="left", fontsize=10)
        if metric in (notes or {}):
            left.text(
                0.02, 0.5, textwrap.fill((notes or {})[metric], 48), transform=left.transAxes, va="center", fontsize=8
            )
        for axes in (left, right):
            axes.grid(axis="x", alpha=0.3)
    figure.supxlabel(footer, fontsize=8)
    panels[-1][0].set_xlim(0, 1)
    panels[-1][0].set_xlabel("importance (random forest)")
    panels[-1][1].set_xlim(-1.04, 1.04)
    panels[-1][1].set_xlabel("correlation: Pearson (bars)" + ", Spearman (points)" * bool(rest))
    return figure


def means_table(runs: pd.DataFrame, metrics: list[str], hyperparameters: list[str]) -> pd.DataFrame:
    """Returns the mean of each metric at each value of each hyperparameter, and its standard deviation over seeds.

    One seed has no standard deviation, and its cell is empty.
    """
    rows = []
    for by in hyperparameters:
        axis = category_axis(runs[by])
        columns: dict[str, list[float]] = {}
        for metric in metrics:
            columns[metric], columns[f"{metric} sd over seeds"] = _over_seeds(runs, metric, axis)
        rows += [
            {"hyperparameter": by, "value": level, **{name: column[i] for name, column in columns.items()}}
            for i, (_, level) in enumerate(axis.ticks)
        ]
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


def _settings(
    runs: pd.DataFrame, metric: str, axis: Axis, others: list[str]
) -> dict[str, tuple[list[float], list[float]]]:
    """Returns the mean and standard deviation over seeds at each tick, for each setting of the other parameters."""
    if not others:
        return {}
    grouped = runs[metric].groupby([*(runs[other] for other in others), axis.at], dropna=False)
    at = [position for position, _ in axis.ticks]
    mean, spread = (table.unstack().reindex(columns=at) for table in (grouped.mean(), grouped.std(ddof=1)))
    settings = [setting if isinstance(setting, tuple) else (setting,) for setting in mean.index]
    labels = short_labels(others).values()
    names = [", ".join(f"{n} {as_text(v)}" for n, v in zip(labels, setting, strict=True)) for setting in settings]
    return dict(zip(names, zip(mean.to_numpy().tolist(), spread.to_numpy().tolist(), strict=True), strict=True))


def _over_seeds(runs: pd.DataFrame, metric: str, axis: Axis) -> tuple[list[float], list[float]]:
    """Returns the mean of the metric at each tick, and the standard deviation of the means of each seed."""
    seeds = runs[SEED] if SEED in runs else pd.Series(0, index=runs.index)
    per_seed = runs[metric].groupby([axis.at, seeds]).mean().unstack().reindex([at for at, _ in axis.ticks])
    return per_seed.mean(axis=1).tolist(), per_seed.std(axis=1, ddof=1).tolist()
