"""The report of a sweep as one self-contained HTML page, which contains plotly.js and all data and loads nothing."""

import base64
import hashlib
import html
import json
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from plotly.offline import get_plotlyjs

from genlab.report.axes import is_log, levels_of, numbers_of
from genlab.report.charts import short_name
from genlab.report.curves import learning_curves
from genlab.report.records import SEED, SweepData, as_text, varied
from genlab.runs.folder import write_atomically

PAGE = Path(__file__).parent / "page"
SCRIPTS = (
    "common.js",
    "address.js",
    "header.js",
    "importance.js",
    "parallel.js",
    "grouped.js",
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
    """Writes the page. Its content security policy allows only scripts with the given hashes.

    Args:
        data: The runs of the sweep.
        tables: Metric -> its relations to the hyperparameters. The user can choose among these metrics; the first one
            is shown first.
        hyperparameters: The config keys that vary between the runs that count.
        path: The HTML file.
        moved: Config key -> the hyperparameter with which it moved, so that no chart can tell the two apart.
        reasons: Metric -> why it has no importances.
    """
    plotly = get_plotlyjs()
    script = "".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    text = Template((PAGE / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(data.name),
        hashes=" ".join(_hash(text) for text in (plotly, script)),
        style=(PAGE / "page.css").read_text(encoding="utf-8"),
        data=_json(page_data(data, tables, hyperparameters, moved or {}, reasons or {})),
        plotly=plotly,
        script=script,
    )
    write_atomically(path, text.encode("utf-8", "xmlcharrefreplace").decode("utf-8"))
    return path


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
        "values": {name: [_number(v) for v in runs[name]] for name in [*metrics, *rest]},
        "relations": {metric: _rows(table) for metric, table in tables.items()},
        "runs": names,
        "states": [as_text(state) for state in runs["state"]],
        "counted": data.counted_states,
        "seconds": [_number(seconds) for seconds in runs["seconds"]],
        "errors": _errors(runs),
        "diverged": [
            text.split() if isinstance(text, str) else [] for text in runs.get("diverged", [None] * len(runs))
        ],
        "links": [{k: v for k, v in data.links.get(name, {}).items() if _is_safe_link(v)} for name in names],
        "pictures": [[link for link in data.pictures.get(name, []) if _is_safe_link(link)] for name in names],
        "curves": learning_curves(data.histories, list(map(str, counted["run"]))),
    }


def axis(column: pd.Series, scale: str | None = None) -> dict[str, Any]:
    """Returns the sorted values of a hyperparameter, the index of each run's value, and `numbers` if it is numeric.

    Args:
        column: The value of each run.
        scale: The scale in the sweep, log or linear; None if the sweep does not tell.
    """
    levels = levels_of(column)
    at = {text: i for i, text in enumerate(levels)}
    numbers = numbers_of(column)
    return {
        "levels": levels,
        "at": [at[as_text(value)] for value in column],
        "numbers": None if numbers is None else [_number(v) for v in numbers],
        "log": numbers is not None and is_log(numbers, scale),
    }


def short_labels(keys: Iterable[str]) -> dict[str, str]:
    """Returns the last word of each key, or the whole key where several keys have the same last word."""
    keys = list(keys)
    names = [short_name(key) for key in keys]
    return {key: name if names.count(name) == 1 else key for key, name in zip(keys, names, strict=True)}


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": value, **{str(name): _number(number) for name, number in row.items()}}
        for (key, value), row in zip(table.index, table.to_dict("records"), strict=True)
    ]


def _errors(runs: pd.DataFrame) -> list[str | None]:
    if "error" not in runs:
        return [None] * len(runs)
    return [error[:MAX_ERROR_LENGTH] if isinstance(error, str) else None for error in runs["error"]]


def _is_safe_link(link: str) -> bool:
    return urlsplit(link).scheme in ("", "http", "https")


def _number(value: Any) -> float | None:
    """Rounds a number to six digits; returns None for a missing or infinite value."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def _json(value: Any) -> str:
    """Returns JSON without `<`, so that it cannot end the script element around it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
