"""A chart of one metric of a comparison: bars of means, with a point for each seed."""

import io
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from genlab.report.charts import without_math
from genlab.report.compare.comparability import Key, metric_of
from genlab.report.compare.folding import label_of
from genlab.report.compare.rendering import ARROWS
from genlab.report.compare.table import Cell, Table

MAX_BARS = 200
HEIGHT_OF_BAR = 0.3


@without_math
def bars(table: Table, metric: str) -> Figure:
    """Draws the values of a metric as bars. Values that do not compare with each other have panels of their own.

    Args:
        table: The table.
        metric: One of its metrics.
    """
    panels: dict[Key, list[tuple[str, Cell]]] = {}
    several = sum(column.metric == metric for column in table.columns) > 1
    for row in table.rows:
        name = label_of(table.keys, row.values)
        for column, cell in zip(table.columns, row.cells, strict=True):
            if column.metric == metric and cell is not None:
                label = f"{name}, {column.title}" if several else name
                panels.setdefault(cell.group, []).append((label, cell))
    heights = [1 + HEIGHT_OF_BAR * len(cells) for cells in panels.values()]
    figure = Figure(figsize=(8, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for panel, cells in zip(axes, panels.values(), strict=True):
        _panel(panel, cells[:MAX_BARS])
    known = metric_of(metric)
    axes[-1].set_xlabel(" ".join(part for part in (metric, known.unit, ARROWS[known.better]) if part))
    best = any(cell.best for cells in panels.values() for _, cell in cells)
    figure.suptitle("a point for each seed" + "; green: best of those that compare" * best, fontsize=9)
    return figure


def _panel(axes: Axes, cells: list[tuple[str, Cell]]) -> None:
    colours: Any = colormaps["tab10"]
    places = range(len(cells))
    axes.barh(places, [cell.fold.mean for _, cell in cells], color=[colours(2 if c.best else 0) for _, c in cells])
    for place, (_, cell) in zip(places, cells, strict=True):
        values = cell.fold.values
        axes.plot(values, [place] * len(values), "o", ms=4, mfc="white", mec="0.2")
    axes.set_yticks(places, [label for label, _ in cells])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)


@without_math
def picture(figure: Figure, suffix: str) -> bytes:
    """Returns a figure as PNG or SVG."""
    file = io.BytesIO()
    key = "Software" if suffix == "png" else "Date"
    figure.savefig(file, format=suffix, metadata={key: "genlab" if suffix == "png" else None})
    return file.getvalue()
