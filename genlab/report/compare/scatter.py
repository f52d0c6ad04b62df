"""A scatter chart of a comparison: a metric against any number or category, colored and divided by keys."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from genlab.report.axes import Axis, is_log, levels_of, numbers_of, value_axis
from genlab.report.charts import category_ticks, number_ticks, without_math
from genlab.report.compare.comparability import Better, better_of, metric_of
from genlab.report.compare.folding import FINGERPRINTS, Configuration, varying_keys
from genlab.report.compare.pareto import pareto_front
from genlab.report.compare.quantities import Chart, column, deviations, is_drawn, is_key, is_metric
from genlab.report.compare.rendering import ARROWS
from genlab.report.compare.runs import TIMED
from genlab.report.records import ENDED_EARLY, as_text
from genlab.runs.short_names import last_word
from genlab.words import counted

MAX_PANELS = 12
PANELS_IN_ROW = 3
MAX_COLORS = 10
MAX_NUMBERED = 12  # members of a Pareto front
MAX_TITLE = 52
GREY = "0.7"
PALETTE: Any = colormaps["tab10"]
SCALE: Any = colormaps["plasma"]


@without_math
def scatter(configurations: Sequence[Configuration], chart: Chart) -> Figure:
    """Draws the chart: a point for each configuration, with bars of one standard deviation over seeds.

    Values that do not compare with each other have panels of their own. Of many panels the first ones are drawn, and a
    line says how many are not.

    Args:
        configurations: The configurations, in the order of the table.
        chart: What is drawn.
    """
    points = _points(configurations, chart)
    panels = _panels(configurations, points, chart)
    shown = panels[:MAX_PANELS]
    columns = min(PANELS_IN_ROW, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(4.2 * columns + 1.8, 3.6 * rows + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in axes[len(shown) :]:
        panel.set_visible(False)
    x = value_axis(points["x"])
    points = points.assign(at=x.at, color=_add_colors(figure, axes, points["colour"], chart.colour))
    if not x.categorical:
        _set_axes(axes, configurations, points, [members for _, members in shown], x, chart)
    for panel, (title, members) in zip(axes, shown, strict=False):
        _draw_panel(panel, points.loc[members], x, chart)
        panel.set_title(title if len(title) <= MAX_TITLE else f"{title[: MAX_TITLE - 1]}…", fontsize=9, loc="left")
        panel.set_xlabel(_label(chart.x))
        panel.set_ylabel(_label(chart.y))
    width = round(28 * figure.get_size_inches()[0] / 2)
    figure.supxlabel(textwrap.fill(_notes(len(configurations), points, panels, chart), width), fontsize=8)
    return figure


def _points(configurations: Sequence[Configuration], chart: Chart) -> pd.DataFrame:
    """Returns a row for each configuration that has x and y, by its number."""
    measured = [name for name in (chart.y, chart.x, chart.colour) if name and is_metric(configurations, name)]
    empty = pd.Series([None] * len(configurations), dtype=object)
    points = pd.DataFrame(
        {
            "x": column(configurations, chart.x),
            "y": pd.to_numeric(column(configurations, chart.y)),
            "x_deviation": deviations(configurations, chart.x),
            "y_deviation": deviations(configurations, chart.y),
            "colour": column(configurations, chart.colour) if chart.colour else empty,
            "facet": column(configurations, chart.facet) if chart.facet else empty,
            "group": [tuple(c.group(name) for name in measured) for c in configurations],
            "hardware": column(configurations, "hardware"),
            "early": [any(run.state == ENDED_EARLY for run in c.runs) for c in configurations],
        }
    )
    return points[is_drawn(configurations, chart)]


def _panels(configurations: Sequence[Configuration], points: pd.DataFrame, chart: Chart) -> list[tuple[str, list[int]]]:
    """Returns the title and the configurations of each panel: of each value of the facet those that compare."""
    panels = []
    for level in levels_of(points["facet"]):
        there = points[points["facet"].map(as_text) == level]
        facet = f"{last_word(chart.facet)} {level}" if chart.facet else ""
        groups: dict[Any, list[int]] = {}
        for index, group in there["group"].items():
            groups.setdefault(group, []).append(int(str(index)))
        for members in sorted(groups.values(), key=len, reverse=True):
            own = _describe(configurations, members, list(there.index)) if len(groups) > 1 else ""
            panels.append((", ".join(filter(None, (facet, own))), members))
    return panels


def _describe(configurations: Sequence[Configuration], members: list[int], others: list[int]) -> str:
    """Names what some configurations have in common, in distinction from the others: data MNIST."""
    keys = [key for key in varying_keys([configurations[i] for i in others]) if key not in FINGERPRINTS]
    inside = [configurations[i] for i in members]
    common = [key for key in keys if len({str(c.keys.get(key)) for c in inside}) == 1]
    outside = [configurations[i] for i in others if i not in members]
    alone = [key for key in common if all(str(c.keys.get(key)) != str(inside[0].keys.get(key)) for c in outside)]
    return ", ".join(f"{last_word(key)} {as_text(column(inside, key)[0])}" for key in alone[:1] or common[:2])


def _set_axes(
    axes: list[Axes],
    configurations: Sequence[Configuration],
    points: pd.DataFrame,
    panels: list[list[int]],
    x: Axis,
    chart: Chart,
) -> None:
    """Sets scales and limits; panels whose values compare have the same ones."""
    scales = {"x": (chart.x, "at", x.log), "y": (chart.y, "y", is_log(points["y"]))}
    for axis, (name, place, log) in scales.items():
        groups = [configurations[p[0]].group(name) if is_metric(configurations, name) else None for p in panels]
        for panel, group in zip(axes, groups, strict=False):
            same = [index for members, found in zip(panels, groups, strict=True) if found == group for index in members]
            limits = _limits(points[place][same], points[f"{axis}_deviation"][same].fillna(0), log)
            panel.set(**{f"{axis}scale": "log" if log else "linear", f"{axis}lim": limits})
            if axis == "x" and is_key(configurations, name):
                number_ticks(panel, x)
            elif log:
                one = panel.xaxis if axis == "x" else panel.yaxis
                one.set_major_locator(LogLocator(subs=(1, 2, 5)))
                one.set_major_formatter(lambda number, _: f"{number:g}")
                one.set_minor_formatter(NullFormatter())


def _limits(values: pd.Series, deviations: pd.Series, log: bool) -> tuple[float, float]:
    """Returns limits with room for the values and their bars."""
    ends = pd.concat([values, values - deviations, values + deviations])
    ends = np.log(ends[ends > 0]) if log else ends
    room = 0.05 * (ends.max() - ends.min()) or 0.05 * abs(ends.max()) or 1.0
    low, high = float(ends.min() - room), float(ends.max() + room)
    return (math.exp(low), math.exp(high)) if log else (low, high)


def _add_colors(figure: Figure, axes: list[Axes], values: pd.Series, name: str | None) -> pd.Series:
    """Returns the color of each configuration, and explains them: a color bar for numbers, a legend for categories."""
    if name is None:
        return pd.Series([PALETTE(0)] * len(values), index=values.index)
    numbers = numbers_of(values)
    if numbers is not None:
        norm = (LogNorm if is_log(numbers) else Normalize)(numbers.min(), numbers.max())
        figure.colorbar(ScalarMappable(norm, SCALE), ax=axes, label=last_word(name), format="%g", aspect=30)
        return pd.Series([GREY if math.isnan(n) else SCALE(norm(n)) for n in numbers], index=values.index)
    texts = values.map(as_text)
    frequent = list(texts.value_counts().index[: MAX_COLORS if texts.nunique() <= MAX_COLORS else MAX_COLORS - 1])
    colors = {level: PALETTE(i) for i, level in enumerate(level for level in levels_of(values) if level in frequent)}
    rest = texts.nunique() - len(colors)
    legend = colors | ({f"{rest} others": GREY} if rest else {})
    handles = [Line2D([], [], color=color, marker="o", ls="", label=text) for text, color in legend.items()]
    figure.legend(handles=handles, title=last_word(name), loc="outside right upper", fontsize=8)
    return texts.map(lambda text: colors.get(text, GREY))


def _draw_panel(panel: Axes, points: pd.DataFrame, x: Axis, chart: Chart) -> None:
    at = _bars(panel, points, x) if x.categorical else points["at"]
    panel.errorbar(
        at, points["y"], points["y_deviation"], points["x_deviation"], fmt="none", ecolor="0.5", elinewidth=1, capsize=2
    )
    for marker, chosen in (("o", ~points["early"]), ("X", points["early"])):
        panel.scatter(
            at[chosen],
            points["y"][chosen],
            c=list(points["color"][chosen]),
            marker=marker,
            s=32,
            ec="w",
            lw=0.6,
            zorder=3,
        )
    if chart.better:
        _draw_front(panel, points[points["at"] != x.none], chart.better)
    panel.grid(alpha=0.3)


def _draw_front(panel: Axes, points: pd.DataFrame, better: tuple[Better, Better]) -> None:
    """Draws the step line of the Pareto front, with the numbers of the table's rows if there is room."""
    front = points.iloc[pareto_front(list(zip(points["at"], points["y"], strict=True)), better)]
    panel.step(front["at"], front["y"], where="post", color="0.15", lw=1.3, zorder=2)
    for index, at, y in zip(front.index, front["at"], front["y"], strict=True) if len(front) <= MAX_NUMBERED else ():
        panel.annotate(str(index + 1), (at, y), (4, 4), textcoords="offset points", fontsize=8)


def _bars(panel: Axes, points: pd.DataFrame, x: Axis) -> pd.Series:
    """Draws a bar of the mean for each category, and returns the places of its points, side by side on it."""
    levels = sorted(points["at"].unique())
    names = dict(x.ticks)
    panel.bar(
        range(len(levels)), [points["y"][points["at"] == level].mean() for level in levels], width=0.75, color="0.88"
    )
    category_ticks(panel, [names[level] for level in levels])
    at = points["at"].map(levels.index).astype(float)
    place = points.groupby("at").cumcount() + 0.5
    return at + 0.6 * (place / points.groupby("at")["at"].transform("size") - 0.5)


def _label(name: str) -> str:
    known = metric_of(name) if "/" in name else None
    return " ".join(filter(None, (name, known.unit if known else "", ARROWS[better_of(name)])))


def _notes(count: int, points: pd.DataFrame, panels: list[tuple[str, list[int]]], chart: Chart) -> str:
    notes = ["A point for each configuration; bars: one standard deviation over seeds, and one seed has none."]
    if value_axis(points["x"]).categorical:
        notes.append("Grey bars: the mean of their points.")
    if points["group"].nunique() > 1:
        notes.append("Only configurations that compare share a panel.")
    timed = [name for name in (chart.x, chart.y, chart.colour) if name in TIMED]
    if timed and points["hardware"].nunique() > 1:
        kinds = f"and there are {points['hardware'].nunique()} kinds"
        notes.append(f"{', '.join(timed)}: compares on equal hardware only, {kinds}.")
    if points["early"].any():
        notes.append("Crosses: ended early.")
    if len(points) < count:
        notes.append(f"Configurations without all numbers of the chart: {count - len(points)}.")
    if chart.better:
        directions = f"{chart.better[0]} {chart.x}, {chart.better[1]} {chart.y}"
        notes.append(f"Line: Pareto front ({directions}); the numbers are those of the table's rows.")
    if len(panels) > MAX_PANELS:
        left = sum(len(members) for _, members in panels[MAX_PANELS:])
        notes.append(
            f"Not shown: {counted(len(panels) - MAX_PANELS, 'more panel')} with"
            f" {counted(left, 'configuration')}; use --where."
        )
    return " ".join(notes)
