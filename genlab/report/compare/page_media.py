"""What runs logged in training, their histories and pictures, for the page of a comparison."""

import base64
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from genlab.report.compare.comparability import metric_of
from genlab.report.compare.folding import Configuration
from genlab.report.compare.runs import Run
from genlab.report.curves import learning_curves
from genlab.report.records import PICTURE_TYPES, picture_files, read_history
from genlab.report.wandb_records import read_logs
from genlab.runs.errors import UsageError

MAX_EMBEDDED = 50 * 2**20
"""The largest size of all pictures in a page, in bytes."""


@dataclass
class Logged:
    """What runs logged in training.

    Args:
        histories: Their histories.
        pictures: Their pictures, by name.
        embed: Whether a page contains the pictures; otherwise it links them.
    """

    histories: dict[Run, pd.DataFrame] = field(default_factory=dict)
    pictures: dict[Run, dict[str, Path]] = field(default_factory=dict)
    embed: bool = False


def read_logged(runs: Sequence[Run], embed: bool, root: Path) -> Logged:
    """Reads what runs logged: from their folders, or from W&B.

    Args:
        runs: The runs.
        embed: Whether a page shall contain the pictures.
        root: The folder of all runs; the pictures of W&B's runs are copied to wandb/ in it.

    Raises:
        UsageError: W&B cannot be read, or the pictures that a page shall contain are too large.
    """
    local = [(run, run.folder) for run in runs if run.folder]
    logged = Logged(
        {run: read_history(f / "metrics.csv") for run, f in local}, {run: picture_files(f) for run, f in local}, embed
    )
    projects = defaultdict(list)
    for run in runs:
        if run.remote:
            projects[run.remote.entity, run.remote.project].append(run)
    for (entity, project), of_project in projects.items():
        logs = read_logs(
            [run.remote for run in of_project], root / "wandb" / f"{entity}_{project}", f"{entity}/{project}"
        )
        for run, (history, pictures) in zip(of_project, logs, strict=True):
            logged.histories[run] = history
            logged.pictures[run] = {name: copy for name, copy in pictures.items() if isinstance(copy, Path)}
    if embed:
        _check_size([path for pictures in logged.pictures.values() for path in pictures.values()])
    return logged


def _check_size(pictures: Sequence[Path]) -> None:
    size = sum(path.stat().st_size for path in pictures)
    if size > MAX_EMBEDDED:
        raise UsageError(
            f"--embed-pictures: the pictures have {size / 2**20:.0f} MiB, and a page may contain"
            f" {MAX_EMBEDDED / 2**20:.0f} MiB; choose fewer runs with --where, or leave the option out to link them"
        )


def pictures_of(runs: Sequence[Run], logged: Logged, folder: Path) -> dict[str, dict[int, str]]:
    """Returns name of a picture -> index of a run -> its address, relative to the folder of the page."""
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for index, run in enumerate(runs):
        for name, path in logged.pictures.get(run, {}).items():
            found[name][index] = _data(path) if logged.embed else quote(os.path.relpath(path, folder))
    return dict(sorted(found.items()))


def _data(path: Path) -> str:
    return f"data:{PICTURE_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def curves_of(configurations: Sequence[Configuration], logged: Logged) -> dict[str, Any]:
    """Returns the learning curves by the index of the run, and which configurations compare by each metric.

    The entry `scopes` has for each metric what runs must have in common, and an index of `groups`. There, equal numbers
    are configurations that compare.
    """
    runs = [run for configuration in configurations for run in configuration.runs]
    histories = {str(index): logged.histories[run] for index, run in enumerate(runs) if run in logged.histories}
    curves = learning_curves(histories, list(histories))
    groups: dict[tuple[int, ...], int] = {}
    scopes = {}
    for metric in curves["metrics"]:
        kinds: dict[Any, int] = {}
        of_metric = tuple(kinds.setdefault(c.group(metric), len(kinds)) for c in configurations)
        scopes[metric] = {"text": metric_of(metric).scope.text, "groups": groups.setdefault(of_metric, len(groups))}
    return {**curves, "scopes": scopes, "groups": list(groups)}
