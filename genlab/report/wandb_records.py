"""Reads a sweep from Weights & Biases through its public API, as the data of a report."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd
from rich.console import Console
from rich.progress import track

from genlab.report.records import (
    ENDED_EARLY,
    FINISHED,
    LOST,
    SweepData,
    diverged,
    epochs_from_one,
    parameter_blocks,
    parameter_scales,
)
from genlab.runs.config import flatten, short_key
from genlab.runs.errors import UsageError, error_message
from genlab.runs.folder import RECORDED

if TYPE_CHECKING:
    import wandb

RUNS_PER_REQUEST = 100
MAX_ROWS = 1000
"""The maximum number of rows of a run's history. W&B samples longer histories."""
THREADS = 16
PICTURE_SUFFIXES = (".png", ".gif", ".jpg")
STEP = "trainer/global_step"
SUMMARIES = ("min", "max", "mean", "best", "last", "first")
"""The kinds of summary that define_metric can store for a metric."""


def connect() -> "wandb.Api":
    """Returns W&B's public API. Never prompts for a key.

    Raises:
        UsageError: There is no key, or no server.
    """
    import wandb

    from genlab.runs.wandb_access import require_wandb

    require_wandb(", or set WANDB_API_KEY")
    try:
        return wandb.Api()
    except wandb.errors.Error as error:
        raise UsageError(f"W&B cannot be used ({error_message(error)})") from error


@contextmanager
def api_errors(what: str, verb: str = "read", hint: str = "check the path and the key") -> Iterator[None]:
    """Converts the errors of W&B's API into UsageErrors.

    Args:
        what: What is read, for the message.
        verb: What is done with it, for the message.
        hint: What to do, for the message.
    """
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    try:
        yield
    except (wandb.errors.Error, WandbApiFailedError, ValueError) as error:
        raise UsageError(f"W&B cannot {verb} {what} ({error_message(error)}); {hint}") from error
    except (TypeError, LookupError, AttributeError) as error:  # W&B's client takes what the server answers for complete
        reason = error_message(error)
        raise UsageError(f"W&B's answer about {what} lacks data ({reason}); {hint}") from error


def load_wandb_sweep(path: str, cache: Path, include_early: bool = False) -> SweepData:
    """Reads all runs of a W&B sweep.

    Args:
        path: ENTITY/PROJECT/ID, PROJECT/ID or ID of the sweep. W&B's settings give the parts that are left out.
        cache: Folder for the pictures. Existing ones are not downloaded again. The links in the returned data are
            relative to a folder beside this one.
        include_early: Whether the runs that were ended early count in charts, means, correlations and importance.

    Raises:
        UsageError: There is no key, no server, or no such sweep, or the sweep has no runs.
    """
    api = connect()
    with api_errors(f"the sweep {path}"):
        sweep = api.sweep(path)
        project, filters = f"{sweep.entity}/{sweep.project}", {"$and": [{"sweep": sweep.id}]}
        runs = list(api.runs(project, filters, per_page=RUNS_PER_REQUEST, lazy=False))
    if not runs:
        raise UsageError(f"the sweep {path} has no runs yet; `wandb agent {path}` creates them")
    parts = read_logs(runs, cache, path)
    table = runs_table(runs)
    metric = sweep.config.get("metric") or {}
    parameters = parameter_blocks(sweep.config.get("parameters"))
    names = [str(name) for name in table["run"]]
    return SweepData(
        name=sweep.name,
        metric=metric.get("name"),
        goal="maximize" if metric.get("goal") == "maximize" else "minimize",
        runs=table,
        histories={name: history for name, (history, _) in zip(names, parts, strict=True)},
        pictures={name: _links(copies, cache) for name, (_, copies) in zip(names, parts, strict=True)},
        links={name: {"W&B": run.url} for name, run in zip(names, runs, strict=True)},
        parameters=list(parameters),
        include_early=include_early,
        scales=parameter_scales(parameters),
    )


def read_logs(runs: Sequence[Any], cache: Path, what: str) -> list[tuple[pd.DataFrame, dict[str, Path | str]]]:
    """Reads the history of each run, and downloads the pictures that it logged last.

    Args:
        runs: The runs of the public API.
        cache: Folder for the pictures. Existing ones are not downloaded again.
        what: What is read, for messages.

    Returns:
        For each run its history, and name -> the copy of the picture, or its URL where the download failed.

    Raises:
        UsageError: W&B does not answer as expected.
    """
    with api_errors(f"the runs of {what}"), ThreadPoolExecutor(THREADS) as pool:
        reading = pool.map(lambda run: (_history(run), _pictures(run, cache / run.id)), runs)
        return list(track(reading, f"reading {what}", len(runs), console=Console(stderr=True), transient=True))


def runs_table(runs: Sequence[Any]) -> pd.DataFrame:
    """Returns a table with one row per run, in the format of records.load_runs."""
    rows = []
    for name, run in zip(_unique_names(runs), runs, strict=True):
        config = config_of(run)
        metrics = numbers(run.summary_metrics)
        seconds = run.summary_metrics.get("seconds", run.summary_metrics.get("_runtime"))
        own = {"run": name, "state": _state(run), "seconds": seconds}
        rows.append({**own, **diverged(metrics), **config, **metrics})
    return pd.DataFrame(rows)


def _state(run: Any) -> str:
    if run.state == "crashed":  # W&B's word for a run without a sign of life
        return LOST
    return ENDED_EARLY if run.state == FINISHED and run.summary_metrics.get("ended_early") else run.state


def config_of(run: Any) -> dict[str, Any]:
    """Returns the config of a run under short dotted keys, with lists as texts."""
    return {short_key(key): str(v) if isinstance(v, list) else v for key, v in flatten(run.config).items()}


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics among logged or summary values, without counters and what a run records beside them."""
    found = {key: _number(value) for key, value in values.items() if not key.startswith("_")}
    others = ("epoch", STEP, *RECORDED)
    return {key: value for key, value in found.items() if value is not None and key not in others}


def media_files(value: Any) -> list[str]:
    """Returns the picture files of a value in a run's summary, without those that would leave the run's folder."""
    if not isinstance(value, dict) or "_type" not in value:
        return []
    files = value.get("filenames") or [value.get("path")]
    pictures = [PurePosixPath(str(name)) for name in files if str(name).endswith(PICTURE_SUFFIXES)]
    return [str(path) for path in pictures if not path.is_absolute() and ".." not in path.parts]


def picture_keys(runs: Sequence[Any]) -> list[str]:
    """Returns the keys of the pictures that the runs of the public API logged, sorted."""
    return sorted({key for run in runs for key, value in run.summary_metrics.items() if media_files(value)})


def _number(value: Any) -> float | None:
    """Converts a value of W&B: it writes NaN and infinity as texts, and summaries of define_metric as {"min": 0.1}."""
    if isinstance(value, dict):
        return next((_number(value[kind]) for kind in SUMMARIES if kind in value), None)
    if value in ("NaN", "Infinity", "-Infinity") or (isinstance(value, int | float) and not isinstance(value, bool)):
        return float(value)
    return None


def _unique_names(runs: Sequence[Any]) -> list[str]:
    """Returns the names of the runs, with the id appended where a name is empty or not unique."""
    counts = Counter(run.name for run in runs)
    return [run.name if run.name and counts[run.name] == 1 else f"{run.name or ''} {run.id}".strip() for run in runs]


def _history(run: Any) -> pd.DataFrame:
    """Returns a table with the columns step, epoch, seconds and the metrics, and one row per logging event.

    It has no seconds if rows lack them.
    """
    rows = [
        {
            "step": row.get(STEP, row["_step"]),
            "epoch": row.get("epoch", math.nan),
            "seconds": row.get("_runtime", math.nan),
            **numbers(row),
        }
        for row in run.history(samples=MAX_ROWS, pandas=False)
    ]
    table = epochs_from_one(pd.DataFrame(rows, dtype=float))
    return table.drop(columns="seconds") if rows and table["seconds"].isna().any() else table


def _pictures(run: Any, folder: Path) -> dict[str, Path | str]:
    """Downloads the pictures that the run logged last; returns their copies, or URLs where the download failed.

    They have the names that their files have in the folder of a run.
    """
    named = {}
    for key, value in run.summary_metrics.items():
        for place, file in enumerate(media_files(value)):
            ending = PurePosixPath(file).suffix
            name = key.removeprefix("media/") + (f" {place + 1}" if place else "")
            named[file] = name + ("" if ending == ".png" else ending)
    if not named:
        return {}
    found = {file.name: file for file in run.files(names=list(named))}
    return {named[name]: _download(file, folder) for name, file in found.items() if name in named}


def _links(copies: Mapping[str, Path | str], cache: Path) -> list[str]:
    """Returns links to pictures, relative to a folder beside the cache."""
    return sorted(
        quote(f"../{copy.relative_to(cache.parent).as_posix()}") if isinstance(copy, Path) else copy
        for copy in copies.values()
    )


def _download(file: Any, folder: Path) -> Path | str:
    import wandb

    try:
        file.download(root=str(folder), exist_ok=True).close()
    except wandb.errors.Error:
        return file.url
    return folder / file.name
