"""A W&B project's charts as a saved workspace: what sweep.py report draws, where the runs are."""

import hashlib
import itertools
from dataclasses import dataclass
from typing import Any

import pandas as pd
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces.workspaces.errors import SpecVersionError

from genlab.report.records import varied
from genlab.report.wandb_runs import PAGE, asking, connect, media_files, runs_table
from genlab.runs.errors import UsageError
from genlab.runs.wandb_access import one_line

NAME = "genlab"
MOST_READ = 500
"""Runs of the project that are looked at, the newest."""
MOST_VALUES = 12
"""A key with more values is not grouped by."""
MOST_LINES = 100
MOST_RUNS = 1000
KNOWN_METRICS = ["test/accuracy", "test/mse"]
KNOWN_CURVES = ["val/accuracy", "val/mse", "train/loss", "train/mse"]
KNOWN_KEYS = ["model.latent_dim", "model.depth", "model.mlp_width", "model.freeze_encoder"]
KNOWN_PICTURES = [
    f"media/{name}"
    for name in (
        "reconstructions",
        "samples",
        "samples_mixture",
        "interpolation",
        "latent",
        "latent_correlation",
        "latent_plane",
        "traversals",
        "combinations",
        "combinations_by_hue",
        "class_grid",
        "translations",
        "color_confusion",
        "color_confusion_ab",
        "color_confusion_ba",
        "curves",
    )
]


@dataclass
class Contents:
    """What a project's runs hold.

    Args:
        metrics: measured on the test set -> the config keys that were varied among the runs that have it.
        curves: likewise for what is logged during training and validation.
        groups: of all keys, those with few enough values to group by.
        pictures: media keys.
    """

    metrics: dict[str, list[str]]
    curves: dict[str, list[str]]
    groups: set[str]
    pictures: list[str]


def save_board(path: str, name: str | None = None) -> str:
    """Saves the workspace and returns its address.

    A workspace that was saved under this name before gets the new sections; its address, filters and settings stay.

    Args:
        path: ENTITY/PROJECT, or PROJECT of the key's own entity.
        name: of the workspace.

    Raises:
        UsageError: no key, no server, or no such project.
    """
    api = connect()
    with asking(f"the project {path}"):
        entity, project = _parse(path, api)
        runs = api.runs(f"{entity}/{project}", order="-created_at", per_page=PAGE, lazy=False)
        newest = list(itertools.islice(runs, MOST_READ))
    found = sections(contents(newest))
    with asking(f"the workspaces of {path}"):
        board = _saved(entity, project, name or NAME)
        board.sections = found
        return board.save().url


def contents(runs: list[Any]) -> Contents:
    """What there is to draw; genlab's own names for what the runs do not tell."""
    table = runs_table(runs)
    experiments = [run.group or "" for run in runs]
    metrics = _varied(table, experiments, ("test/",)) or dict.fromkeys(KNOWN_METRICS, KNOWN_KEYS)
    curves = _varied(table, experiments, ("val/", "train/")) or dict.fromkeys(KNOWN_CURVES, KNOWN_KEYS)
    keys = {key for found in (*metrics.values(), *curves.values()) for key in found}
    pictures = {key for run in runs for key, value in run.summary_metrics.items() if media_files(value)}
    return Contents(
        metrics,
        curves,
        groups={key for key in keys if key not in table or table[key].nunique() <= MOST_VALUES},
        pictures=sorted(pictures) or KNOWN_PICTURES,
    )


def _varied(table: pd.DataFrame, experiments: list[str], prefixes: tuple[str, ...]) -> dict[str, list[str]]:
    """Metric -> the keys that differ within an experiment; between experiments nearly all do."""
    found = {}
    for metric in sorted(name for name in table.columns if name.startswith(prefixes)):
        parts = [part for _, part in table.groupby(experiments) if part[metric].notna().any()]
        keys = [key for part in parts for key in varied(part[part[metric].notna()])]
        found[metric] = list(dict.fromkeys(keys))
    return found if any(found.values()) else dict.fromkeys(found, KNOWN_KEYS)


def sections(found: Contents) -> list[ws.Section]:
    """A section a test metric, then learning curves, pictures and what differs between runs."""
    metrics = [
        ws.Section(
            name=metric,
            panels=[
                wr.ParameterImportancePlot(with_respect_to=metric),
                _coordinates(metric, keys),
                *(_bars(metric, key) for key in keys if key in found.groups),
            ],
            is_open=True,
        )
        for metric, keys in found.metrics.items()
    ]
    curves: list[Any] = [
        _curve(metric, key) for metric, keys in found.curves.items() for key in keys if key in found.groups
    ]
    pictures: list[Any] = [
        wr.MediaBrowser(title=key, media_keys=[key], mode="gallery", gallery_axis="run", num_columns=2)
        for key in found.pictures
    ]
    return [
        *metrics,
        ws.Section(name="Learning curves", panels=curves, is_open=True),
        ws.Section(name="Pictures", panels=pictures, is_open=True),
        ws.Section(name="Differences", panels=[wr.RunComparer(diff_only="split")]),
    ]


class ConfigColumn(wr.ParallelCoordinatesPlotColumn):
    """A config key with dots of its own, which the library takes for a path into nested values."""

    def _to_model(self) -> Any:
        assert isinstance(self.metric, wr.Config)
        column = super()._to_model()
        column.accessor = f"config:{self.metric.name}.value"
        return column


def _coordinates(metric: str, keys: list[str]) -> wr.ParallelCoordinatesPlot:
    columns = [ConfigColumn(metric=wr.Config(key), display_name=_short(key)) for key in keys]
    last = wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(metric))
    return wr.ParallelCoordinatesPlot(title=metric, columns=[*columns, last])


def _bars(metric: str, key: str) -> wr.BarPlot:
    return wr.BarPlot(
        title=f"{metric} by {_short(key)}",
        metrics=[metric],
        orientation="v",
        groupby=f"{key}.value",
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        max_runs_to_show=MOST_RUNS,
    )


def _curve(metric: str, key: str) -> wr.LinePlot:
    return wr.LinePlot(
        title=f"{metric} by {_short(key)}",
        x="epoch",
        y=[metric],
        groupby=f"{key}.value",
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        max_runs_to_show=MOST_LINES,
    )


def _saved(entity: str, project: str, name: str) -> ws.Workspace:
    """The workspace of this name, or a new one.

    W&B finds a view by an id that the client chose, so the id is made from the name.
    """
    view = hashlib.sha256(f"{entity}/{project}/{name}".encode()).hexdigest()[:11]
    try:
        return ws.Workspace.from_url(f"https://wandb.ai/{entity}/{project}?nw={view}")
    except ValueError as error:
        if "not found in project" not in str(error):
            raise
    except SpecVersionError as error:
        raise UsageError(f"the workspace {name!r} cannot be changed ({one_line(error)}); give another name") from error
    board = ws.Workspace(entity=entity, project=project, name=name)
    board._internal_name = f"nw-{view}-v"
    return board


def _parse(path: str, api: Any) -> tuple[str, str]:
    *entity, project = path.strip("/").split("/")
    if len(entity) > 1 or not project:
        raise UsageError(f"{path!r} names no project; give ENTITY/PROJECT")
    return entity[0] if entity else api.default_entity, project


def _short(key: str) -> str:
    return key.rpartition(".")[2]
