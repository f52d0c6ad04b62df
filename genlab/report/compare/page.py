"""The page of a comparison: one self-contained HTML file with the table, the charts and their data."""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from genlab.report.axes import short_classes
from genlab.report.compare.comparability import Key, better_of, metric_of
from genlab.report.compare.comparison import of_all_metrics
from genlab.report.compare.folding import Configuration, label_of, varying_keys
from genlab.report.compare.page_media import Logged, curves_of, pictures_of
from genlab.report.compare.quantities import Chart
from genlab.report.compare.rendering import html_table, legend
from genlab.report.compare.runs import FACTS, Run
from genlab.report.compare.table import Cell, Row, Table
from genlab.report.records import ENDED_EARLY
from genlab.report.self_contained import PAGE, axis, rounded, write_self_contained
from genlab.runs.config import SEED
from genlab.runs.short_names import short_labels

OWN = Path(__file__).parent / "page"
SHARED_SCRIPTS = ("common.js", "address.js", "axes.js", "data_table.js", "curve_lines.js")
SCRIPTS = (
    "selection.js",
    "quantities.js",
    "table.js",
    "colouring.js",
    "pareto.js",
    "scatter_axes.js",
    "scatter.js",
    "curves.js",
    "media.js",
    "main.js",
)


def write_page(tables: Sequence[Table], title: str, path: Path, logged: Logged, chart: Chart | None = None) -> Path:
    """Writes the page. Without JavaScript it shows the tables as they are in the other files.

    Args:
        tables: The tables of the comparison.
        title: The title of the page.
        path: The HTML file.
        logged: What the runs logged in training.
        chart: What the scatter chart shows first.
    """
    full = of_all_metrics(tables)
    is_pivot = tables[0].keys != full.keys or bool(tables[0].title)
    static = "\n".join(map(html_table, tables))
    return write_self_contained(
        path,
        title,
        OWN / "compare.html",
        [*(PAGE / name for name in SHARED_SCRIPTS), *(OWN / name for name in SCRIPTS)],
        page_data(full, tables, is_pivot, path, logged, chart),
        [OWN / "compare.css"],
        static=f'<div class="panel">{static}</div>',
        pivots=static if is_pivot else "",
        pivots_hidden="" if is_pivot else " hidden",
    )


def page_data(
    full: Table, tables: Sequence[Table], is_pivot: bool, path: Path, logged: Logged, chart: Chart | None = None
) -> dict[str, Any]:
    """Returns the data of the page as JSON values.

    Args:
        full: The table of all configurations, a row for each, with all their metrics.
        tables: The tables of the comparison.
        is_pivot: Whether the tables have other rows than the configurations.
        path: The HTML file, to which links are relative.
        logged: What the runs logged in training.
        chart: What the scatter chart shows first.
    """
    configurations = [row.configurations[0] for row in full.rows]
    runs = [(index, run) for index, c in enumerate(configurations) for run in c.runs]
    indexed = [run for _, run in runs]
    numbers = {run: number for number, run in enumerate(indexed)}
    shown = {column.metric for table in tables for column in table.columns}
    groups: dict[Key, int] = {}
    return {
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "notes": [
            *filter(None, [legend(full).replace("* best of those", "bold: best of the shown ones")]),
            *(full if is_pivot else tables[0]).notes,
        ],
        "metrics": [_metric(column.metric, column.metric in shown) for column in full.columns],
        "keys": _keys(configurations, full.keys),
        "facts": [{"name": name, "better": better_of(name)} for name in full.facts],
        "chart": asdict(chart) if chart else {},
        "configurations": [_configuration(row, full, numbers, groups) for row in full.rows],
        "runs": [_run(index, run, path.parent) for index, run in runs],
        "media": pictures_of(indexed, logged, path.parent),
        "embedded": logged.embed,
        "curves": curves_of(configurations, logged),
    }


def _metric(name: str, is_shown: bool) -> dict[str, Any]:
    """A metric: its better direction or null, its unit, what values must have in common, whether it is shown first."""
    known = metric_of(name)
    return {"name": name, "better": known.better, "unit": known.unit, "scope": known.scope.text, "shown": is_shown}


def _keys(configurations: Sequence[Configuration], telling: Sequence[str]) -> list[dict[str, Any]]:
    """The config keys that vary, those that tell the configurations apart first: the value of each configuration."""
    keys = list(dict.fromkeys([*telling, *varying_keys(configurations)]))
    labels = short_labels(keys)
    columns = {key: short_classes(pd.Series([c.keys.get(key) for c in configurations], dtype=object)) for key in keys}
    return [{**axis(columns[key]), "key": key, "label": labels[key], "telling": key in telling} for key in keys]


def _configuration(row: Row, full: Table, numbers: dict[Run, int], groups: dict[Key, int]) -> dict[str, Any]:
    """A configuration: its metrics, facts, and the indices of its runs. Equal numbers of group compare."""
    [configuration] = row.configurations
    cells = zip(full.columns, row.cells, strict=True)
    return {
        "name": label_of(full.keys, row.values),
        "runs": [numbers[run] for run in configuration.runs],
        "seeds": row.seeds,
        "early": any(run.state == ENDED_EARLY for run in configuration.runs),
        "baseline": configuration is full.baseline,
        "facts": {name: _fact(configuration.fact(name)) for name in full.facts},
        "metrics": {c.metric: _cell(cell, groups) for c, cell in cells if cell is not None},
    }


def _cell(cell: Cell, groups: dict[Key, int]) -> dict[str, Any]:
    fold, change = cell.fold, cell.difference
    return {
        "mean": rounded(fold.mean),
        "deviation": rounded(fold.deviation),
        "values": [rounded(value) for value in fold.values],
        "group": groups.setdefault(cell.group, len(groups)),
        **({"best": True} if cell.best else {}),
        **({"difference": [rounded(v) for v in (change.value, change.low, change.high)]} if change else {}),
    }


def _run(configuration: int, run: Run, folder: Path) -> dict[str, Any]:
    """A run: the index of its configuration, its name, metrics and facts, and a link to its folder."""
    return {
        "configuration": configuration,
        "name": str(run),
        "experiment": run.experiment,
        "state": run.state,
        "seed": run.config.get(SEED),
        "facts": {name: _fact(run.facts[name]) for name in FACTS if name in run.facts},
        "metrics": {name: rounded(value) for name, value in run.metrics.items()},
        **({} if run.folder is None else {"folder": quote(os.path.relpath(run.folder, folder)) + "/"}),
    }


def _fact(value: Any) -> Any:
    return rounded(value) if isinstance(value, int | float) else value
