"""A sweep as W&B defines it in YAML: what is varied, and the command that runs one point."""

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UsageError

Point = dict[str, Any]


@dataclass(frozen=True)
class Definition:
    """One file of sweeps/.

    Args:
        name: of the sweep, and of the folder below runs/.
        metric: what the sweep is about, such as test/mse.
        goal: minimize or maximize.
        values: for each parameter, in the file's order, its values.
        command: the arguments of train.py, with ${args} where a point's own go.
    """

    name: str
    metric: str
    goal: str
    values: Mapping[str, Sequence[Any]]
    command: Sequence[str]

    def points(self) -> Iterator[Point]:
        """The whole grid, the last parameter fastest."""
        for combination in itertools.product(*self.values.values()):
            yield dict(zip(self.values, combination, strict=True))

    def __len__(self) -> int:
        count = 1
        for values in self.values.values():
            count *= len(values)
        return count

    def arguments(self, point: Point) -> list[str]:
        """train.py's arguments for one point, in alphabetical order as W&B's agent gives them."""
        own = [f"--{key}={'null' if point[key] is None else point[key]}" for key in sorted(point)]
        return [word for item in self.command for word in (own if item == "${args}" else [_expand(item)])]


def load_definition(path: Path, overrides: Sequence[str] = ()) -> Definition:
    """Reads a sweep's YAML; each override `key=value,value` sets or adds a parameter's values.

    Raises:
        UsageError: the file is not there, is no YAML, or is not a grid over train.py.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the sweep {path} ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is no valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(raw, dict):
        raise UsageError(f"{path} holds no sweep: it must map method, metric, parameters and command")
    for key in ("method", "metric", "parameters", "command"):
        if not raw.get(key):
            raise UsageError(f"{path} has no {key}")
    if not isinstance(raw["metric"], dict) or not raw["metric"].get("name"):
        raise UsageError(f"{path}: metric must have a name, such as test/mse, and a goal")
    if not isinstance(raw["parameters"], dict) or not isinstance(raw["command"], list):
        raise UsageError(f"{path}: parameters must map each key to its values, and command must be a list")
    if raw["method"] != "grid":
        raise UsageError(f"{path}: method {raw['method']} is not offered yet without a server; use grid")
    values = {str(key): _values(path, key, spec) for key, spec in raw["parameters"].items()}
    values |= dict(_override(text) for text in overrides)
    command = [str(item) for item in raw["command"]]
    if "${program}" not in command or "${args}" not in command:
        raise UsageError(f"{path}: command must hold ${{program}} and ${{args}}")
    metric = raw["metric"]
    return Definition(
        name=str(raw.get("name") or path.stem),
        metric=str(metric.get("name")),
        goal=str(metric.get("goal", "minimize")),
        values=values,
        command=command[command.index("${program}") + 1 :],
    )


def _values(path: Path, key: str, spec: Any) -> list[Any]:
    if isinstance(spec, dict) and "value" in spec:
        return [spec["value"]]
    if isinstance(spec, dict) and isinstance(spec.get("values"), list) and spec["values"]:
        return list(spec["values"])
    raise UsageError(f"{path}: parameter {key} needs a value or a list of values to be part of a grid")


def _override(text: str) -> tuple[str, list[Any]]:
    key, equals, listed = text.partition("=")
    if not key or not equals:
        raise UsageError(f"override {text!r} is not of the form key=value or key=value,value")
    try:
        values = yaml.safe_load(f"[{listed}]")
    except yaml.YAMLError:
        values = None
    if not values:
        raise UsageError(f"override {text!r} gives no values that can be read; write key=value,value")
    return key, values


def _expand(item: str) -> str:
    """${envvar:NAME} as W&B's agent expands it; the other macros do not occur after the program."""
    return re.sub(r"\$\{envvar:(\w+)\}", lambda found: os.environ.get(found[1], ""), item)
