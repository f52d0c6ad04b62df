"""What a chart of a comparison can show: metrics, recorded numbers such as seconds, and config keys."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from genlab.report.axes import numbers_of, short_classes
from genlab.report.compare.comparability import Better, better_of
from genlab.report.compare.folding import Configuration, varying_keys
from genlab.report.compare.runs import FACTS, find_key
from genlab.report.compare.table import Table
from genlab.runs.config import SEED
from genlab.runs.errors import UsageError


@dataclass(frozen=True)
class Chart:
    """What a scatter chart shows, by whole names.

    Args:
        x, y: What is on the axes.
        colour: What gives the points their colors.
        facet: What divides the points into panels.
        better: The better directions of x and y, if the Pareto front is drawn.
    """

    x: str
    y: str
    colour: str | None = None
    facet: str | None = None
    better: tuple[Better, Better] | None = None


def choose_chart(
    tables: Sequence[Table],
    x: str,
    colour: str | None = None,
    facet: str | None = None,
    pareto: bool = False,
    better: Sequence[str] = (),
) -> Chart:
    """Returns a chart of the first metric of tables, and of what a user names by whole names or their ends, such as lr.

    Args:
        tables: The tables of the comparison.
        x, colour, facet: What else the chart shows.
        pareto: Whether the Pareto front is drawn.
        better: Texts such as latent_dim=lower, for numbers of which the better direction is not known.

    Raises:
        UsageError: A name does not exist, or a better direction is not known.
    """
    if not tables[0].columns:
        raise UsageError(f"--x {x}: there is no metric to draw; name one with --metric")
    configurations = [c for row in tables[0].rows for c in row.configurations]
    y = tables[0].columns[0].metric
    told = dict(_direction(configurations, text) for text in better)
    across = _find(configurations, x, "--x")
    colour = _find(configurations, colour, "--colour") if colour else None
    facet = _find(configurations, facet, "--facet") if facet else None
    if not any(is_drawn(configurations, Chart(across, y, colour))):
        raise UsageError(
            f"no configuration has all numbers of the chart: {', '.join(filter(None, (y, across, colour)))}"
        )
    if pareto and numbers_of(column(configurations, across)) is None:
        raise UsageError(f"--pareto needs numbers, and {across} has texts; choose another --x, such as seconds")
    return Chart(across, y, colour, facet, (_better(across, told), _better(y, told)) if pareto else None)


def _find(configurations: Sequence[Configuration], asked: str, option: str) -> str:
    if asked in (SEED, "seed"):
        raise UsageError(f"{option} {asked}: seeds are folded to a mean; choose another key, such as model")
    names = {name for c in configurations for name in (*c.keys, *FACTS, *(m for run in c.runs for m in run.metrics))}
    found = find_key(names, asked, option)
    if is_key(configurations, found) and found not in varying_keys(configurations):
        raise UsageError(f"{option} {asked}: all configurations have the same {found}; choose a key that varies")
    return found


def _direction(configurations: Sequence[Configuration], text: str) -> tuple[str, Better]:
    name, _, direction = text.rpartition("=")
    if not name or direction not in ("lower", "higher"):
        raise UsageError(f"--better {text}: give NAME=lower or NAME=higher")
    return _find(configurations, name, "--better"), "lower" if direction == "lower" else "higher"


def _better(name: str, told: Mapping[str, Better]) -> Better:
    direction = told.get(name) or better_of(name)
    if direction is None:
        raise UsageError(
            f"--pareto: neither direction of {name} is known to be better; add --better {name}=lower (or =higher)"
        )
    return direction


def is_drawn(configurations: Sequence[Configuration], chart: Chart) -> pd.Series:
    """Returns whether each configuration has y, x and the metric of the color. No value of a config key has a place."""
    needed = [chart.y] if is_key(configurations, chart.x) else [chart.y, chart.x]
    if chart.colour and is_metric(configurations, chart.colour):
        needed.append(chart.colour)
    return pd.concat([column(configurations, name).notna() for name in needed], axis=1).all(axis=1)


def is_metric(configurations: Sequence[Configuration], name: str) -> bool:
    return any(name in run.metrics for c in configurations for run in c.runs)


def is_key(configurations: Sequence[Configuration], name: str) -> bool:
    return any(name in c.keys for c in configurations)


def column(configurations: Sequence[Configuration], name: str) -> pd.Series:
    """Returns the value of each configuration, None for a missing one; classes have their short names."""
    return short_classes(pd.Series([_value(c, name) for c in configurations], dtype=object))


def _value(configuration: Configuration, name: str) -> Any:
    if name in FACTS:
        return configuration.fact(name)
    fold = configuration.fold(name)
    return fold.mean if fold else configuration.keys.get(name)


def deviations(configurations: Sequence[Configuration], name: str) -> pd.Series:
    """Returns the deviation over seeds of each configuration; NaN for one seed, and for what is no metric."""
    folds = [c.fold(name) for c in configurations]
    return pd.Series([math.nan if fold is None or fold.deviation is None else fold.deviation for fold in folds])
