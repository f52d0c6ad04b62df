"""A W&B workspace that compares the experiments of a project, by the metrics that mean the same in all their runs."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from genlab.report.board import EXPERIMENT, MAX_PINNED_METRICS, bars, curve, last_sections, newest_runs
from genlab.report.compare.comparability import Key, better_of, metric_of
from genlab.report.compare.folding import Configuration, fold_runs
from genlab.report.compare.runs import select
from genlab.report.compare.wandb_runs import wandb_runs
from genlab.report.wandb_records import picture_keys
from genlab.report.workspace import Layout, config_column, save_workspace, summary_column
from genlab.runs.errors import UsageError
from genlab.suggestions import did_you_mean

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

DEFAULT_NAME = "genlab comparison"
MAX_NAME_LENGTH = 100
TEST, VALIDATION = "test/", "val/"
RECORDED_NUMBERS = ("parameters", "seconds")
"""What metrics are drawn against."""


def save_comparison(path: str, experiments: Sequence[str] = (), name: str | None = None) -> tuple[str, list[str]]:
    """Saves the workspace that compares experiments; returns its URL, and what it leaves out and why.

    Args:
        path: ENTITY/PROJECT, or PROJECT for the entity of the API key.
        experiments: The experiments, which are groups of runs on W&B; all of the project if none is named.
        name: Name of the workspace.

    Raises:
        UsageError: There is no key, no server, no such project or experiment, or nothing that can be compared.
    """
    entity, project, runs = newest_runs(path)
    runs = _of_experiments(runs, experiments, path)
    finished = select(wandb_runs(runs), [], include_early=True).runs
    configurations = fold_runs(finished)
    metrics, others = _comparable(configurations)
    left_out = _left_out(others, configurations)
    if not any(metric.startswith(TEST) for metric in metrics):
        raise UsageError("; ".join(["no test metric compares these runs", *left_out]))
    name = name or f"{DEFAULT_NAME} {', '.join(experiments)}".strip()[:MAX_NAME_LENGTH]
    layout = Layout(
        sections=_sections(metrics, configurations, picture_keys(runs)),
        columns=_columns(metrics),
        groups=list(experiments),
        by_group=True,
    )
    return save_workspace(entity, project, name, layout), left_out


def _of_experiments(runs: list[Any], experiments: Sequence[str], path: str) -> list[Any]:
    groups = {run.group for run in runs if run.group}
    if not groups:
        raise UsageError(f"{path} has no run with a group, which is the name of an experiment")
    for experiment in experiments:
        if experiment not in groups:
            hint = did_you_mean(experiment, groups)
            raise UsageError(f"--compare {experiment}: no run of this group is among the newest of {path}{hint}")
    return [run for run in runs if run.group in (experiments or groups)]


def _comparable(configurations: list[Configuration]) -> tuple[list[str], list[str]]:
    """Returns the metrics of several configurations: those by which all of them compare, and the others."""
    kept: list[str] = []
    others: list[str] = []
    names = {metric for c in configurations for run in c.runs for metric in run.metrics}
    for metric in sorted(name for name in names if name.startswith((TEST, VALIDATION))):
        groups = [c.group(metric) for c in configurations if c.fold(metric) is not None]
        if len(groups) > 1:
            (kept if len(set(groups)) == 1 else others).append(metric)
    return kept, others


def _left_out(metrics: list[str], configurations: list[Configuration]) -> list[str]:
    """Says why test metrics are left out, and which experiments could be compared by them."""
    found: dict[str, list[str]] = defaultdict(list)
    for metric in metrics:
        if metric.startswith(TEST):
            names = _largest_group(metric, configurations)
            hint = f"; --compare {' '.join(names)} compares by them" if len(names) > 1 else ""
            found[f", as they compare runs of {metric_of(metric).scope.text} only{hint}"].append(metric)
    return [f"left out: {', '.join(names)}{reason}" for reason, names in found.items()]


def _largest_group(metric: str, configurations: list[Configuration]) -> list[str]:
    """Returns the largest number of experiments of which all configurations compare by a metric."""
    keys: dict[str, set[Key]] = defaultdict(set)
    for configuration in configurations:
        if configuration.fold(metric) is not None:
            keys[configuration.runs[0].experiment].add(configuration.group(metric))
    groups: dict[Key, list[str]] = defaultdict(list)
    for experiment, own in keys.items():
        if len(own) == 1:
            groups[next(iter(own))].append(experiment)
    largest = max([*groups.values(), []], key=len)
    return sorted(largest)


def _sections(metrics: list[str], configurations: list[Configuration], pictures: list[str]) -> "list[ws.Section]":
    """Returns one section per test metric, then learning curves, pictures and differences between runs."""
    import wandb_workspaces.workspaces as ws

    models = {str(c.keys.get("model")) for c in configurations}
    keys = [EXPERIMENT, *["model"] * (len(models) > 1)]
    recorded = [name for name in RECORDED_NUMBERS if any(c.fact(name) is not None for c in configurations)]
    tests = [
        ws.Section(
            name=metric,
            panels=[*(bars(metric, key) for key in keys), *(_scatter(metric, number) for number in recorded)],
            is_open=True,
        )
        for metric in metrics
        if metric.startswith(TEST)
    ]
    curves = [curve(metric, EXPERIMENT) for metric in metrics if metric.startswith(VALIDATION)]
    return [*tests, *last_sections(curves, pictures)]


def _scatter(metric: str, number: str) -> "wr.ScatterPlot":
    import wandb_workspaces.reports.v2 as wr

    return wr.ScatterPlot(
        title=f"{metric} against {number}", x=wr.SummaryMetric(number), y=wr.SummaryMetric(metric), log_x=True
    )


def _columns(metrics: list[str]) -> list[str]:
    tests = [metric for metric in metrics if metric.startswith(TEST)]
    best_known = [metric for metric in tests if better_of(metric)] or tests
    return [
        "run:group",
        *map(config_column, ("model", "data")),
        *map(summary_column, [*best_known[:MAX_PINNED_METRICS], *RECORDED_NUMBERS]),
    ]
