"""The charts of a W&B project as a saved workspace: the same charts as in a report, on W&B's website."""

import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from genlab.report.compare.comparability import better_of
from genlab.report.records import varied
from genlab.report.wandb_records import RUNS_PER_REQUEST, api_errors, connect, picture_keys, runs_table
from genlab.report.workspace import Layout, config_column, save_workspace, summary_column
from genlab.runs.errors import UsageError
from genlab.runs.short_names import last_word

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

DEFAULT_NAME = "genlab"
EXPERIMENT = "experiment"
"""Stands for the group of a run where panels are grouped by a config key."""
MAX_RUNS_READ = 500
"""The number of runs, the newest of the project, that decide what is drawn."""
MAX_GROUPS = 12
"""A config key with more values is not used to group runs."""
MAX_PINNED_KEYS = 12
MAX_PINNED_METRICS = 6
MAX_LINES = 100
MAX_RUNS = 1000
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
    """What can be drawn of a project's runs.

    Args:
        metrics: Test metric -> the config keys that vary among the runs that have it.
        curves: The same for the metrics that are logged in training and validation.
        groups: The config keys with few enough values to group runs.
        pictures: Media keys.
    """

    metrics: dict[str, list[str]]
    curves: dict[str, list[str]]
    groups: set[str]
    pictures: list[str]


def save_board(path: str, name: str | None = None) -> str:
    """Saves the workspace of a project and returns its URL.

    Args:
        path: ENTITY/PROJECT, or PROJECT for the entity of the API key.
        name: Name of the workspace.

    Raises:
        UsageError: There is no key, no server, or no such project, or the server has no workspaces.
    """
    entity, project, runs = newest_runs(path)
    found = contents(runs)
    return save_workspace(entity, project, name or DEFAULT_NAME, Layout(sections(found), pinned_columns(found)))


def newest_runs(path: str) -> tuple[str, str, list[Any]]:
    """Returns the entity and the name of a project, and its newest runs.

    Raises:
        UsageError: There is no key, no server, or no such project.
    """
    api = connect()
    with api_errors(f"the project {path}"):
        entity, project = _parse(path, api)
        runs = api.runs(f"{entity}/{project}", order="-created_at", per_page=RUNS_PER_REQUEST, lazy=False)
        return entity, project, list(itertools.islice(runs, MAX_RUNS_READ))


def contents(runs: list[Any]) -> Contents:
    """Returns what can be drawn of the runs; the names that genlab logs by default where there are no runs."""
    table = runs_table(runs)
    experiments = [run.group or "" for run in runs]
    metrics = _varied(table, experiments, ("test/",)) or dict.fromkeys(KNOWN_METRICS, KNOWN_KEYS)
    curves = _varied(table, experiments, ("val/", "train/")) or dict.fromkeys(KNOWN_CURVES, KNOWN_KEYS)
    keys = {key for found in (*metrics.values(), *curves.values()) for key in found}
    return Contents(
        metrics,
        curves,
        groups={key for key in keys if key not in table or table[key].nunique() <= MAX_GROUPS},
        pictures=picture_keys(runs) or KNOWN_PICTURES,
    )


def pinned_columns(contents: Contents) -> list[str]:
    """Returns the columns of the table of runs that come first: what varies in an experiment, then test metrics."""
    keys = dict.fromkeys(key for found in contents.metrics.values() for key in found)
    metrics = [metric for metric in contents.metrics if better_of(metric)] or list(contents.metrics)
    return [
        *map(config_column, itertools.islice(keys, MAX_PINNED_KEYS)),
        *map(summary_column, metrics[:MAX_PINNED_METRICS]),
    ]


def _varied(table: pd.DataFrame, experiments: list[str], prefixes: tuple[str, ...]) -> dict[str, list[str]]:
    """Returns metric -> the keys that vary within an experiment; between experiments, nearly all keys vary."""
    found = {}
    for metric in sorted(name for name in table.columns if name.startswith(prefixes)):
        parts = [part for _, part in table.groupby(experiments) if part[metric].notna().any()]
        keys = [key for part in parts for key in varied(part[part[metric].notna()])]
        found[metric] = list(dict.fromkeys(keys))
    return found if any(found.values()) else dict.fromkeys(found, KNOWN_KEYS)


def sections(contents: Contents) -> "list[ws.Section]":
    """Returns one section per test metric, then learning curves, pictures and differences between runs."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    metrics = [
        ws.Section(
            name=metric,
            panels=[
                wr.ParameterImportancePlot(with_respect_to=metric),
                _parallel_coordinates(metric, keys),
                *(bars(metric, key) for key in keys if key in contents.groups),
            ],
            is_open=True,
        )
        for metric, keys in contents.metrics.items()
    ]
    curves: list[Any] = [
        curve(metric, key) for metric, keys in contents.curves.items() for key in keys if key in contents.groups
    ]
    return [*metrics, *last_sections(curves, contents.pictures)]


def last_sections(curves: list[Any], pictures: list[str]) -> "list[ws.Section]":
    """Returns the sections with learning curves, with the pictures of all runs, and with differences between runs."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    media: list[Any] = [
        wr.MediaBrowser(title=key, media_keys=[key], mode="gallery", gallery_axis="run", num_columns=2)
        for key in pictures
    ]
    return [
        ws.Section(name="Learning curves", panels=curves, is_open=True),
        ws.Section(name="Pictures", panels=media, is_open=True),
        ws.Section(name="Differences", panels=[wr.RunComparer(diff_only="split")]),
    ]


@functools.cache
def _config_column() -> "type[wr.ParallelCoordinatesPlotColumn]":
    """Returns the column class for a dotted config key, which wandb-workspaces takes for a path of nested keys."""
    import wandb_workspaces.reports.v2 as wr

    class ConfigColumn(wr.ParallelCoordinatesPlotColumn):
        def _to_model(self) -> Any:
            assert isinstance(self.metric, wr.Config)
            column = super()._to_model()
            column.accessor = config_column(self.metric.name)
            return column

    return ConfigColumn


def _parallel_coordinates(metric: str, keys: list[str]) -> "wr.ParallelCoordinatesPlot":
    import wandb_workspaces.reports.v2 as wr

    columns = [_config_column()(metric=wr.Config(key), display_name=last_word(key)) for key in keys]
    last = wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(metric))
    return wr.ParallelCoordinatesPlot(title=metric, columns=[*columns, last])


def bars(metric: str, key: str) -> "wr.BarPlot":
    """Returns a bar chart of the mean and deviation of a metric by a config key, or by group."""
    import wandb_workspaces.reports.v2 as wr

    return wr.BarPlot(
        title=f"{metric} by {last_word(key)}",
        metrics=[metric],
        orientation="v",
        groupby=_grouping(key),
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        max_runs_to_show=MAX_RUNS,
    )


def curve(metric: str, key: str) -> "wr.LinePlot":
    """Returns the learning curves of a metric by a config key, or by group."""
    import wandb_workspaces.reports.v2 as wr

    return wr.LinePlot(
        title=f"{metric} by {last_word(key)}",
        x="epoch",
        y=[metric],
        groupby=_grouping(key),
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        max_runs_to_show=MAX_LINES,
    )


def _grouping(key: str) -> "wr.Metric | str":
    """Returns how a panel is grouped by a config key, which may contain dots, or by EXPERIMENT."""
    import wandb_workspaces.reports.v2 as wr

    return wr.Metric("Group") if key == EXPERIMENT else f"{key}.value"


def _parse(path: str, api: Any) -> tuple[str, str]:
    *entity, project = path.strip("/").split("/")
    if len(entity) > 1 or not project:
        raise UsageError(f"{path!r} is not the path of a project; give ENTITY/PROJECT")
    return entity[0] if entity else api.default_entity, project
