"""Reads the runs of a sweep from its folder: a table of runs, their histories and pictures."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from genlab.packaged import command_for_sweep
from genlab.runs.clock import SECONDS, read_seconds
from genlab.runs.config import SEED, UNNAMED_OPTIONS, short_key
from genlab.runs.errors import UsageError
from genlab.runs.folder import read_summary, why_lost
from genlab.yaml_files import read_yaml

FINISHED = "finished"
ENDED_EARLY = "ended early"
"""The state in a report of a finished run whose training was ended by the sweep's early termination."""
LOST = "lost"
"""The state in a report of a run that is marked as running, but whose process is gone."""
PICTURE_TYPES = {".png": "image/png", ".gif": "image/gif", ".jpg": "image/jpeg"}
"""The endings of the pictures of a run, and their media types."""


@dataclass
class SweepData:
    """The data of a report, read from run folders or from W&B.

    Args:
        name: Name of the sweep.
        metric: The metric that the sweep optimizes; None if it is unknown.
        goal: minimize or maximize.
        runs: The table of runs that load_runs returns.
        histories: Run -> table of step, epoch and metrics, with one row per logging event and NaN in empty cells.
        pictures: Run -> links to pictures, relative to the report's folder or absolute URLs.
        links: Run -> further links, by the text that is shown.
        parameters: The config keys that are parameters of the sweep, if they are known.
        include_early: Whether the runs that were ended early count in charts, means, correlations and importance.
        scales: Parameter -> log or linear, where the sweep's distribution tells it.
    """

    name: str
    metric: str | None
    goal: str
    runs: pd.DataFrame
    histories: dict[str, pd.DataFrame]
    pictures: dict[str, list[str]]
    links: dict[str, dict[str, str]] = field(default_factory=dict)
    parameters: list[str] = field(default_factory=list)
    include_early: bool = False
    scales: dict[str, str] = field(default_factory=dict)

    @property
    def counted_states(self) -> list[str]:
        return [FINISHED, ENDED_EARLY] if self.include_early else [FINISHED]

    @property
    def counted(self) -> pd.DataFrame:
        """The runs that count in charts, means, correlations and importance."""
        return self.runs[self.runs["state"].isin(self.counted_states)]


def load_sweep(folder: Path, include_early: bool = False) -> SweepData:
    """Reads all runs of an experiment's folder. The links are relative to the folder report/ in it.

    Args:
        folder: The folder of the experiment.
        include_early: Whether the runs that were ended early count in charts, means, correlations and importance.

    Raises:
        UsageError: The folder contains no run.
    """
    runs = load_runs(folder)
    names = [str(name) for name in runs["run"]]
    definition = _definition(folder / "sweep.yaml")
    metric = definition.get("metric")
    metric = metric if isinstance(metric, dict) else {}
    parameters = parameter_blocks(definition.get("parameters"))
    return SweepData(
        name=folder.resolve().name,
        metric=str(metric["name"]) if metric.get("name") else None,
        goal="maximize" if metric.get("goal") == "maximize" else "minimize",
        runs=runs,
        histories={name: read_history(folder / name / "metrics.csv") for name in names},
        pictures={name: _pictures(folder / name) for name in names},
        links={name: _links(folder, name) for name in names},
        parameters=list(parameters),
        include_early=include_early,
        scales=parameter_scales(parameters),
    )


def parameter_blocks(parameters: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the short key of each of a sweep's parameters, which may be nested, and its block."""
    found: dict[str, Any] = {}
    for key, value in parameters.items() if isinstance(parameters, dict) else ():
        inner = value.get("parameters") if isinstance(value, dict) else None
        found |= parameter_blocks(inner, f"{prefix}{key}.") if inner else {short_key(f"{prefix}{key}"): value}
    return found


def parameter_scales(blocks: Mapping[str, Any]) -> dict[str, str]:
    """Returns the scale, log or linear, of each parameter whose distribution in the sweep tells one.

    Args:
        blocks: The `parameter_blocks` of the sweep.
    """
    found = {}
    for key, block in blocks.items():
        distribution = str(block.get("distribution", "")) if isinstance(block, dict) else ""
        if distribution.endswith(("uniform", "uniform_values", "normal", "beta")):
            found[key] = "log" if "log" in distribution else "linear"
    return found


def load_runs(folder: Path) -> pd.DataFrame:
    """Reads the runs of an experiment's folder into a table with one row per run.

    The columns are run, state, seconds, then config and metrics under their dotted keys. If runs failed, there is a
    column error, and if metrics are not finite, a column diverged with their names. A finished run that its sweep ended
    early has the state `ended early`, and a running one whose process is gone the state `lost`.

    Raises:
        UsageError: The folder contains no run.
    """
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("[!.]*/summary.json")):
        try:
            rows.append(_row(path, read_summary(path.parent)))
        except (AttributeError, TypeError, ValueError):
            rows.append({"run": path.parent.name, "state": "unknown", "error": "summary.json cannot be read"})
    if not rows:
        command = command_for_sweep(folder.name)
        hint = f"`{command}` creates them" if command else "give the folder of an experiment, such as runs/quickstart"
        if (folder / "summary.json").is_file():
            raise UsageError(f"{folder} is one run; give the folder of its experiment, {folder.resolve().parent}")
        raise UsageError(f"{folder} contains no runs; {hint}")
    return pd.DataFrame(rows)


def _row(path: Path, summary: dict[str, Any] | None) -> dict[str, Any]:
    if summary is None:
        raise ValueError("no summary")
    seconds = summary.get("seconds")
    row = {
        "run": path.parent.name,
        "state": state_of(path.parent, summary),
        "seconds": None if seconds is None else float(seconds),
    }
    config = {k: _cell(v) for k, v in summary.get("config", {}).items()}
    metrics = {k: float(v) for k, v in summary.get("metrics", {}).items()}  # NaN and infinity are texts in JSON
    error = None
    if summary.get("state") != FINISHED:
        error = why_lost(path.parent, summary) or summary.get("error") or _last_line(path.with_name("error.txt"))
    return {**row, **({"error": str(error)} if error else {}), **diverged(metrics), **config, **metrics}


def state_of(folder: Path, summary: Mapping[str, Any]) -> Any:
    """Returns the state of a run in a report: that of its summary, `ended early` or `lost`."""
    ended_early = summary.get("state") == FINISHED and summary.get("ended_early")
    return LOST if why_lost(folder, summary) else ENDED_EARLY if ended_early else summary.get("state") or "unknown"


def diverged(metrics: Mapping[str, float]) -> dict[str, str]:
    """Returns the column diverged of a run: the names of its metrics that are not finite, if there are any."""
    names = sorted(name for name, value in metrics.items() if not math.isfinite(value))
    return {"diverged": " ".join(names)} if names else {}


def read_history(path: Path) -> pd.DataFrame:
    """Reads metrics.csv without the damaged lines of a killed process; returns an empty table without such a file.

    Epochs count from 1. A column seconds has the time since the start of the run, if it was recorded.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return pd.DataFrame()
    whole = text[: text.rfind("\n") + 1].replace("\0", "")
    lines = list(csv.reader(io.StringIO(whole)))  # seven times as fast as pandas.read_csv on a thousand small files
    if not lines:
        return pd.DataFrame()
    whole_lines = [place for place, line in enumerate(lines[1:]) if len(line) == len(lines[0])]
    rows = [[_number(cell) for cell in lines[1 + place]] for place in whole_lines]
    table = epochs_from_one(pd.DataFrame(rows, columns=lines[0], dtype=float))
    seconds = pd.Series(read_seconds(path.with_name(SECONDS)), dtype=float)
    if seconds.empty:
        return table
    return table.assign(seconds=seconds.reindex(whole_lines).ffill().to_numpy())  # a killed run may lack the last one


def epochs_from_one(history: pd.DataFrame) -> pd.DataFrame:
    """Adds 1 to the epochs of a history that counts them from 0, as those of earlier versions do.

    Test metrics keep theirs: the number of completed epochs.
    """
    of_test = history[[name for name in history.columns if name.startswith("test/")]].notna().any(axis=1)
    if "epoch" not in history or history.loc[~of_test, "epoch"].min() != 0:
        return history
    return history.assign(epoch=history["epoch"] + ~of_test)


def varied(runs: pd.DataFrame, parameters: Sequence[str] = ()) -> list[str]:
    """Returns the config keys that vary between runs, without the seed and without keys that only repeat another key.

    Args:
        runs: The table of runs.
        parameters: The parameters of the sweep. They come first, and are kept even if they repeat another key.
    """
    moved = moved_together(runs, parameters)
    return [key for key in _varying(runs, parameters) if key in parameters or key not in moved]


def moved_together(runs: pd.DataFrame, parameters: Sequence[str] = ()) -> dict[str, str]:
    """Returns each varying config key that repeats another one, so that no chart can tell them apart, and that one."""
    keys, found = _varying(runs, parameters), dict[str, str]()
    for i, key in enumerate(keys):
        other = next((other for other in keys[:i] if _same_grouping(runs, key, other)), None)
        if other is not None:
            found[key] = other
    return found


def _varying(runs: pd.DataFrame, parameters: Sequence[str]) -> list[str]:
    own = [key for key in parameters if key in runs.columns]
    groups = ("model", "data", "trainer.", "encoder.")
    rest = [k for k in runs.columns if k.startswith(groups) and not k.startswith(UNNAMED_OPTIONS)]
    return [k for k in dict.fromkeys([*own, *rest]) if k != SEED and runs[k].nunique(dropna=False) > 1]


def as_text(value: Any) -> str:
    """Formats a value for display; never as the empty text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'


def _same_grouping(runs: pd.DataFrame, a: str, b: str) -> bool:
    """Returns whether two keys group the runs alike, and sort them alike or inversely if their values are numbers."""
    pairs = runs[[a, b]].drop_duplicates()
    if not len(pairs) == runs[a].nunique(dropna=False) == runs[b].nunique(dropna=False):
        return False
    numbers = pairs.apply(pd.to_numeric, errors="coerce").dropna()
    if len(numbers) < len(pairs):
        return True
    ordered = numbers.sort_values(a)[b]
    return ordered.is_monotonic_increasing or ordered.is_monotonic_decreasing


def _definition(path: Path) -> dict[str, Any]:
    """Reads the sweep's YAML; returns an empty dict if it does not exist or cannot be read."""
    try:
        raw = read_yaml(path, "sweep")
    except UsageError:
        return {}
    return raw if isinstance(raw, dict) else {}


def _pictures(run: Path) -> list[str]:
    return [f"../{quote(path.relative_to(run.parent).as_posix())}" for path in picture_files(run).values()]


def picture_files(run: Path) -> dict[str, Path]:
    """Returns the pictures in media/ of a run's folder by their names there, without those that lead out of it."""
    media = run / "media"
    inside = media.resolve()
    return {
        path.relative_to(media).as_posix().removesuffix(".png"): path
        for path in sorted(media.rglob("*"))
        if path.suffix in PICTURE_TYPES and path.is_file() and path.resolve().is_relative_to(inside)
    }


def _links(folder: Path, name: str) -> dict[str, str]:
    links = {"folder": f"../{quote(name)}/"}
    if (folder / "logs" / f"{name}.txt").is_file():
        links["log"] = f"../logs/{quote(name)}.txt"
    if (folder / name / "error.txt").is_file():
        links["error"] = f"../{quote(name)}/error.txt"
    return links


def _last_line(path: Path) -> str | None:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return None
    return next((line.strip() for line in reversed(lines) if line.strip()), None)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _cell(value: Any) -> Any:
    return str(value) if isinstance(value, list | dict) else value
