"""The definition of a sweep, as W&B specifies it: the parameters, the points of a grid, and the command of a point.

Source: W&B, "Sweep configuration options", https://docs.wandb.ai/models/sweeps/sweep-config-keys. Where that page says
nothing, the schema in https://github.com/wandb/sweeps applies to the file, and the agent of wandb 0.31 to the command.
"""

import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from genlab.runs.config import SEED, format_value, is_named, short_key, swept_keys
from genlab.sweep.distributions import Distribution

Point = dict[str, Any]
"""One combination of parameter values: dotted key -> value."""
Keys = tuple[str, ...]
"""The keys of nested blocks, from the outermost inwards."""

PROGRAM = "train.py"
LAUNCHER_MACROS = ("${env}", "${interpreter}", "${program}")
"""The macros at the start of a command."""
VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]+)\}")


@dataclass(frozen=True)
class Hyperband:
    """W&B's early_terminate: the rule by which runs are stopped early.

    Args:
        min_iter: The first bracket, at least 1. The next ones are min_iter * eta, min_iter * eta^2, ...
        max_iter: The last iteration, at least 1. It needs s, and takes precedence over min_iter if both are given.
        s: The number of brackets max_iter / eta, max_iter / eta^2, ..., at least 1.
        eta: A bracket lets the best 1/eta of the runs continue. Above 1.
        strict: Judge a run by its value at the bracket; otherwise by its best value so far, which stops fewer runs.
    """

    min_iter: int | None
    max_iter: int | None
    s: int | None
    eta: float = 3
    strict: bool = True


@dataclass(frozen=True)
class Definition:
    """One YAML file of sweeps/, including overrides. The path and the lines are ignored when two are compared.

    Args:
        path: The YAML file.
        name: Name of the sweep and of its folder below runs/.
        program: The Python file that runs.
        project: W&B project.
        entity: W&B entity.
        description: Free text.
        method: grid, random or bayes.
        metric: The metric that the sweep optimizes, such as test/mse.
        goal: minimize or maximize.
        target: No new runs are started once the metric of a run reaches this value.
        run_cap: The maximum number of runs, at least 1.
        repeats: How many runs each point of a random or Bayesian search has, with the seeds 0, 1, ...; None if the
            seed is as any parameter, as always in a grid. It is not a key of W&B's.
        early_terminate: The rule by which runs are stopped early, if any.
        distributions: The distribution of each parameter under its dotted key, in W&B's order.
        command: The arguments after ${program}, with ${args} or another macro in the place of the parameters.
        launcher: The command up to ${program}. Only W&B's agent uses it.
        paths: For each dotted key the keys of its nested blocks.
        lines: The lines of the parameters and of the top-level keys in the file.
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
    repeats: int | None
    early_terminate: Hyperband | None
    distributions: Mapping[str, Distribution]
    command: Sequence[str]
    launcher: Sequence[str] = LAUNCHER_MACROS
    paths: Mapping[str, Keys] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def values(self) -> dict[str, list[Any]]:
        """The choices of each parameter without duplicates; an empty list for a distribution without choices."""
        return {key: _distinct(distribution.choices or []) for key, distribution in self.distributions.items()}

    @property
    def swept(self) -> list[str]:
        """The short keys that the parameters with more than one value set."""
        values = self.values
        several = [key for key, of in self.distributions.items() if of.choices is None or len(values[key]) > 1]
        return [name for key in several for name in swept_keys(key, values[key])]

    @cached_property
    def in_names(self) -> list[str]:
        """The short keys in the names of the runs: those that differ between them, and those that an override set.

        A seed among the parameters is in the name, too, so that the name stays when more seeds are added. A path that
        an override set is not.
        """
        values = self.values
        overrides = (
            short_key(key)
            for key in self.distributions
            if key == SEED or (key not in self.lines and not any("/" in str(value) for value in values[key]))
        )
        return list(dict.fromkeys([*self.swept, *filter(is_named, overrides)]))

    def points(self) -> Iterator[Point]:
        """Yields each point of the grid once, in W&B's order: the last parameter varies fastest.

        Raises:
            TypeError: The method is not grid.
        """
        self._require_grid()
        for combination in itertools.product(*self.values.values()):
            yield dict(zip(self.distributions, combination, strict=True))

    def __len__(self) -> int:
        """Returns the number of points of the grid.

        Raises:
            TypeError: The method is not grid.
        """
        self._require_grid()
        return math.prod(len(values) for values in self.values.values())

    def _require_grid(self) -> None:
        if self.method != "grid":
            raise TypeError(f"the method of {self.name} is {self.method}; only a grid has a list of points")

    def draw(self, quantiles: Mapping[str, float]) -> Point:
        """Returns the point at the given quantile, in [0, 1), of each parameter that is not constant.

        Raises:
            KeyError: A parameter has no quantile.
        """
        return {
            key: distribution.quantile(0 if distribution.constant else quantiles[key])
            for key, distribution in self.distributions.items()
        }

    def arguments(self, point: Point) -> list[str]:
        """Returns the arguments of the program for one point, as W&B's agent passes them.

        Options are in alphabetical order, and a nested block is one option.
        """
        return command_arguments(self.command, self._nested(point))

    def record(self) -> dict[str, Any]:
        """Returns what identifies the sweep, as plain JSON. Definitions with equal records share one queue of runs."""
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
            **({} if self.repeats is None else {"repeats": self.repeats}),
        }

    def line(self, key: str) -> int | None:
        """Returns the line of a parameter (by its dotted key) or a top-level key in the file; None for an override."""
        return self.lines.get(key)

    def to_yaml(self) -> str:
        """Returns the definition with its overrides as YAML, which W&B and `load_definition` read."""
        early = None
        if self.early_terminate is not None:
            early = {"type": "hyperband", **_without_none(asdict(self.early_terminate))}
        entries = {
            **{key: getattr(self, key) for key in ("name", "description", "project", "entity", "program")},
            "method": self.method,
            "metric": _without_none({"name": self.metric, "goal": self.goal, "target": self.target}),
            "run_cap": self.run_cap,
            "repeats": self.repeats,
            "early_terminate": early,
            "parameters": self._block(()),
            "command": [*self.launcher, *self.command],
        }
        return yaml.safe_dump(_without_none(entries), sort_keys=False, allow_unicode=True)

    def _path(self, key: str) -> Keys:
        return self.paths.get(key, (key,))

    def _nested(self, point: Point) -> dict[str, Any]:
        """Returns the sorted point with nested blocks as dicts, as W&B passes it."""
        options: dict[str, Any] = {}
        for key in sorted(point, key=self._path):
            *outer, last = self._path(key)
            block = options
            for name in outer:
                block = block.setdefault(name, {})
            block[last] = point[key]
        return options

    def _block(self, outer: Keys) -> dict[str, Any]:
        """Returns one block of parameters as it is written in YAML."""
        depth = len(outer)
        block: dict[str, Any] = {}
        for key, distribution in self.distributions.items():
            path = self._path(key)
            if path[:depth] != outer or (self.repeats is not None and key == SEED):
                continue
            named = {} if distribution.kind in ("constant", "categorical") else {"distribution": distribution.kind}
            leaf = len(path) == depth + 1
            block[path[depth]] = (
                {**named, **distribution.settings} if leaf else {"parameters": self._block(path[: depth + 1])}
            )
        return block


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns the changes between two records, one readable line each; an empty list for the same sweep."""
    lines = []
    before, after = old.get("parameters", {}), new.get("parameters", {})
    for key in sorted({*before, *after}):
        if key not in before or key not in after:
            change, distribution = ("was added", after[key]) if key in after else ("was removed", before[key])
            settings = ", ".join(f"{name} {as_text(value)}" for name, value in distribution.items())
            lines.append(f"parameters.{key} {change} ({settings})")
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
    pairs = [
        (key, as_text(old.get(key, missing)), as_text(new.get(key, missing))) for key in dict.fromkeys([*old, *new])
    ]
    return [f"{key} changed from {before} to {after}" for key, before, after in pairs if before != after]


def as_text(value: Any) -> str:
    """Returns a text as it is, and any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _without_none(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if value is not None}


def _distinct(values: Sequence[Any]) -> list[Any]:
    """Removes duplicates and keeps the first of each. 3.0 equals 3, but True does not equal 1."""
    found: dict[str, Any] = {}
    for value in values:
        same = int(value) if isinstance(value, float) and value.is_integer() else value
        found.setdefault(json.dumps(same, sort_keys=True), value)
    return list(found.values())


def command_arguments(command: Sequence[Any], options: Mapping[str, Any]) -> list[str]:
    """Expands the macros of a command after ${program}, as W&B's agent does.

    None becomes `null`, which jsonargparse reads, not `None`, also inside a nested block. An environment variable that
    is not set is replaced by its name, as in W&B; the parser reports it as an error.

    Args:
        command: The words of the command.
        options: The parameters of a point; a nested block is a dict.
    """
    words: list[str] = []
    for item in map(str, command):
        words += ARGUMENT_MACROS[item](options) if item in ARGUMENT_MACROS else [_expand_variables(item)]
    return words


def _flags(options: Mapping[str, Any], prefix: str = "--") -> list[str]:
    return [f"{prefix}{key}={format_value(value)}" for key, value in options.items()]


def _flags_without_booleans(options: Mapping[str, Any]) -> list[str]:
    """True becomes a flag without a value, and False is left out."""
    kept = {key: value for key, value in options.items() if value is not False}
    return [f"--{key}" if value is True else f"--{key}={format_value(value)}" for key, value in kept.items()]


def _flags_without_equals(options: Mapping[str, Any]) -> list[str]:
    return [word for key, value in options.items() for word in (f"--{key}", format_value(value))]


WITHOUT_BOOLEANS = "${args_no_boolean_flags}"
ARGUMENT_MACROS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "${args}": _flags,
    "${args_no_hyphens}": lambda options: _flags(options, ""),
    WITHOUT_BOOLEANS: _flags_without_booleans,
    "${args_no_equals}": _flags_without_equals,
    "${args_json}": lambda options: [json.dumps(options)],
    "${args_append_hydra}": lambda options: _flags(options, "+"),
    "${args_override_hydra}": lambda options: _flags(options, "++"),
}
"""The macros that stand for the parameters of a point in a command."""


def refuse_booleans(command: Sequence[Any], program: str, values: Mapping[str, Sequence[Any]]) -> str | None:
    """Returns why `${args_no_boolean_flags}` cannot be used; None where it can or is not used.

    Args:
        command: The words of the command.
        program: The program of the sweep. A program other than train.py may take flags without values.
        values: The values of each parameter.
    """
    keys = [key for key, listed in values.items() if any(isinstance(value, bool) for value in listed)]
    if WITHOUT_BOOLEANS not in command or not keys or Path(program).name != PROGRAM:
        return None
    return f"{WITHOUT_BOOLEANS} passes true without a value and leaves out false ({', '.join(keys)}); use ${{args}}"


def _expand_variables(item: str) -> str:
    return VARIABLE.sub(lambda found: os.environ.get(found[1], found[1]), item)
