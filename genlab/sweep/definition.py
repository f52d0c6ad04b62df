"""A sweep as W&B defines it in YAML, read and checked without a server: what is varied, and the command of a point.

Source: W&B, "Sweep configuration options", https://docs.wandb.ai/models/sweeps/sweep-config-keys. Where that page is
silent, the schema in https://github.com/wandb/sweeps holds for the file, and wandb 0.31's agent for the command.
"""

import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from genlab.sweep.distributions import Distribution

Point = dict[str, Any]
"""Flat key -> value."""
Keys = tuple[str, ...]
"""From the outermost block inwards."""

PROGRAM = "train.py"
STARTERS = ("${env}", "${interpreter}", "${program}")
"""How a command begins."""
VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]+)\}")


@dataclass(frozen=True)
class Hyperband:
    """W&B's early_terminate: which runs are stopped before their end.

    Args:
        min_iter: the first bracket, at least 1; the next ones lie at min_iter * eta, min_iter * eta^2, ...
        max_iter: the last iteration, at least 1, given with s; it goes before min_iter when both are given.
        s: the number of brackets max_iter / eta, max_iter / eta^2, ..., at least 1.
        eta: above 1; a bracket lets the best 1/eta of the runs go on.
        strict: follows the original paper more closely and stops more runs.
    """

    min_iter: int | None
    max_iter: int | None
    s: int | None
    eta: float = 3
    strict: bool = False


@dataclass(frozen=True)
class Definition:
    """One file of sweeps/, overrides included. Two are equal when they say the same, wherever they were read.

    Args:
        name: of the sweep, and of the folder below runs/.
        method: grid, random or bayes.
        metric: what the sweep is about, such as test/mse.
        goal: minimize or maximize.
        target: the sweep may end when a run's metric reaches it.
        run_cap: the most runs, at least 1.
        distributions: of every leaf parameter under its flat key (nested blocks joined by "."), in W&B's order.
        command: the arguments after ${program}, with ${args} or another macro where a point's own go.
        launcher: the command up to ${program}; W&B's agent alone uses it.
        paths: for each flat key the keys of its blocks and its own.
        lines: where the parameters and the top-level keys stand in the file.
    """

    path: Path = field(compare=False)
    name: str
    program: str
    project: str | None
    entity: str | None
    description: str | None
    method: str
    metric: str
    goal: str
    target: float | None
    run_cap: int | None
    early_terminate: Hyperband | None
    distributions: Mapping[str, Distribution]
    command: Sequence[str]
    launcher: Sequence[str] = STARTERS
    paths: Mapping[str, Keys] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def values(self) -> dict[str, list[Any]]:
        """Each parameter's choices, equal ones once; none for a distribution without choices."""
        return {key: _distinct(distribution.choices or []) for key, distribution in self.distributions.items()}

    def points(self) -> Iterator[Point]:
        """The grid in W&B's order: the last parameter fastest, every point once.

        Raises:
            TypeError: the method is no grid.
        """
        self._need_grid()
        for combination in itertools.product(*self.values.values()):
            yield dict(zip(self.distributions, combination, strict=True))

    def __len__(self) -> int:
        """Points of the grid.

        Raises:
            TypeError: the method is no grid.
        """
        self._need_grid()
        return math.prod(len(values) for values in self.values.values())

    def _need_grid(self) -> None:
        if self.method != "grid":
            raise TypeError(f"{self.name} draws its points by {self.method}; only a grid has a size")

    def draw(self, quantiles: Mapping[str, float]) -> Point:
        """The point at a quantile in [0, 1) of each parameter that is not constant.

        Raises:
            KeyError: a parameter has no quantile.
        """
        return {
            key: distribution.quantile(0 if distribution.constant else quantiles[key])
            for key, distribution in self.distributions.items()
        }

    def arguments(self, point: Point) -> list[str]:
        """train.py's arguments for one point, as W&B's agent gives them.

        Options come in alphabetical order, a nested block as one option. None is `null`, which jsonargparse reads,
        not `None`. An environment variable that is not set gives its name, as W&B has it; loading refuses it.
        """
        options = self._nested(point)
        words: list[str] = []
        for item in self.command:
            words += MACROS[item](options) if item in MACROS else [_expand(item)]
        return words

    def record(self) -> dict[str, Any]:
        """What decides which sweep this is, as plain JSON."""
        return {
            "method": self.method,
            "metric": self.metric,
            "goal": self.goal,
            "program": self.program,
            "command": list(self.command),
            "parameters": {
                key: {"distribution": distribution.kind, **distribution.settings}
                for key, distribution in self.distributions.items()
            },
            "early_terminate": None if self.early_terminate is None else asdict(self.early_terminate),
        }

    def line(self, key: str) -> int | None:
        """Where a parameter (by its flat key) or a top-level key stands in the file; None for an override."""
        return self.lines.get(key)

    def to_yaml(self) -> str:
        """The definition with its overrides as a file that W&B takes and `load_definition` reads back equal."""
        early = None
        if self.early_terminate is not None:
            early = {"type": "hyperband", **_given(asdict(self.early_terminate))}
        entries = {
            **{key: getattr(self, key) for key in ("name", "description", "project", "entity", "program")},
            "method": self.method,
            "metric": _given({"name": self.metric, "goal": self.goal, "target": self.target}),
            "run_cap": self.run_cap,
            "early_terminate": early,
            "parameters": self._block(()),
            "command": [*self.launcher, *self.command],
        }
        return yaml.safe_dump(_given(entries), sort_keys=False, allow_unicode=True)

    def _path(self, key: str) -> Keys:
        return self.paths.get(key, (key,))

    def _nested(self, point: Point) -> dict[str, Any]:
        """The point as W&B hands it over, sorted: nested blocks are dicts."""
        options: dict[str, Any] = {}
        for key in sorted(point, key=self._path):
            *outer, last = self._path(key)
            block = options
            for name in outer:
                block = block.setdefault(name, {})
            block[last] = point[key]
        return options

    def _block(self, above: Keys) -> dict[str, Any]:
        """One block of parameters as it stands in YAML."""
        depth = len(above)
        block: dict[str, Any] = {}
        for key, distribution in self.distributions.items():
            path = self._path(key)
            if path[:depth] != above:
                continue
            named = {} if distribution.kind in ("constant", "categorical") else {"distribution": distribution.kind}
            leaf = len(path) == depth + 1
            block[path[depth]] = (
                {**named, **distribution.settings} if leaf else {"parameters": self._block(path[: depth + 1])}
            )
        return block


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed between two records, one readable line each; empty when they are the same sweep."""
    lines = []
    before, after = old.get("parameters", {}), new.get("parameters", {})
    for key in sorted({*before, *after}):
        if key not in before or key not in after:
            change, distribution = ("was added", after[key]) if key in after else ("was removed", before[key])
            lines.append(
                f"parameters.{key} {change} ({', '.join(f'{name} {shown(distribution[name])}' for name in distribution)})"
            )
        else:
            lines += [f"parameters.{key}: {change}" for change in _changes(before[key], after[key])]
    return _changes(_outside_parameters(old), _outside_parameters(new)) + lines


def _outside_parameters(record: Mapping[str, Any]) -> dict[str, Any]:
    nested = ("parameters", "early_terminate")
    early = record.get("early_terminate") or {}
    return {key: value for key, value in record.items() if key not in nested} | {
        f"early_terminate.{key}": value for key, value in early.items()
    }


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    missing = "nothing"
    pairs = [(key, shown(old.get(key, missing)), shown(new.get(key, missing))) for key in dict.fromkeys([*old, *new])]
    return [f"{key} {before} became {after}" for key, before, after in pairs if before != after]


def shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _given(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if value is not None}


def _distinct(values: Sequence[Any]) -> list[Any]:
    """Each value once, where it stands first; 3.0 is 3, but True is not 1."""
    found: dict[str, Any] = {}
    for value in values:
        same = int(value) if isinstance(value, float) and value.is_integer() else value
        found.setdefault(json.dumps(same, sort_keys=True), value)
    return list(found.values())


def _flags(options: Mapping[str, Any], prefix: str = "--") -> list[str]:
    return [f"{prefix}{key}={_printed(value)}" for key, value in options.items()]


def _flags_without_booleans(options: Mapping[str, Any]) -> list[str]:
    """True is a bare flag and False no flag."""
    kept = {key: value for key, value in options.items() if value is not False}
    return [f"--{key}" if value is True else f"--{key}={_printed(value)}" for key, value in kept.items()]


def _flags_without_equals(options: Mapping[str, Any]) -> list[str]:
    return [word for key, value in options.items() for word in (f"--{key}", _printed(value))]


MACROS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "${args}": _flags,
    "${args_no_hyphens}": lambda options: _flags(options, ""),
    "${args_no_boolean_flags}": _flags_without_booleans,
    "${args_no_equals}": _flags_without_equals,
    "${args_json}": lambda options: [json.dumps(options)],
}
"""What stands in a command for a point's own arguments."""


def _printed(value: Any) -> str:
    """str() as W&B prints it, unless train.py would read that as something else: None, and lists or dicts with it."""
    if value is None:
        return "null"
    text = str(value)
    if not isinstance(value, list | dict) or _reads_back(text, value):
        return text
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf).strip()


def _reads_back(text: str, value: Any) -> bool:
    try:
        return bool(yaml.safe_load(text) == value)
    except yaml.YAMLError:
        return False


def _expand(item: str) -> str:
    return VARIABLE.sub(lambda found: os.environ.get(found[1], found[1]), item)
