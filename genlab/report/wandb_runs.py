"""Runs of Weights & Biases read back through its public API, in the form that reports are made of."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import wandb
import wandb.errors
from rich.console import Console
from rich.progress import track
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from genlab.report.records import SweepData, parameter_names
from genlab.runs.config import flatten
from genlab.runs.errors import UsageError
from genlab.runs.wandb_access import need_wandb, one_line

PAGE = 100
"""Runs in one request."""
MOST_ROWS = 1000
"""Rows of a run's history; W&B samples longer ones."""
THREADS = 16
PICTURES = (".png", ".gif", ".jpg")
STEP = "trainer/global_step"
SUMMARIES = ("min", "max", "mean", "best", "last", "first")
"""What define_metric can make of a metric in the summary."""


def connect() -> wandb.Api:
    """W&B's public API; never asks for a key.

    Raises:
        UsageError: there is no key to use, or no server.
    """
    need_wandb(", or set WANDB_API_KEY")
    try:
        return wandb.Api()
    except wandb.errors.Error as error:
        raise UsageError(f"W&B cannot be used ({one_line(error)})") from error


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turns what W&B's API raises when it is asked for something into a UsageError."""
    try:
        yield
    except (wandb.errors.Error, WandbApiFailedError, ValueError) as error:
        raise UsageError(f"W&B does not give {what} ({one_line(error)}); check the path and the key") from error


def load_wandb_sweep(path: str, cache: Path) -> SweepData:
    """All that W&B knows of a sweep's runs, with links that hold from a folder beside `cache`.

    Args:
        path: ENTITY/PROJECT/ID, PROJECT/ID or ID; W&B's settings complete it.
        cache: where the pictures go; those that are there are not fetched again.

    Raises:
        UsageError: no key, no server, no such sweep, or a sweep without runs.
    """
    api = connect()
    with asking(f"the sweep {path}"):
        sweep = api.sweep(path)
        place, ours = f"{sweep.entity}/{sweep.project}", {"$and": [{"sweep": sweep.id}]}
        runs = list(api.runs(place, ours, per_page=PAGE, lazy=False))
    if not runs:
        raise UsageError(f"the sweep {path} has no runs yet; `wandb agent {path}` makes them")
    with asking(f"the runs of {path}"), ThreadPoolExecutor(THREADS) as pool:
        reading = pool.map(lambda run: (_history(run), _pictures(run, cache)), runs)
        shown = track(reading, f"reading {path}", len(runs), console=Console(stderr=True), transient=True)
        parts = list(shown)
    table = runs_table(runs)
    metric = sweep.config.get("metric") or {}
    names = [str(name) for name in table["run"]]
    return SweepData(
        name=sweep.name,
        metric=metric.get("name"),
        goal="maximize" if metric.get("goal") == "maximize" else "minimize",
        runs=table,
        histories={name: history for name, (history, _) in zip(names, parts, strict=True)},
        pictures={name: links for name, (_, links) in zip(names, parts, strict=True)},
        links={name: {"W&B": run.url} for name, run in zip(names, runs, strict=True)},
        parameters=parameter_names(sweep.config.get("parameters") or {}),
    )


def runs_table(runs: Sequence[Any]) -> pd.DataFrame:
    """One row a run, as records.load_runs makes them from run folders."""
    rows = []
    for name, run in zip(_unique_names(runs), runs, strict=True):
        config = {key: str(v) if isinstance(v, list) else v for key, v in flatten(run.config).items()}
        metrics = numbers(run.summary_metrics)
        seconds = run.summary_metrics.get("_runtime")
        rows.append({"run": name, "state": run.state, "seconds": seconds, **config, **metrics})
    return pd.DataFrame(rows)


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The metrics among what was logged or is in a summary, without W&B's and Lightning's own counters."""
    found = {key: _number(value) for key, value in values.items() if not key.startswith("_")}
    return {key: value for key, value in found.items() if value is not None and key not in ("epoch", STEP)}


def media_files(value: Any) -> list[str]:
    """The picture files of something in a run's summary."""
    if not isinstance(value, dict) or "_type" not in value:
        return []
    files = value.get("filenames") or [value.get("path")]
    return [str(name) for name in files if str(name).endswith(PICTURES)]


def _number(value: Any) -> float | None:
    """W&B writes 'NaN' and 'Infinity' as words, and what define_metric keeps as {"min": 0.1}."""
    if isinstance(value, dict):
        return next((_number(value[kind]) for kind in SUMMARIES if kind in value), None)
    if value in ("NaN", "Infinity", "-Infinity") or (isinstance(value, int | float) and not isinstance(value, bool)):
        return float(value)
    return None


def _unique_names(runs: Sequence[Any]) -> list[str]:
    """What the runs are called; those that share a name, and those without one, by their ids as well."""
    counts = Counter(run.name for run in runs)
    return [run.name if run.name and counts[run.name] == 1 else f"{run.name or ''} {run.id}".strip() for run in runs]


def _history(run: Any) -> pd.DataFrame:
    """Columns step, epoch and metrics; one row a logging event."""
    rows = [
        {"step": row.get(STEP, row["_step"]), "epoch": row.get("epoch", math.nan), **numbers(row)}
        for row in run.history(samples=MOST_ROWS, pandas=False)
    ]
    return pd.DataFrame(rows, dtype=float)


def _pictures(run: Any, cache: Path) -> list[str]:
    """Links to the pictures that the run logged last, fetched into the cache; to W&B where that failed."""
    names = [name for value in run.summary_metrics.values() for name in media_files(value)]
    if not names:
        return []
    return [_fetched(file, cache / run.id) for file in run.files(names=names)]


def _fetched(file: Any, folder: Path) -> str:
    try:
        file.download(root=str(folder), exist_ok=True).close()
    except wandb.errors.Error:
        return file.url
    return f"../{quote(folder.parent.name)}/{quote(folder.name)}/{quote(file.name)}"
