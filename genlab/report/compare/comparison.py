"""Compares the runs of several experiments: chooses them, folds their seeds, and builds the table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genlab.report.compare.comparability import CLASSIFIER, metric_of
from genlab.report.compare.folding import Configuration, fold_runs, telling_keys
from genlab.report.compare.runs import UNRECORDED, Run, Selection, find_key, select, short_text, without_copies
from genlab.report.compare.table import Column, Table, build, comparable_metrics, sort_key
from genlab.report.records import FINISHED
from genlab.runs.config import SEED
from genlab.runs.errors import UsageError
from genlab.suggestions import did_you_mean
from genlab.words import counted

SPLITS = ("test/", "val/", "train/")
MAX_NAMED_RUNS = 4
MAX_COLUMNS = 40


@dataclass
class Question:
    """What is asked about the runs.

    Args:
        rows: The config key that names the rows; None for a row for each configuration.
        columns: The config key that names the columns; None for a column for each metric.
        metrics: The metrics; none for all test metrics by which the configurations compare.
        baseline: A run, to whose configuration the differences are given.
        where: Filters such as `model=VAE`.
        include_early: Whether runs that were ended early are compared too.
    """

    rows: str | None = None
    columns: str | None = None
    metrics: list[str] = field(default_factory=list)
    baseline: str | None = None
    where: list[str] = field(default_factory=list)
    include_early: bool = False


def compare(runs: Sequence[Run], question: Question) -> list[Table]:
    """Returns the table of a comparison; with `columns` one for each metric.

    Raises:
        UsageError: A key, a metric, a filter or the baseline does not exist, or no run has finished.
    """
    runs, copies = without_copies(runs)
    selection = select(runs, question.where, question.include_early)
    configurations = fold_runs(selection.runs)
    baseline = _baseline(question.baseline, runs, configurations) if question.baseline else None
    metrics, left_out = _metrics(configurations, question.metrics)
    notes = _notes(selection, configurations, metrics, left_out)
    if copies:
        names = f"{counted(len(copies), 'run')} ({_names(copies)})"
        notes.append(f"counted once, though folders and --wandb name them more than once: {names}")
    if question.columns:
        if not question.metrics:
            raise UsageError(f"--columns shows one metric: name it with --metric, such as {', '.join(metrics)}")
        tables = _pivots(configurations, question, metrics, baseline)
    else:
        columns = [Column(metric, metric) for metric in metrics]
        keys, groups, told = _rows(configurations, question.rows)
        tables = [build(keys, groups, columns, baseline)]
        notes += told
    tables[-1].notes += notes
    return tables


def _rows(
    configurations: list[Configuration], asked: str | None
) -> tuple[list[str], list[tuple[list[Any], list[Configuration]]], list[str]]:
    """Returns the keys of the rows, for each row its values and configurations, and what is to be said.

    The rows are sorted by their values.
    """
    if asked:
        key = _key(configurations, asked, "--rows")
        return [key], _sorted(_by(configurations, key)), []
    keys, others = telling_keys(configurations)
    told = [f"keys that differ too, but are not needed to tell the rows apart: {', '.join(others)}"] if others else []
    keys = keys or ["model", "data"]
    return keys, _sorted([([c.keys.get(key) for key in keys], [c]) for c in configurations]), told


def _sorted(groups: list[tuple[list[Any], list[Configuration]]]) -> list[tuple[list[Any], list[Configuration]]]:
    return sorted(groups, key=lambda group: [sort_key(value) for value in group[0]])


def of_all_metrics(tables: Sequence[Table]) -> Table:
    """Returns the table of a comparison's configurations, a row for each, with all their metrics.

    The metrics of the comparison come first.
    """
    configurations = list(dict.fromkeys(c for row in tables[0].rows for c in row.configurations))
    own = [column.metric for table in tables for column in table.columns]
    logged = {metric for c in configurations for run in c.runs for metric in run.metrics if c.fold(metric)}
    others = [metric for split in SPLITS for metric in sorted(logged) if metric.startswith(split)]
    columns = [Column(metric, metric) for metric in dict.fromkeys([*own, *others])]
    keys, groups, _ = _rows(configurations, None)
    return build(keys, groups, columns, tables[0].baseline)


def _key(configurations: list[Configuration], asked: str, option: str) -> str:
    """Returns the key by which configurations are grouped.

    Raises:
        UsageError: There is no such key, or it is the seed.
    """
    if asked in (SEED, "seed"):
        raise UsageError(f"{option} {asked}: seeds are folded to a mean; choose another key, such as model")
    return find_key(set[str]().union(*(c.keys for c in configurations)), asked, option)


def _by(configurations: list[Configuration], key: str) -> list[tuple[list[Any], list[Configuration]]]:
    groups: dict[str, tuple[list[Any], list[Configuration]]] = {}
    for configuration in configurations:
        value = configuration.keys.get(key)
        groups.setdefault(str(value), ([value], []))[1].append(configuration)
    return list(groups.values())


def _pivots(
    configurations: list[Configuration], question: Question, metrics: list[str], baseline: Configuration | None
) -> list[Table]:
    across = _key(configurations, str(question.columns), "--columns")
    keys, groups, _ = _rows(configurations, question.rows or ("data" if across == "model" else "model"))
    values = sorted({str(v): v for c in configurations for v in [c.keys.get(across)]}.values(), key=sort_key)
    if len(values) > MAX_COLUMNS:
        raise UsageError(f"--columns {across} has {len(values)} values; choose a key with at most {MAX_COLUMNS}")
    tables = []
    for metric in metrics:
        columns = [Column(short_text(value), metric, _has(across, value)) for value in values]
        tables.append(build(keys, groups, columns, baseline, facts=False, title=f"{metric} by {across}"))
    return tables


def _has(key: str, value: Any) -> Any:
    return lambda configuration: str(configuration.keys.get(key)) == str(value)


def _metrics(configurations: list[Configuration], asked: list[str]) -> tuple[list[str], list[str]]:
    """Returns the metrics of the table, and those that are left out because no two configurations compare by them."""
    logged = _logged(configurations)
    for metric in asked:
        if metric not in logged:
            raise UsageError(f"--metric {metric}: no finished run has it{did_you_mean(metric, logged)}")
    if asked:
        return asked, []
    for split in SPLITS:
        metrics = sorted(m for m in logged if m.startswith(split) and any(c.fold(m) for c in configurations))
        if metrics:
            return (metrics, []) if len(configurations) == 1 else comparable_metrics(configurations, metrics)
    return [], []


def _logged(configurations: list[Configuration]) -> list[str]:
    found = dict.fromkeys(metric for c in configurations for run in c.runs for metric in run.metrics)
    return [metric for metric in found if metric.startswith(SPLITS)]


def _diverged(configuration: Configuration, metric: str) -> bool:
    """Returns whether the configuration logged the metric, but has no finite value of it."""
    return configuration.fold(metric) is None and any(metric in run.metrics for run in configuration.runs)


def _baseline(asked: str, runs: Sequence[Run], configurations: list[Configuration]) -> Configuration:
    """Returns the configuration of the run that is named by its folder, as experiment/run, or by its name alone."""
    named = [run for run in runs if run.folder is not None and run.folder.resolve() == Path(asked).resolve()]
    named = named or [run for run in runs if str(run) == asked] or [run for run in runs if run.name == asked]
    if len(named) > 1:
        same = len({str(run) for run in named}) < len(named)
        hint = "the folder of the run" if same else "EXPERIMENT/RUN"
        raise UsageError(f"--baseline {asked} may be {', '.join(map(str, named[:10]))}; give {hint}")
    if not named:
        hint = did_you_mean(asked, map(str, runs)) or "; give the folder of a run, or EXPERIMENT/RUN of a compared one"
        raise UsageError(f"--baseline {asked}: there is no such run{hint}")
    found = next((c for c in configurations if named[0] in c.runs), None)
    if found is None:
        why = "--where leaves it out" if named[0].state == FINISHED else f"its state is {named[0].state}"
        raise UsageError(f"--baseline {asked} is not compared: {why}")
    return found


def _notes(
    selection: Selection, configurations: list[Configuration], metrics: list[str], left_out: list[str]
) -> list[str]:
    notes = [] if metrics else ["these runs have no metric that compares; --metric NAME shows one all the same"]
    single = [metric for metric in left_out if sum(c.fold(metric) is not None for c in configurations) == 1]
    if single:
        notes.append(f"left out, as only one configuration has them: {', '.join(single)}")
    scopes: dict[str, list[str]] = {}
    for metric in left_out:
        if metric not in single:
            scopes.setdefault(metric_of(metric).scope.text, []).append(metric)
    notes += [f"left out, as no two configurations have {text}: {', '.join(names)}" for text, names in scopes.items()]
    if selection.left_out:
        parts = ", ".join(f"{len(runs)} {state} ({_names(runs)})" for state, runs in selection.left_out.items())
        notes.append(f"runs left out: {parts}")
    diverged = {name: sum(_diverged(c, name) for c in configurations) for name in metrics or _logged(configurations)}
    found = ", ".join(f"{name} ({counted(count, 'configuration')})" for name, count in diverged.items() if count)
    if found:
        notes.append(f"no finite value: {found}")
    repeated = sum(len(c.seeds) < len(c.runs) for c in configurations)
    if repeated:
        notes.append(f"runs of the same seed count as one, their mean ({counted(repeated, 'configuration')})")
    measured = [metric for metric in metrics if metric_of(metric).scope is CLASSIFIER]
    unknown = [
        run
        for run in selection.runs
        if str(run.facts.get("classifier", "")).endswith(UNRECORDED) and any(m in run.metrics for m in measured)
    ]
    if unknown:
        notes.append(
            f"the evaluation classifier of {counted(len(unknown), 'run')} is not recorded; the option"
            " --quality.classifier, or its default, stands for it"
        )
    return notes


def _names(runs: Sequence[Run]) -> str:
    more = f" and {len(runs) - MAX_NAMED_RUNS} more" if len(runs) > MAX_NAMED_RUNS else ""
    return ", ".join(map(str, runs[:MAX_NAMED_RUNS])) + more
