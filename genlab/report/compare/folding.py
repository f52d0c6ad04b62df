"""Folds the runs of a configuration, which differ in their seeds only, to means and deviations."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

from genlab.report.compare.comparability import Key, Scope, metric_of, scope_key
from genlab.report.compare.runs import Run, short_text
from genlab.runs.config import SEED, UNNAMED_OPTIONS
from genlab.runs.short_names import short_labels

FINGERPRINTS = ("data_fingerprint", "classifier")
EXPERIMENT = "experiment"
FIRST_KEYS = ("model", "data")
LAST_KEYS = (*FINGERPRINTS, EXPERIMENT)
KEY_GROUPS = ("model", "data", "trainer")
"""The order of groups of keys in a table."""


@dataclass(frozen=True)
class Fold:
    """The values of a metric over the seeds of a configuration.

    Args:
        values: One finite value for each seed.
        seeds: Number of seeds, of which some may have no finite value.
    """

    values: tuple[float, ...]
    seeds: int

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """The standard deviation over the seeds, by n - 1; None for one seed."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True, eq=False)
class Configuration:
    """The runs that differ in their seeds only.

    Args:
        runs: The runs; at least one.
    """

    runs: tuple[Run, ...]
    _groups: dict[tuple[Scope, str], Key] = field(default_factory=dict)

    @cached_property
    def keys(self) -> dict[str, Any]:
        """The config without the seed and without what depends on the machine, the fingerprints and the experiment."""
        return identity(self.runs[0])

    @cached_property
    def seeds(self) -> list[list[Run]]:
        """The runs of each seed; a run that records no seed counts as one."""
        found: dict[Any, list[Run]] = defaultdict(list)
        for index, run in enumerate(self.runs):
            found[run.config.get(SEED, f"run {index}")].append(run)
        return list(found.values())

    def fold(self, metric: str) -> Fold | None:
        """Folds a metric. Repeated runs of one seed count as one value, their mean. None without a finite value."""
        values = []
        for runs in self.seeds:
            finite = [run.metrics[metric] for run in runs if math.isfinite(run.metrics.get(metric, math.nan))]
            if finite:
                values.append(fmean(finite))
        return Fold(tuple(values), len(self.seeds)) if values else None

    def group(self, metric: str) -> Key:
        """Returns what another configuration must have in common for their values of a metric to be compared."""
        scope, split = metric_of(metric).scope, metric.partition("/")[0]
        if (scope, split) not in self._groups:
            key = scope_key(scope, split, self.runs[0].config, self.runs[0].facts)
            self._groups[scope, split] = (scope.name, *key)
        return self._groups[scope, split]

    def fact(self, name: str) -> Any:
        """Returns the mean of a number over the runs, or the distinct texts; None if no run recorded it."""
        return mean_or_texts([run.facts[name] for run in self.runs if run.facts.get(name) is not None])


def mean_or_texts(values: Sequence[Any]) -> Any:
    """Returns the mean of numbers, or else the distinct texts; None without values."""
    if values and all(isinstance(value, int | float) for value in values):
        return fmean(values)
    return " / ".join(dict.fromkeys(map(str, values))) or None


def identity(run: Run) -> dict[str, Any]:
    """Returns the keys by which runs are folded: runs with the same values are one configuration."""
    config = {key: value for key, value in run.config.items() if key != SEED and not _depends_on_machine(key)}
    return config | {name: run.facts.get(name) for name in FINGERPRINTS} | {EXPERIMENT: run.experiment}


def fold_runs(runs: Iterable[Run]) -> list[Configuration]:
    """Returns the configurations, in the order of their first runs. An option that is None counts as left out."""
    groups: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        given = ((key, str(value)) for key, value in identity(run).items() if value is not None)
        groups[tuple(sorted(given))].append(run)
    return [Configuration(tuple(group)) for group in groups.values()]


def label_of(keys: Sequence[str], values: Sequence[Any]) -> str:
    """Names a row: a class or an experiment alone, another value with the last word of its key."""
    alone = (*FIRST_KEYS, EXPERIMENT)
    labels = short_labels(keys)
    pairs = [(key, short_text(value)) for key, value in zip(keys, values, strict=True)]
    return ", ".join(text if key in alone else f"{labels[key]} {text}" for key, text in pairs)


def varying_keys(configurations: Sequence[Configuration]) -> list[str]:
    """Returns the keys that are not the same in all configurations, model and data first."""
    names = {key for configuration in configurations for key in configuration.keys}
    varying = [key for key in names if len({str(c.keys.get(key)) for c in configurations}) > 1]
    return sorted(varying, key=_key_order)


def telling_keys(configurations: Sequence[Configuration]) -> tuple[list[str], list[str]]:
    """Returns the keys that tell configurations apart, and those that differ too but tell no more.

    A key is in the first list if it divides a group of configurations that the keys before it do not. The second list
    has only keys that all configurations have.
    """
    groups = [0] * len(configurations)
    telling, others = [], []
    for key in varying_keys(configurations):
        texts = [str(configuration.keys.get(key)) for configuration in configurations]
        numbers: dict[Any, int] = {}
        finer = [numbers.setdefault(pair, len(numbers)) for pair in zip(groups, texts, strict=True)]
        if len(numbers) > len(set(groups)):
            telling.append(key)
            groups = finer
        elif key not in LAST_KEYS and all(key in configuration.keys for configuration in configurations):
            others.append(key)
    return telling, others


def _depends_on_machine(key: str) -> bool:
    return key.startswith(UNNAMED_OPTIONS) or key.endswith(".classifier")  # whose fingerprint counts


def _key_order(key: str) -> tuple[int, int, str]:
    if key in FIRST_KEYS:
        return 0, FIRST_KEYS.index(key), key
    if key in LAST_KEYS:
        return 2, LAST_KEYS.index(key), key
    group = key.partition(".")[0]
    return 1, KEY_GROUPS.index(group) if group in KEY_GROUPS else len(KEY_GROUPS), key
