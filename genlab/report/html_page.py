"""The report of a sweep as one self-contained HTML page."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from genlab.report.curves import learning_curves
from genlab.report.records import SweepData, as_text, varied
from genlab.report.self_contained import PAGE, axis, rounded, write_self_contained
from genlab.runs.config import SEED
from genlab.runs.short_names import short_labels

SCRIPTS = (
    "common.js",
    "address.js",
    "axes.js",
    "data_table.js",
    "runs.js",
    "header.js",
    "importance.js",
    "parallel.js",
    "grouped.js",
    "curve_lines.js",
    "curves.js",
    "table.js",
    "main.js",
)
MAX_ERROR_LENGTH = 4000


def write_page(
    data: SweepData,
    tables: Mapping[str, pd.DataFrame],
    hyperparameters: list[str],
    path: Path,
    moved: Mapping[str, str] | None = None,
    reasons: Mapping[str, str] | None = None,
) -> Path:
    """Writes the page.

    Args:
        data: The runs of the sweep.
        tables: Metric -> its relations to the hyperparameters. The user can choose among these metrics; the first one
            is shown first.
        hyperparameters: The config keys that vary between the runs that count.
        path: The HTML file.
        moved: Config key -> the hyperparameter with which it moved, so that no chart can tell the two apart.
        reasons: Metric -> why it has no importances.
    """
    shown = page_data(data, tables, hyperparameters, moved or {}, reasons or {})
    return write_self_contained(path, data.name, PAGE / "page.html", [PAGE / name for name in SCRIPTS], shown)


def page_data(
    data: SweepData,
    tables: Mapping[str, pd.DataFrame],
    hyperparameters: list[str],
    moved: Mapping[str, str],
    reasons: Mapping[str, str],
) -> dict[str, Any]:
    """Returns the data of the page as JSON values. Lists of values per run are in the order of the table of runs."""
    runs, counted, metrics = data.runs, data.counted, list(tables)
    names = [str(name) for name in runs["run"]]
    shown = hyperparameters or varied(runs, data.parameters)
    seeds = [SEED] if SEED in counted and counted[SEED].nunique() > 1 else []
    labels = short_labels([*shown, *seeds])
    rest = [c for c in counted.columns if c.startswith(("train/", "val/", "test/")) and c not in metrics]
    return {
        "name": data.name,
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "metric": data.metric if data.metric in metrics else None,
        "goal": data.goal,
        "metrics": metrics,
        "seed": SEED if seeds else None,
        "hyperparameters": [
            {**axis(runs[key], data.scales.get(key)), "key": key, "label": labels[key]} for key in [*shown, *seeds]
        ],
        "parameters": data.parameters,
        "moved": dict(moved),
        "reasons": dict(reasons),
        "values": {name: [rounded(v) for v in runs[name]] for name in [*metrics, *rest]},
        "relations": {metric: _rows(table) for metric, table in tables.items()},
        "runs": names,
        "states": [as_text(state) for state in runs["state"]],
        "counted": data.counted_states,
        "seconds": [rounded(seconds) for seconds in runs["seconds"]],
        "errors": _errors(runs),
        "diverged": [
            text.split() if isinstance(text, str) else [] for text in runs.get("diverged", [None] * len(runs))
        ],
        "links": [{k: v for k, v in data.links.get(name, {}).items() if _is_safe_link(v)} for name in names],
        "pictures": [[link for link in data.pictures.get(name, []) if _is_safe_link(link)] for name in names],
        "curves": learning_curves(data.histories, list(map(str, counted["run"]))),
    }


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": value, **{str(name): rounded(number) for name, number in row.items()}}
        for (key, value), row in zip(table.index, table.to_dict("records"), strict=True)
    ]


def _errors(runs: pd.DataFrame) -> list[str | None]:
    if "error" not in runs:
        return [None] * len(runs)
    return [error[:MAX_ERROR_LENGTH] if isinstance(error, str) else None for error in runs["error"]]


def _is_safe_link(link: str) -> bool:
    return urlsplit(link).scheme in ("", "http", "https")
